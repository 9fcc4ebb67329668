"""JPEG there and back, with either library."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from edgecar.errors import MediaError
from edgecar.evaluate.metrics import psnr
from edgecar.media.pictures import jpeg_coded

CAMERA = np.ascontiguousarray(data.camera()[100:260, 100:300])
QUALITIES = (10, 25, 40, 90)


@pytest.mark.parametrize("coder", ["opencv", "pillow"])
def test_coding_degrades_and_quality_helps(coder) -> None:
    coded = [jpeg_coded(CAMERA, quality, coder) for quality in QUALITIES]
    assert all(picture.shape == CAMERA.shape for picture in coded)
    assert all(picture.dtype == np.uint8 for picture in coded)
    scores = [psnr(CAMERA, picture) for picture in coded]
    assert scores == sorted(scores)
    assert scores[0] < 32
    assert scores[-1] < 50  # no quality leaves this picture as it was


@pytest.mark.parametrize("quality", QUALITIES)
def test_coders_are_close(quality) -> None:
    opencv, pillow = (jpeg_coded(CAMERA, quality, coder) for coder in ("opencv", "pillow"))
    # Both have the standard's tables, so that at most their transforms round differently: an error
    # ten times below that of coding. Builds with one libjpeg-turbo give equal pictures.
    assert psnr(opencv, pillow) > psnr(CAMERA, opencv) + 10


def test_pillow_codes_what_pillow_is_asked_for(monkeypatch) -> None:
    """And not OpenCV, which may give the very same picture."""
    monkeypatch.setattr(cv2, "imencode", None)
    assert psnr(CAMERA, jpeg_coded(CAMERA, 40, "pillow")) < 40
    with pytest.raises(TypeError):
        jpeg_coded(CAMERA, 40, "opencv")


def test_pillow_is_what_pillow_writes() -> None:
    file = BytesIO()
    Image.fromarray(CAMERA).save(file, "JPEG", quality=35)
    expected = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)
    got = jpeg_coded(CAMERA, 35, "pillow")
    # The same file; inverse transforms of two decoders differ by a rounding.
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("coder", ["opencv", "pillow"])
@pytest.mark.parametrize("quality", [0, 101, -5])
def test_other_qualities_are_refused(coder, quality) -> None:
    with pytest.raises(MediaError, match=f"quality {quality} is not in 1 to 100"):
        jpeg_coded(CAMERA, quality, coder)


@pytest.mark.parametrize("coder", ["opencv", "pillow"])
def test_picture_given_is_left_alone(coder) -> None:
    given = CAMERA.copy()
    jpeg_coded(given, 10, coder)
    np.testing.assert_array_equal(given, CAMERA)
    # Views, as turned photographs are, come out like copies.
    view = given[:, ::-1]
    np.testing.assert_array_equal(
        jpeg_coded(view, 20, coder), jpeg_coded(np.ascontiguousarray(view), 20, coder)
    )
