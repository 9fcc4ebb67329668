"""Memory kept for a camera is freed when it is forgotten, or its restorer closed."""

import gc

import numpy as np
import pytest

from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_cache import Reuse
from tests.runtime.cuda.host_device import HostDevice, ReferenceTiles
from tests.runtime.cuda.small_network import a_clip, artifact, blurred

CAMERAS = ("gate", "yard", "door")
FRAMES = 3


@pytest.fixture(params=[False, True])
def device(request) -> HostDevice:
    return HostDevice(shared=request.param)


@pytest.fixture
def engine(device):
    with ReferenceTiles(device, FakeEngine(blurred), (2, 24, 32)).on(device) as engine:
        yield engine


def held(device) -> int:
    """Bytes of the device that somebody holds."""
    gc.collect()
    return sum(device.live.values())


def restored(restorer, *cameras, size=(28, 36)) -> None:
    for name in cameras:
        for frame in a_clip(len(name), size, frames=FRAMES):
            restorer.luma(frame[0], name)


@pytest.mark.parametrize("reuse", [True, False, Reuse(verify_every=2)])
def test_a_forgotten_camera_leaves_nothing_on_the_device(reuse, device, engine) -> None:
    restorer, before = Restorer(artifact(), engine, reuse=reuse), held(device)
    restored(restorer, CAMERAS[0])
    one = held(device)
    assert one > before
    for _ in range(2):
        restored(restorer, *CAMERAS[1:])
        for name in CAMERAS[1:]:
            restorer.forget(name)
        assert held(device) == one
    restored(restorer, CAMERAS[0], size=(40, 48))  # frees what was kept of another size
    restored(restorer, CAMERAS[0])
    assert held(device) == one
    restorer.forget(CAMERAS[0])
    restorer.forget("never seen")
    assert held(device) == before


def test_a_restorer_that_is_closed_leaves_the_engine_as_it_was(device, engine) -> None:
    other, before = Restorer(artifact(), engine), held(device)
    restored(other, "gate")
    with_other = held(device)
    with Restorer(artifact(), engine) as restorer:
        restored(restorer, *CAMERAS)
        assert restorer.stats_of("gate").frames == FRAMES
    assert held(device) == with_other  # whose camera of the same name goes on
    other.close()
    assert held(device) == before


def test_a_failure_frees_the_cameras_that_begin_anew(device, engine, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("CUDA failed: out of memory")

    restorer, before = Restorer(artifact(), engine), held(device)
    restored(restorer, "gate")
    monkeypatch.setattr(device, "launch", refuse)
    with pytest.raises(EngineError):
        restorer.luma(np.zeros((28, 36), np.uint8), "gate")
    assert held(device) == before
