"""``edgecar serve`` as a process: it starts, ends, is killed and comes back."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import httpx
import pytest

from tests.serve.conftest import free_port, until, write_clip  # noqa: F401  # a fixture

PASSWORDS = ("hunter22", "hunter44", "secret33", "a-token-of-some-length")
COMMAND = [sys.executable, "-m", "edgecar", "serve"]
LONGEST_SECONDS = 60  # to load everything, on a machine that is busy with something else


class Process:
    """A service that has told its address."""

    def __init__(self, config: Path, *options: str, **environment: str):
        self.stderr_path = config.parent / f"stderr.{len(list(config.parent.iterdir()))}"
        with self.stderr_path.open("w") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, str(config), "--port", "0", "--json", *options],
                stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **environment},
            )  # fmt: skip
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        assert lines, self.log
        self.told = json.loads("".join(lines))
        token = environment.get("EDGECAR_TOKEN")
        self.http = httpx.Client(
            base_url=self.told["url"],
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=LONGEST_SECONDS,
        )

    @property
    def log(self) -> str:
        return self.stderr_path.read_text()

    def camera(self, name: str) -> dict:
        return self.http.get(f"/api/cameras/{name}").json()

    def written(self, name: str) -> int:
        """Pictures in the camera's recording."""
        outputs = {each["kind"]: each for each in self.camera(name)["outputs"]}
        return outputs["record"]["frames"]

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code; what it said last is in `rest`."""
        self.http.close()
        self.process.send_signal(number)
        self.rest, _ = self.process.communicate(timeout=LONGEST_SECONDS)
        return self.process.returncode


@pytest.fixture
def start():
    """Services that are killed at the end, if they still run."""
    made = []

    def begin(*arguments, **environment) -> Process:
        made.append(Process(*arguments, **environment))
        return made[-1]

    yield begin
    for each in made:
        each.process.kill()
        each.process.communicate()


@pytest.fixture
def config(tmp_path):
    """A service's file; the clip beside it is slow, so that a busy machine drops nothing."""
    write_clip(tmp_path / "gate.mp4", frames=40, fps=10)

    def write(text: str) -> Path:
        path = tmp_path / "cameras.toml"
        path.write_text(text)
        return path

    return write


GATE = """
[server]
folders = ["."]

[[camera]]
name = "gate"
source = "gate.mp4"
network = "edgecar-xs"
video = { keyframe_seconds = 0.2 }
record = { folder = "recordings" }
"""


def frames_in(folder: Path) -> int:
    return sum(frames_of(path) for path in folder.iterdir())


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.slow
def test_it_answers_and_ends_with_everything_written(start, config, tmp_path):
    service = start(config(GATE))
    assert service.told["cameras"] == ["gate"]
    assert service.http.get("/healthz").json() == {"status": "ok"}
    assert service.http.get("/").headers["content-type"].startswith("text/html")
    until(lambda: service.camera("gate")["frames"]["restored"] >= 5)
    until(lambda: service.written("gate") >= 5)
    assert service.end() == 0
    assert service.rest == ""
    (counts,) = re.findall(r"camera gate: (.*)", service.log)
    read, restored, passed, dropped, given_up = map(int, re.findall(r"\d+", counts))
    assert read == restored + passed + dropped + given_up
    assert given_up == 0
    (coded, left_out), (written, lost) = (
        map(int, numbers)
        for kind in ("code", "record")
        for numbers in re.findall(rf"{kind} \S+: (\d+) written, (\d+) dropped", service.log)
    )
    assert coded + left_out == restored + passed
    assert written + lost == coded
    assert written == frames_in(tmp_path / "recordings" / "gate")


@pytest.mark.slow  # kills a process
def test_after_a_kill_all_cameras_are_there_and_the_recording_plays(start, config, tmp_path):
    killed = start(config(GATE))
    yard = {"name": "yard", "source": str(tmp_path / "gate.mp4"), "network": "pass",
            "record": {"folder": str(tmp_path / "recordings")},
            "video": {"keyframe_seconds": 0.2}}  # fmt: skip
    assert killed.http.post("/api/cameras", json=yard).status_code == 201
    assert killed.http.patch("/api/cameras/gate", json={"network": "pass"}).status_code == 200
    until(lambda: killed.written("yard") >= 10)
    until(lambda: killed.written("gate") >= 10)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    (recording,) = (tmp_path / "recordings" / "yard").iterdir()
    # Ten were written; at ten a second, two are a fragment, and the last one may be missing.
    assert frames_of(recording) >= 8
    before = recording.read_bytes()
    again = start(config(GATE))
    assert again.told["cameras"] == ["gate", "yard"]
    assert again.camera("gate")["network"] == "pass"
    until(lambda: again.written("yard") >= 1)
    assert again.end() == 0
    assert recording.read_bytes() == before
    assert len(list((tmp_path / "recordings" / "yard").iterdir())) == 2


def test_no_password_is_said_and_every_line_of_the_log_is_json(start, config, free_port):  # noqa: F811
    text = f"""
    [[camera]]
    name = "gate"
    source = "http://admin:hunter22@127.0.0.1:{free_port}/video?key=secret33"
    [[camera]]
    name = "yard"
    source = "gate.mp4"
    network = "pass"
    push = {{ url = "rtsp://pusher:hunter44@127.0.0.1:{free_port}/live" }}
    """
    service = start(config(text), "--log-json", EDGECAR_TOKEN=PASSWORDS[3])
    assert httpx.get(f"{service.told['url']}api/cameras").status_code == 401
    until(lambda: service.camera("gate")["state"] == "waiting")
    until(lambda: any(each["state"] == "waiting" for each in service.camera("yard")["outputs"]))
    until(lambda: service.log.count("again in") >= 3)
    assert service.end() == 0
    said = json.dumps(service.told) + service.rest + service.log
    assert not [password for password in PASSWORDS if password in said]
    lines = [json.loads(line) for line in service.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    assert any("***@127.0.0.1" in line["message"] for line in lines)


def refused(*arguments: str) -> str:
    """What a start that comes to nothing says."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr


def test_mistakes_are_told_with_their_lines_and_nothing_else(config):
    wrong = GATE.replace("network =", "netwrok =").replace(
        "folders =", "max_cameras = 0\nfolders ="
    )
    path = config(wrong.replace("edgecar-xs", "hunter22"))
    first, second, *more = refused(str(path), "--check").splitlines()
    assert first.startswith(f"edgecar: {path}:3: server.max_cameras: ")
    assert second == f"{path}:9: camera[0].netwrok: no such setting; remove it or correct its name"
    assert more == []


def test_a_file_is_checked_without_a_start(edgecar, config):
    done = edgecar("serve", config(GATE), "--check")
    assert done.code == 0
    assert "gate      edgecar-xs → pass\n" in done.out
    assert json.loads(edgecar("serve", config(GATE), "--check", "--json").out) == {
        "cameras": {"gate": "edgecar-xs → pass"}
    }


def test_a_host_that_is_open_needs_a_token(edgecar, config, monkeypatch):
    monkeypatch.delenv("EDGECAR_TOKEN", raising=False)
    done = edgecar("serve", config(GATE), "--host", "0.0.0.0")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "open to others and there is no token; give a token" in done.err
    monkeypatch.setenv("EDGECAR_TOKEN", PASSWORDS[3])
    assert edgecar("serve", config(GATE), "--host", "0.0.0.0", "--check").code == 0


@pytest.mark.slow  # starts a process
def test_without_the_extra_its_name_is_said(config):
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from edgecar.cli import main\n"
        f"sys.argv = ['edgecar', 'serve', {str(config(GATE))!r}]\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "edgecar: serve needs fastapi, which is not installed; run: pip install 'edgecar[serve]'\n"
    )
