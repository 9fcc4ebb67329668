"""Checks an export must pass before anything is written."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecar.engines.libraries import imported_onnxruntime
from edgecar.errors import ExportError

QUALITY = 20  # JPEG quality of the pictures compared on: what the networks are for
SIDES = ((48, 64), (80, 48))  # (height, width) before alignment: two shapes prove dynamic axes


def parity_error(network: nn.Module, onnx_bytes: bytes, channels: int, align_px: int) -> float:
    """Largest difference between a torch network and its ONNX file on real coded crops.

    Args:
        network: In evaluation mode.
        onnx_bytes: The exported file; run by ONNX Runtime on the CPU in float32.
        channels: 1 or 3.
        align_px: Sides are rounded up to multiples of this.

    Returns:
        Maximum absolute difference, of 1.0; NaN if either output has one.
    """
    onnxruntime = imported_onnxruntime()
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    worst = 0.0
    for crops in real_crops(channels, align_px):
        with torch.inference_mode():
            expected = network(torch.from_numpy(crops)).numpy()
        (got,) = session.run(None, {name: crops})
        worst = float(np.maximum(worst, np.abs(got - expected).max()))
    return worst


def real_crops(channels: int, align_px: int) -> Iterator[NDArray[np.float32]]:
    """Batches of two JPEG-coded crops of photographs, ``(2, channels, H, W)`` in [0, 1]."""
    try:
        from skimage import data
    except ImportError as error:
        raise ExportError(
            "scikit-image is needed for its photographs; install it: pip install 'edgecar[train]'"
        ) from error
    photos: list[NDArray[np.uint8]] = [data.astronaut(), data.coffee()]
    for height, width in SIDES:
        height, width = (-(-side // align_px) * align_px for side in (height, width))
        batch = np.empty((2, channels, height, width), np.float32)
        for index, photo in enumerate(photos):
            crop = np.ascontiguousarray(photo[96 : 96 + height, 160 : 160 + width])
            _, code = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
            coded = np.atleast_3d(np.asarray(cv2.imdecode(code, flag)))
            batch[index] = coded[..., ::-1].transpose(2, 0, 1) / np.float32(255)
        yield batch
