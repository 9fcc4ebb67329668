"""Frames, pictures and planes in; the same kind out."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from edgecar import Cleaner, EdgecarError
from edgecar.artifact import Artifact
from edgecar.engines.base import codes_from_unit
from edgecar.engines.fake import FakeEngine
from edgecar.errors import EngineError, MediaError, WindowError
from edgecar.media.frame import Colour, Frame
from edgecar.metadata import Metadata
from edgecar.runtime.restorer import Restorer


def fake_artifact(
    channels: int = 1, halo: int = 2, align: int = 1, bytes_per_px: int = 8
) -> Artifact:
    metadata = Metadata(
        "fake", channels, halo, align, "local", bytes_per_px, "fp32", "", "", 0.0, 0.0
    )
    return Artifact(metadata, b"")


def brighter(batch: np.ndarray) -> np.ndarray:
    return batch + np.float32(10 / 255)


class Remembering:
    """A network that changes nothing and keeps the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch.copy())
        return batch


def random_codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_luma_is_clipped_and_new():
    y = random_codes(9, 7)
    restored = Restorer(fake_artifact(), FakeEngine(brighter)).luma(y)
    np.testing.assert_array_equal(restored, np.minimum(y.astype(int) + 10, 255))
    assert not np.shares_memory(restored, y)


def test_all_codes_survive_the_way_to_unit_and_back():
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    identity = Restorer(fake_artifact(), FakeEngine(lambda batch: batch))
    np.testing.assert_array_equal(identity.luma(codes), codes)


def test_rounding_is_to_even_and_clipping_is_complete():
    unit = np.array([-3.0, 0.5 / 255, 1.5 / 255, 1.0, 7.0], np.float32)
    assert codes_from_unit(unit).tolist() == [0, 0, 2, 255, 255]


def test_grey_picture_stays_grey_and_gets_the_luma_change():
    grey = np.repeat(random_codes(8, 10, 1) // 2, 3, axis=2)
    restored = Restorer(fake_artifact(), FakeEngine(brighter))(grey)
    np.testing.assert_array_equal(restored, grey + 10)


def test_rgb_network_sees_rgb_and_returns_bgr():
    bgr, network = random_codes(6, 8, 3), Remembering()
    restored = Restorer(fake_artifact(3), FakeEngine(network, channels=3))(bgr)
    np.testing.assert_array_equal(restored, bgr)
    red = np.rint(network.batches[0][0, 0] * 255)  # comes first
    np.testing.assert_array_equal(red, bgr[..., 2])


def test_frame_keeps_chroma_time_and_colour():
    frame = Frame(
        random_codes(7, 9), random_codes(4, 5), random_codes(4, 5),
        pts=1234, time_base=Fraction(1, 90000), colour=Colour(full_range=True, matrix=1),
    )  # fmt: skip
    restored = Restorer(fake_artifact(), FakeEngine(brighter)).restore(frame)
    assert restored.u is frame.u
    assert restored.v is frame.v
    facts = (restored.pts, restored.time_base, restored.colour)
    assert facts == (1234, Fraction(1, 90000), frame.colour)
    assert (restored.y >= frame.y).all()


def test_rgb_network_restores_video_frames_too():
    frame = Frame(np.full((8, 8), 100, np.uint8), *[np.full((4, 4), 128, np.uint8)] * 2, pts=3)
    restored = Restorer(fake_artifact(3), FakeEngine(brighter, channels=3)).restore(frame)
    assert restored.pts == 3
    # Ten codes of full-range RGB are 10 * 219 / 255 = 8.6 codes of limited-range luma.
    assert set((restored.y - frame.y).ravel().tolist()) <= {8, 9}


def test_sides_that_are_not_aligned_are_padded_by_their_last_pixels():
    y, network = random_codes(5, 7), Remembering()
    restorer = Restorer(fake_artifact(halo=4, align=4), FakeEngine(network, align_px=4))
    np.testing.assert_array_equal(restorer.luma(y), y)
    (batch,) = network.batches
    assert batch.shape == (1, 1, 8, 8)
    np.testing.assert_array_equal(np.rint(batch[0, 0] * 255), np.pad(y, ((0, 3), (0, 1)), "edge"))


def test_engine_of_one_shape_gets_full_batches():
    y, network = random_codes(40, 30), Remembering()
    restorer = Restorer(fake_artifact(), FakeEngine(network, shape=(4, 16, 16)))
    np.testing.assert_array_equal(restorer.luma(y), y)
    assert {batch.shape for batch in network.batches} == {(4, 1, 16, 16)}
    with pytest.raises(WindowError, match="build the engine for a tile of at most 12 px"):
        restorer.luma(random_codes(40, 12))
    with pytest.raises(EngineError, match="one shape"):
        restorer.whole(y)


def test_memory_of_a_window_is_bounded():
    per_px = 160_000  # so heavy a network that 512 MiB are 3355 px
    y, network = random_codes(200, 300), Remembering()
    restorer = Restorer(fake_artifact(bytes_per_px=per_px), FakeEngine(network))
    np.testing.assert_array_equal(restorer.luma(y), y)
    sizes = [batch.size for batch in network.batches]
    assert max(sizes) * per_px <= 512 << 20
    assert len(sizes) > 10


def test_stats_count_windows_and_share():
    restorer = Restorer(fake_artifact(), FakeEngine(brighter), tile=(10, 10), reuse=False)
    restorer.luma(random_codes(16, 10))
    assert restorer.stats.frames == 1
    assert restorer.stats.windows_run == 2
    assert restorer.stats.computed_share == pytest.approx(200 / 160)


def test_engine_for_other_channels_is_refused():
    with pytest.raises(EngineError, match="takes 3 channel"):
        Restorer(fake_artifact(1), FakeEngine(brighter, channels=3))


def test_an_engine_of_the_callers_stays_open():
    engine = FakeEngine(brighter)
    with Restorer(fake_artifact(), engine) as restorer:
        restorer.luma(random_codes(4, 4))
    engine.run(np.zeros((1, 1, 4, 4), np.float32))


PICTURE = random_codes(24, 32, 3)
WRONG = {
    "list": (PICTURE.tolist(), "got a list"),
    "list of pictures": ([PICTURE], "one at a time"),
    "PIL": (Image.fromarray(PICTURE), r"np\.asarray\(picture\.convert\('RGB'\)\)\[\.\.\., ::-1\]"),
    "nothing": (None, "got a NoneType"),
    "name": ("photo.png", "got a str"),
    "floats": (PICTURE / 255, "float64 .*, need uint8 .*round it"),
    "16 bits": (PICTURE.astype(np.uint16), "uint16"),
    "grey": (PICTURE[..., 0], "COLOR_GRAY2BGR"),
    "one channel": (PICTURE[..., :1], "COLOR_GRAY2BGR"),
    "alpha": (np.dstack([PICTURE, PICTURE[..., 0]]), "COLOR_BGRA2BGR"),
    "two channels": (PICTURE[..., :2], "need uint8"),
    "batch": (PICTURE[None], "batch one at a time"),
    "channels first": (PICTURE.transpose(2, 0, 1), "need uint8"),
    "no rows": (PICTURE[:0], "it is empty"),
    "no columns": (PICTURE[:, :0], "it is empty"),
    "no channels": (PICTURE[..., :0], "it is empty"),
}


@pytest.fixture(params=["restorer", "cleaner"])
def negative(request):
    """A function that makes negatives of BGR pictures."""
    artifact, engine = fake_artifact(), FakeEngine(lambda batch: 1 - batch)
    if request.param == "restorer":
        return Restorer(artifact, engine)
    return Cleaner(network=artifact, engine=engine)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_picture_is_one_line(kind, negative):
    given, said = WRONG[kind]
    with pytest.raises(EdgecarError, match=said) as caught:
        negative(given)
    assert "\n" not in str(caught.value)
    assert "need" in str(caught.value)


def test_a_plane_that_is_no_luma_is_refused():
    with pytest.raises(MediaError, match="int16"):
        Restorer(fake_artifact(), FakeEngine(brighter)).luma(random_codes(4, 4).astype(np.int16))


def test_any_layout_in_memory_is_the_same_picture(negative):
    expected = negative(PICTURE).copy()
    assert not np.array_equal(expected, PICTURE)
    for view in (
        np.repeat(PICTURE, 2, axis=1)[:, ::2],
        np.asfortranarray(PICTURE),
        np.ascontiguousarray(PICTURE[..., ::-1])[..., ::-1],
        np.ascontiguousarray(PICTURE[::-1])[::-1],
        cv2.UMat(PICTURE).get(),
    ):
        assert np.array_equal(negative(view), expected)
