"""The JPEG study: networks on coded photographs, measured like the published tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import DataError
from edgecar.evaluate.metrics import Luma, Window, psnr, psnr_b, ssim
from edgecar.evaluate.sample_frames import SampleFrames, Subject, frame_of_luma
from edgecar.media.color import paper_luma_from_bgr
from edgecar.media.pictures import is_grey, jpeg_coded, list_pictures, read_picture

Restore = Callable[[Luma], Luma]
Pictures = Sequence[tuple[str, Luma]]

SSIM_WINDOW: Window = "uniform"  # so that rows compare with the MSFAN paper's table 6


class JpegRow(TypedDict):
    """One network on one set at one JPEG quality; means over the pictures of the set.

    ``in`` is the coded picture, ``out`` the restored one, both against the clean picture. PSNR and
    PSNR-B are in dB; SSIM has the uniform 7×7 window (see `edgecar.evaluate.metrics.ssim`).
    """

    network: str
    set: str
    quality: int
    psnr_in: float
    psnr_out: float
    ssim_in: float
    ssim_out: float
    psnrb_in: float
    psnrb_out: float


def evaluate_jpeg(
    restore: Restore,
    pictures: Pictures,
    qualities: Sequence[int],
    *,
    network: str,
    set_name: str,
    sample_frames: SampleFrames | None = None,
) -> list[JpegRow]:
    """Code every picture at every quality, restore it, and average the three measures.

    Args:
        restore: Coded luma to restored luma, ``(H, W)`` uint8 each; called once per picture and
            quality.
        pictures: Name and clean luma of each picture.
        qualities: JPEG qualities, 1 to 100.
        network: Name of the network in the rows.
        set_name: Name of the set in the rows; ``Classic5`` and ``LIVE1`` have published values.
        sample_frames: Collects the pictures with most and least gain.

    Returns:
        One row per quality, in the order given.

    Raises:
        DataError: There is no picture, or ``restore`` changes size or type.
    """
    if not pictures:
        raise DataError(f"set {set_name} holds no picture; give a folder with some")
    rows: list[JpegRow] = []
    for quality in qualities:
        each: list[list[float]] = []
        for name, clean in pictures:
            coded = jpeg_coded(clean, quality)
            restored = restore(coded)
            each.append(_scores(clean, (coded, restored)))
            if sample_frames:
                frames = frame_of_luma(clean), frame_of_luma(coded), restored
                sample_frames.look_at(Subject(name, quality, network), 0, *frames)
        scores = np.mean(each, axis=0)
        psnr_in, psnr_out, ssim_in, ssim_out, psnrb_in, psnrb_out = scores.tolist()
        rows.append(
            JpegRow(
                network=network,
                set=set_name,
                quality=quality,
                psnr_in=psnr_in,
                psnr_out=psnr_out,
                ssim_in=ssim_in,
                ssim_out=ssim_out,
                psnrb_in=psnrb_in,
                psnrb_out=psnrb_out,
            )
        )
    return rows


def _scores(clean: Luma, both: tuple[Luma, Luma]) -> list[float]:
    """Return PSNR, SSIM and PSNR-B of one picture, each before and after."""
    return [
        *(psnr(clean, picture) for picture in both),
        *(ssim(clean, picture, window=SSIM_WINDOW) for picture in both),
        *(psnr_b(clean, picture) for picture in both),
    ]


def load_pictures(folder: Path) -> list[tuple[str, Luma]]:
    """Read name and luma of every picture in ``folder``, sorted by name.

    Raises:
        MediaError: The folder holds no picture, or one that cannot be decoded.
    """
    return [(path.stem, published_luma(read_picture(path))) for path in list_pictures(folder)]


def published_luma(bgr: NDArray[np.uint8]) -> Luma:
    """Return the luma that the published tables measure.

    A grey picture is its own luma, also where its file repeats it in three equal channels; colour
    becomes limited-range luma (`edgecar.media.color.paper_luma_from_bgr`).

    Args:
        bgr: ``(H, W, 3)``.

    Returns:
        ``(H, W)``.
    """
    if is_grey(bgr):
        return np.ascontiguousarray(bgr[:, :, 0])
    return paper_luma_from_bgr(bgr)
