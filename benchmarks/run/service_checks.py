"""Misuse that a service must bear: any request to its API, and a kill while it records.

``fuzz`` sends what the API's schema allows, and what it does not (schemathesis), and counts answers
of the 500s, and those that are not as the schema says. ``kill`` records in a process that is killed
(SIGKILL) at a random picture, and counts what the file lacks of the pictures given to it by then.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import typer

from benchmarks.run.study import own_command, run_study
from edgecar.bench.results import new_results, write_results
from edgecar.media.frame import Frame
from edgecar.media.scene import photo_scene
from edgecar.media.writer import open_writer
from edgecar.serve.api import application
from edgecar.serve.outputs import Coder
from edgecar.serve.service import Service
from edgecar.serve.settings import Record, Settings, Video
from edgecar.serve.writers import Recorder

MODULE = "benchmarks.run.service_checks"
FPS = 25
SIZE = (360, 640)
HOST = {"Host": "127.0.0.1"}
KEYFRAME_SECONDS = {"mp4": 1.0, "mkv": 1.0}
FRAMES_BEFORE_A_KILL = (60, 300)
ANSWERS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance"),
)
"""Checks of every answer, by schemathesis' names. Not among them: that data of the right form
are accepted, for a camera's address is more than a string."""


def fuzz(examples: int, folder: Path) -> tuple[Counter[int], list[str]]:
    """Send requests of all kinds to all operations but the endless one.

    Returns how many answers had which status, and what was wrong with some.
    """
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable

    schemathesis.checks.load_all_checks()
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in ANSWERS]
    statuses: Counter[int] = Counter()
    failures: list[str] = []

    def ask(case: Any) -> None:
        if "newer_than" in (case.query or {}):
            case.query["newer_than"] = 0  # otherwise each request waits a second
        if statuses.total() % 2 and case.method != "DELETE":  # half of them name things that exist
            if "name" in (case.path_parameters or {}):
                case.path_parameters["name"] = "gate"
            if isinstance(case.body, dict) and "source" in case.body:
                case.body["source"] = "0"
        answer = case.call(headers=HOST)
        statuses[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=checks, headers=HOST)
        except Exception as failure:  # theirs share no base
            failures.append(f"{case.operation.label}: {failure}")

    how = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with _service(folder) as service:
        schema: Any = schemathesis.openapi.from_asgi(
            "/api/openapi.json", application(service), headers=HOST
        )
        kinds: Any = schemathesis.GenerationMode
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path.endswith("stream.mjpg"):
                continue
            for kind in (kinds.POSITIVE, kinds.NEGATIVE):
                of_kind: Any = given(operation.as_strategy(kind))
                ask_many: Any = how(of_kind(ask))
                with suppress(Unsatisfiable):  # no parameter, so no wrong one
                    ask_many()
    return statuses, failures


def killed(kills: int, kind: str, folder: Path) -> dict[str, Any]:
    """Recordings that are killed, and what they lack."""
    rng = random.Random(0)
    lost: list[int] = []
    began = time.monotonic()
    for number in range(kills):
        place = folder / f"{kind}-{number}"
        command = [sys.executable, "-m", MODULE, "record", str(place), kind]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            given, wanted = 0, rng.randint(*FRAMES_BEFORE_A_KILL)
            while given < wanted:
                given = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            given += sum(1 for _ in process.stdout)  # said before it died
        lost.append(given - sum(_playable(path) for path in (place / "gate").iterdir()))
    fragment = round(FPS * KEYFRAME_SECONDS[kind])
    return {
        "check": f"kill {kind}",
        "tries": kills,
        "failures": sum(each > fragment for each in lost),
        "seconds": round(time.monotonic() - began, 1),
        "detail": {"fragment frames": fragment, "most frames lost": max(lost)},
    }


def record(folder: Path, kind: str) -> None:
    """Record until killed, saying after each picture how many the file was given."""
    recorder = Recorder("gate", Record(folder=folder, format=kind, segment_seconds=3600))
    coder = Coder("gate", Video(keyframe_seconds=KEYFRAME_SECONDS[kind]), [recorder])
    coder.start()
    said = 0
    for frame in _frames():
        coder.offer(frame)
        while recorder.status.frames <= said:
            time.sleep(0.0005)
        said = recorder.status.frames
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()


def _frames() -> Iterator[Frame]:
    """A photograph that moves, without end."""
    pictures = list(photo_scene(SIZE, 50))
    number = 0
    while True:
        y = np.roll(pictures[number % len(pictures)].y, number, 1)
        chroma = pictures[0]
        yield Frame(y, chroma.u, chroma.v, number, Fraction(1, FPS))
        number += 1


def _playable(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def _service(folder: Path) -> Service:
    from edgecar.media.facts import StreamFacts

    clip = folder / "gate.mp4"
    with open_writer(clip, like=StreamFacts(SIZE, Fraction(FPS), Fraction(1, FPS))) as writer:
        for frame in photo_scene(SIZE, 50):
            writer.write(frame)
    table = {
        "state": folder / "state.json",
        "server": {"folders": [str(folder)], "max_cameras": 3, "requests_per_second": 1e6},
        "camera": [{"name": "gate", "source": str(clip), "network": "edgecar-xs"}],
    }
    return Service(Settings.model_validate(table))


app = typer.Typer(add_completion=False)


@app.command("measure")
def measure(
    save: Annotated[Path, typer.Option(help="Where to write the result file (JSON).")],
    examples: Annotated[
        int, typer.Option(min=1, help="Requests for each operation and kind.")
    ] = 150,
    kills: Annotated[int, typer.Option(min=1, help="Kills for each format.")] = 10,
) -> None:
    """Check the API and recordings, and save what was found."""
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        statuses, failures = fuzz(examples, Path(name))
        answers = {
            "check": "fuzz",
            "tries": statuses.total(),
            "failures": len(failures),
            "seconds": round(time.monotonic() - began, 1),
            "detail": {str(status): count for status, count in sorted(statuses.items())},
        }
        rows = [answers]
        rows += [killed(kills, kind, Path(name)) for kind in KEYFRAME_SECONDS]
    write_results(save, new_results("service-checks", rows, own_command(MODULE)))
    typer.echo(rows)


app.command("record")(record)

if __name__ == "__main__":
    run_study(app)
