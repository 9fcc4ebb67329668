"""Clips that a player turns or mirrors: upright as BGR, and recorded as they are stored."""

import av
import cv2
import numpy as np
import pytest
from av.sidedata.sidedata import Type

import edgecar
from edgecar.artifact import Artifact, Metadata
from edgecar.media.reader import open_reader
from tests.media.conftest import copied, photo

NOTHING = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")
SIZE = (48, 64)
STORED = photo(0, SIZE)[..., ::-1]
SHOWN = {
    (0, False): STORED,
    (90, False): np.rot90(STORED),
    (180, False): np.rot90(STORED, 2),
    (270, False): np.rot90(STORED, 3),
    (0, True): np.fliplr(STORED),
    (90, True): np.fliplr(np.rot90(STORED)),
    (180, True): np.flipud(STORED),
    (270, True): np.fliplr(np.rot90(STORED, 3)),
}
"""All eight ways to lay a picture, by counter-clockwise turn and mirror."""

every_orientation = pytest.mark.parametrize("turn", SHOWN, ids=str)


def restorer():
    return edgecar.Restorer(NOTHING, edgecar.FakeEngine(lambda batch: batch))


def display_matrix(path):
    with av.open(str(path)) as container:
        side_data = next(container.decode(video=0)).side_data
        return bytes(side_data.get(Type.DISPLAYMATRIX) or b"")


@pytest.fixture
def turned_clip(make_clip):
    def make(turn, suffix=".mp4"):
        options = {"crf": "1"}
        return make_clip(
            f"a{suffix}", size=SIZE, frames=2, rotation=turn[0], mirrored=turn[1], options=options
        )

    return make


@every_orientation
def test_pictures_at_the_edge_are_upright(turned_clip, turn):
    path = turned_clip(turn)
    with restorer() as nothing, edgecar.stream(path, nothing) as frames:
        streamed = next(iter(frames)).bgr
    capture = edgecar.VideoCapture(path, network=NOTHING, engine=edgecar.FakeEngine(lambda b: b))
    captured = capture.read()[1]
    asked = capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH)
    capture.release()
    for picture in (streamed, captured):
        assert picture.shape == SHOWN[turn].shape
        # Chroma of half the size: other orientations are off by 40 and more.
        assert np.abs(picture.astype(int) - SHOWN[turn]).mean() < 8
    assert asked == SHOWN[turn].shape[:2]
    if not turn[1]:  # OpenCV does not mirror
        assert np.array_equal(captured, cv2.VideoCapture(str(path)).read()[1])


@every_orientation
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_recording_keeps_the_orientation(turned_clip, tmp_path, turn, suffix):
    source, target = turned_clip(turn), tmp_path / f"out{suffix}"
    assert not copied(source, target)
    with open_reader(source) as reader:
        assert {(frame.size, frame.orientation) for frame in reader} == {(SIZE, turn)}
    assert display_matrix(target) == display_matrix(source)
