"""A service's file with the line of each mistake, and the state that keeps changes."""

import json
import os
import stat

import pytest

from edgecar.errors import SettingsError
from edgecar.serve.config import StateFile, line_of, load_settings
from edgecar.serve.settings import CameraSettings

GOOD = """
[server]
folders = ["clips"]

[[camera]]
name = "gate"
source = "rtsp://admin:secret@10.0.0.5/main"
network = "edgecar-m"

[[camera]]
name = "yard"
source = 0
[camera.record]
folder = "recordings"
keep_hours = 24
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "cameras.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_is_read_and_its_paths_are_relative_to_it(written, tmp_path):
    settings = load_settings(written(GOOD))
    gate, yard = settings.camera
    assert gate.networks == ("edgecar-m", "edgecar-s", "edgecar-xs", "pass")
    assert yard.source == "0"
    assert yard.record.folder == tmp_path / "recordings"
    assert settings.server.folders == (tmp_path / "clips",)
    assert settings.state == tmp_path / "edgecar-state.json"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("network =", "netwrok =", 8, "no such setting"),
        ('name = "yard"', 'name = "a b"', 11, "name: use letters, digits"),
        ("keep_hours = 24", "keep_hours = -1", 15, "greater than 0"),
        ("source = 0", 'source = "concat://a|b"', 12, "concat"),
        ('[[camera]]\nname = "yard"\n', "[[camera]]\n", 10, "is missing"),
        ('name = "yard"', 'name = "gate"', 1, "two cameras are called gate"),
        ("keep_hours = 24", "keep_hours = [1", 17, "not TOML"),
        ("[server]", "[server]\nhost = '0.0.0.0'", 2, "no token"),
        ("[camera.record]", "[camera.recrod]", 13, "no such setting"),
    ],
)
def test_a_mistake_is_named_with_its_line(written, old, new, line, words):
    assert old in GOOD
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(written(GOOD.replace(old, new)))
    message = str(caught.value)
    assert f":{line}:" in message or f"line {line}" in message or "TOML" in message
    assert "secret" not in message


def test_lines_of_nested_and_dotted_keys():
    text = "a.b = 1\n[x.y]\nz = 2\n[[c]]\n[c.d]\n[[c]]\n[c.d]\ne = 3\n"
    assert line_of(text, ("a", "b")) == 1
    assert line_of(text, ("x", "y", "z")) == 3
    assert line_of(text, ("c", 0, "d", "e")) == 5
    assert line_of(text, ("c", 1, "d", "e")) == 8
    assert line_of(text, ("nothing",)) == 1


def test_the_token_comes_from_the_environment_or_a_file(written, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("from-a-file-0123456789\n")
    from_file = load_settings(written("[server]\ntoken_file = 'token'\nhost = '0.0.0.0'\n"))
    assert from_file.server.token.get_secret_value() == "from-a-file-0123456789"
    monkeypatch.setenv("EDGECAR_TOKEN", "from-the-environment")
    from_environment = load_settings(written("[server]\nhost = '0.0.0.0'\n"))
    assert from_environment.server.token.get_secret_value() == "from-the-environment"
    assert "from-the-environment" not in repr(from_environment)


def test_a_missing_file_or_a_short_token_is_refused_and_not_shown(written, tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml")
    (tmp_path / "token").write_text("hunter2")
    with pytest.raises(SettingsError, match=r"token: .* at least 16 .*, not 7") as caught:
        load_settings(written("[server]\ntoken_file = 'token'\n"))
    assert "hunter2" not in str(caught.value)


def test_an_open_address_on_the_command_line_needs_a_token_too(written):
    assert load_settings(written(GOOD), port=9000).server.port == 9000
    with pytest.raises(SettingsError, match="no token"):
        load_settings(written(GOOD), host="0.0.0.0")


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
        ("[]", "should be an object"),
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
