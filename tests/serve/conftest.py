"""A service with an engine that brightens by one code, and clips to play."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from starlette.testclient import TestClient

from edgecar.engines.fake import FakeEngine
from edgecar.runtime.restorer import Restorer
from edgecar.serve.api import application
from edgecar.serve.networks import Networks
from edgecar.serve.run import answer, listening_socket
from edgecar.serve.service import Service
from edgecar.serve.settings import EngineChoice, Settings
from tests.runtime.test_restorer import fake_artifact

PATIENCE_SECONDS = 20  # for what takes a moment, on a machine that is busy with something else


def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> object:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.01)
    pytest.fail("it did not come true in time")


def write_clip(
    path: Path, frames: int = 50, size: tuple[int, int] = (48, 64), fps: int = 25
) -> Path:
    """H.264 of a bar that moves over a gradient."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"preset": "ultrafast", "bf": "0", "crf": "45"}
        )
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = np.tile(np.linspace(20, 200, size[1], dtype=np.uint8), (size[0], 1))
            picture[:, index % size[1]] = 255
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, 2), "bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def brighter(batch: np.ndarray) -> np.ndarray:
    return batch + np.float32(1 / 255)


def fake_networks(function: Callable = brighter) -> Networks:
    """Any network, whose engine is a function."""
    return Networks(
        EngineChoice(), opener=lambda *_: Restorer(fake_artifact(), FakeEngine(function))
    )


@contextmanager
def served(service, port: int = 0, app=None) -> Iterator[SimpleNamespace]:
    """The service's ``url`` and ``port`` while a real server answers for it."""
    listening = listening_socket("127.0.0.1", port)
    port = listening.getsockname()[1]
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    answering = answer(app or application(service), listening, ended, service.begin_draining)
    thread = threading.Thread(target=loop.run_until_complete, args=[answering])
    thread.start()
    try:
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/", port=port)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "gate.mp4")


@pytest.fixture
def make_service(tmp_path) -> Iterator[Callable[..., Service]]:
    """Services that are closed at the end, keeping their state in the test's folder."""
    made: list[Service] = []

    def make(*cameras: dict, networks: Networks | None = None, **tables: object) -> Service:
        table = {"state": tmp_path / "state.json", "camera": list(cameras), **tables}
        made.append(Service(Settings.model_validate(table), networks or fake_networks()))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def client_of():
    """A function that makes a client of a service, with an application of its own."""

    def make(service, **headers) -> TestClient:
        app = application(service)
        return TestClient(app, "http://127.0.0.1:8321", headers=headers, client=("127.0.0.1", 5000))

    return make


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
