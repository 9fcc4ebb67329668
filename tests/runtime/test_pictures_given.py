"""Arrays given to a restorer: pictures are taken, and anything else is named in an error."""

import cv2
import numpy as np
import pytest
from PIL import Image

from edgecar import Cleaner, EdgecarError, FakeEngine, Restorer
from edgecar.artifact import Artifact, Metadata

ARTIFACT = Artifact(Metadata("none", 1, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0), b"")
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)

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


def makers():
    yield Restorer(ARTIFACT, FakeEngine(lambda batch: 1 - batch))
    yield Cleaner(network=ARTIFACT, engine=FakeEngine(lambda batch: 1 - batch))


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_picture_is_one_line(kind):
    given, said = WRONG[kind]
    for clean in makers():
        with clean, pytest.raises(EdgecarError, match=said) as caught:
            clean(given)
        assert "\n" not in str(caught.value)
        assert "need" in str(caught.value)


def test_any_layout_in_memory_is_the_same_picture():
    wide = np.repeat(PICTURE, 2, axis=1)
    views = [
        wide[:, ::2],
        np.asfortranarray(PICTURE),
        np.ascontiguousarray(PICTURE[..., ::-1])[..., ::-1],
        np.ascontiguousarray(PICTURE[::-1])[::-1],
        cv2.UMat(PICTURE).get(),
    ]
    for clean in makers():
        with clean:
            expected = clean(PICTURE).copy()
            assert not np.array_equal(expected, PICTURE)
            for view in views:
                assert np.array_equal(clean(view), expected)
