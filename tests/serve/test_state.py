"""The file that keeps what was changed: whole, private, and read with care."""

import json
import os
import stat

import pytest

from edgecar.errors import SettingsError
from edgecar.serve.config import StateFile
from edgecar.serve.settings import CameraSettings

GATE = CameraSettings(name="gate", source="rtsp://u:hunter22@127.0.0.1:9/x")


def test_what_was_noted_is_there_again_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "made" / "state.json"
    state = StateFile(path)
    assert state.load({"yard": CameraSettings(name="yard", source="0")}).keys() == {"yard"}
    state.note("gate", GATE)
    state.note("yard", None)
    mask = os.umask(0)
    try:
        state.note("gate", GATE.model_copy(update={"priority": 3}))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = StateFile(path).load({"yard": CameraSettings(name="yard", source="0")})
    assert again == {"gate": GATE.model_copy(update={"priority": 3})}
    assert [each.name for each in path.parent.iterdir()] == ["state.json"]  # no rest of a writing


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "other").write_text('{"version": 1, "cameras": {}}')
    (tmp_path / "state.json").symlink_to(tmp_path / "other")
    state = StateFile(tmp_path / "state.json")
    state.load({})
    state.note("gate", GATE)
    assert not (tmp_path / "state.json").is_symlink()
    assert "hunter22" not in (tmp_path / "other").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("[]", "valid dictionary"),
        ('{"version": 2, "cameras": {}}', "version: "),
        ('{"version": 1}', "cameras: is missing"),
        ('{"version": 1, "cameras": []}', "cameras: "),
        ('{"version": 1, "cameras": {"gate": 5}}', "cameras.gate: "),
        ('{"version": 1, "cameras": {"gate": {"name": "gate"}}}', "source: is missing"),
        ('{"version": 1, "cameras": {"a": {"name": "b", "source": "0"}}}', "name is another"),
        ('{"version": 1, "cameras": {"../a": {"name": "../a", "source": "0"}}}', "use letters"),
        (
            '{"version": 1, "cameras": {"a": {"name": "a", "source": "concat:x"}, "b": 5}}',
            "cameras.b: ",
        ),
        ("[" * 100_000, "cannot be read"),
        ("\udcff", "cannot be read"),
    ],
)
def test_what_is_no_state_is_refused_in_a_line(tmp_path, text, words):
    path = tmp_path / "state.json"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(SettingsError, match=words) as caught:
        StateFile(path).load({})
    assert "\n" not in str(caught.value)
    assert path.read_text(errors="surrogateescape") == text


def test_a_removed_camera_stays_removed(tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"version": 1, "cameras": {"gate": None}}))
    assert StateFile(path).load({"gate": GATE}) == {}
