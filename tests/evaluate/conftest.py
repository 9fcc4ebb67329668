"""What tests of evaluation share: a source, methods with a known result, an artifact."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from edgecar.artifact import Artifact
from edgecar.engines.fake import FakeEngine
from edgecar.evaluate.study import NetworkMethod
from edgecar.media.frame import Frame
from edgecar.media.video_codec import VideoCoding
from edgecar.metadata import Metadata
from edgecar.runtime.restorer import Restorer
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture

PHOTO = cv2.resize(data.camera(), (256, 256), interpolation=cv2.INTER_AREA)
CODING = VideoCoding("h264", 38)


def panning(count: int = 13, height: int = 48, width: int = 64, **facts) -> list[Frame]:
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    rows = PHOTO[60 : 60 + height]
    windows = [np.ascontiguousarray(rows[:, 2 * i : 2 * i + width]) for i in range(count)]
    return [Frame(window, chroma, chroma, i, **facts) for i, window in enumerate(windows)]


SOURCE = panning()


@dataclass
class Loaded:
    """A clip that is decoded already."""

    name: str = "pan"
    frames: list[Frame] = None

    def load(self):
        return self.frames or SOURCE


class Known:
    """A method that gives what a function makes of coded and clean luma; counts what it gave."""

    def __init__(self, function=lambda coded, _: coded, name="known"):
        self.name, self.function, self.indices, self.words = name, function, [], "1"

    def frames(self, coded, indices):
        for index in indices:
            self.indices.append(index)
            frame = coded.clip.frames[index]
            yield replace(frame, y=self.function(frame.y, coded.source.frames[index].y))

    def setting(self, _coding):
        return self.words


def halfway(coded, clean):
    return ((coded.astype(int) + clean) // 2).astype(np.uint8)


def network(function, **facts) -> NetworkMethod:
    metadata = Metadata("fake", 1, 0, 1, "local", 8, "fp32", "", "", 0.0, 0.0, **facts)
    return NetworkMethod(Restorer(Artifact(metadata, b""), FakeEngine(function)))


def write_pictures(folder: Path, pictures) -> Path:
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index:04}.png"), picture)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """Coded clips and detections of other tests, and of people, count for nothing."""
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def artifact(exported, tmp_path) -> Path:
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported("edgecar-xs").onnx)
    return path
