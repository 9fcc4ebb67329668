"""The files to run a service by: complete, valid, and what their page says of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from edgecar.files import table_from_toml
from edgecar.serve.api import application
from edgecar.serve.config import load_settings
from edgecar.serve.settings import (
    CameraSettings,
    EngineChoice,
    Publish,
    Push,
    Record,
    Server,
    Video,
)
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture
from tests.serve.test_outputs import Publishing

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "engines" / "service"
EXAMPLE = FOLDER / "cameras.toml"
README = (FOLDER / "README.md").read_text()
SETTING = re.compile(r"^#(?=[a-z_]+ = |\[)", re.MULTILINE)
"""What makes a comment of a setting; words have a space after the sign."""
END_SECONDS = 5
"""What a service needs at most to end."""


def with_all(text: str) -> str:
    """The example with every setting made, but for the second of two that exclude each other."""
    return SETTING.sub("", re.sub(r"^#token_file.*\n", "", text, flags=re.MULTILINE))


def test_the_example_is_right_and_has_every_setting_there_is(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGECAR_TOKEN", raising=False)
    settings = load_settings(EXAMPLE)
    assert [camera.name for camera in settings.camera] == ["gate", "yard"]
    assert settings.server == Server()
    assert settings.camera[0].networks == ("edgecar-s", "edgecar-xs", "pass")
    path = tmp_path / "cameras.toml"
    path.write_text(with_all(EXAMPLE.read_text()))
    assert load_settings(path).camera[0].record.folder == tmp_path / "recordings"
    table = table_from_toml(path)
    gate = table["camera"][0]
    tables: list[tuple[dict, type[BaseModel]]] = [
        (table["server"] | {"token_file": ""}, Server),
        (table["engine"], EngineChoice),
        (table["publish"], Publish),
        (gate, CameraSettings),
        (gate["video"], Video),
        (gate["record"], Record),
        (gate["push"], Push),
    ]
    for made, model in tables:
        assert made.keys() == model.model_fields.keys()
    assert "#token_file = " in EXAMPLE.read_text()
    assert table.keys() == {"state", "server", "engine", "publish", "camera"}


def test_it_is_printed_to_start_from(edgecar):  # noqa: F811
    assert edgecar("serve", "--example").out == EXAMPLE.read_text()
    done = edgecar("serve")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "edgecar serve --example > cameras.toml" in done.err


def test_the_page_tells_the_whole_api(make_service):
    paths = application(make_service()).app.openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", README, re.MULTILINE)) == there


def test_the_pages_consumer_gets_frames(free_port):
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (FOLDER / link).exists(), link
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown, used = "tcp://127.0.0.1:8322", f"tcp://127.0.0.1:{free_port}"
    assert shown in code
    assert shown in EXAMPLE.read_text()
    seen = []

    def say(*words):
        seen.append(words[0])
        raise StopIteration

    with Publishing(Publish(address=used)), pytest.raises(StopIteration):
        names = {"detect": lambda bgr: seen.append(bgr.shape), "print": say}
        exec(code.replace(shown, used), names)
    assert seen == [(48, 64, 3), "gate"]


def unit() -> dict[str, list[str]]:
    """Settings of the unit, each with all its values."""
    settings: dict[str, list[str]] = {}
    for line in (FOLDER / "edgecar.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


def test_the_unit_gives_time_to_end_and_few_rights(tmp_path):
    made = unit()
    assert END_SECONDS < int(made["TimeoutStopSec"][0]) <= END_SECONDS + 2
    wanted = {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
        "DynamicUser": "yes", "StateDirectory": "edgecar", "PrivateTmp": "yes",
        "Restart": "on-failure", "KillSignal": "SIGTERM", "KillMode": "mixed",
        "CapabilityBoundingSet": "", "EnvironmentFile": "-/etc/edgecar/environment",
    }  # fmt: skip
    assert {key: made[key] for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert "MemoryMax" not in made
    program, *words = made["ExecStart"][0].split()
    assert words == ["serve", "${CREDENTIALS_DIRECTORY}/cameras.toml", "--log-json"]
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "edgecar.service"
    text = (FOLDER / "edgecar.service").read_text()
    path.write_text(text.replace(program, shutil.which("true")))  # the program must exist
    done = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False
    )
    # It also complains of the units of this machine.
    assert [line for line in done.stderr.splitlines() if "edgecar" in line] == []


def test_the_container_has_few_rights_and_is_open_to_this_machine_alone():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    table = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    service = table["services"]["edgecar"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ports"] == ["127.0.0.1:8321:8321"]
    assert END_SECONDS < int(service["stop_grace_period"].removesuffix("s")) <= END_SECONDS + 2
    assert service["environment"]["EDGECAR_TOKEN"].startswith("${EDGECAR_TOKEN:?")
    assert service["command"][0] == "serve"
    assert "/healthz" in service["healthcheck"]["test"][-1]
    compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")
    named = {mount.split(":")[0] for mount in service["volumes"] if mount[0] not in "./"}
    assert named == table["volumes"].keys()
    dockerfile = (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
    text = dockerfile.read_text()
    assert f"USER {service['user']}" in text
    for source in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / each).exists() for each in source.split())
    places = {mount.split(":")[1] for mount in service["volumes"] if mount[0] not in "./"}
    assert all(f" {place}" in text for place in places)
