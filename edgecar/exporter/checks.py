"""Checks of an FP32 export: its parity with torch, and the known answer that it carries."""

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from edgecar.artifact import Artifact
from edgecar.engines.answer import FLAWLESS
from edgecar.engines.base import CODE, codes_from_unit
from edgecar.engines.libraries import imported_onnxruntime
from edgecar.exporter.exact import ExactEngine
from edgecar.exporter.frames import Picture, coded_photo, photo
from edgecar.metadata import KnownAnswer, Metadata, packed_answer, write_metadata

QUALITY = 20  # JPEG quality of the pictures compared on: what the networks are for
QUANTISERS = np.array([0.3, 0.9], np.float32)  # of the two pictures of a batch
SIDES = ((48, 64), (80, 48))  # (height, width) before alignment: two shapes prove dynamic axes
LEAST_PX = 48  # side of the picture: 4 to 7 KiB in the file
INSIDE_PX = 16  # more than the halo, so that an engine of one tile has some of it to compare
MOST_PX = 192
MARGIN = 1.5  # on the loss measured here: another machine rounds a few values to other integers


def parity_error(network: nn.Module, onnx_bytes: bytes, channels: int, align_px: int) -> float:
    """Return the largest difference, of 1.0, between a torch network and its ONNX file on crops.

    NaN if either output has one.
    """
    onnxruntime = imported_onnxruntime()
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    worst = 0.0
    for crops in real_crops(channels, align_px):
        given = (crops, QUANTISERS)[: len(names)]
        with torch.inference_mode():
            expected = network(*map(torch.from_numpy, given)).numpy()
        (got,) = session.run(None, dict(zip(names, given, strict=True)))
        worst = float(np.maximum(worst, np.abs(got - expected).max()))
    return worst


def real_crops(channels: int, align_px: int) -> Iterator[NDArray[np.float32]]:
    """Yield batches of two JPEG-coded crops of photographs, ``(2, channels, H, W)`` in [0, 1]."""
    photos = [photo("astronaut"), photo("coffee")]
    for sides in SIDES:
        height, width = (-(-side // align_px) * align_px for side in sides)
        batch = np.empty((2, channels, height, width), np.float32)
        for index, bgr in enumerate(photos):
            crop = np.ascontiguousarray(bgr[96 : 96 + height, 160 : 160 + width])
            _, code = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
            coded = np.atleast_3d(np.asarray(cv2.imdecode(code, flag)))
            batch[index] = coded[..., ::-1].transpose(2, 0, 1) / np.float32(255)
        yield batch


def known_answer(model: ModelProto, metadata: Metadata) -> KnownAnswer:
    """Return the known answer of an FP32 graph."""
    side = max(LEAST_PX, metadata.halo_px + INSIDE_PX if metadata.context == "local" else 0)
    side = -(-min(side, MOST_PX) // metadata.align_px) * metadata.align_px
    pair = coded_photo(metadata.trained_on, metadata.channels, metadata.align_px, side)
    told = pair.quantiser if metadata.takes_quantiser else None
    unit = _output(model, metadata, pair.coded, told)
    wrong = codes_from_unit(unit).astype(np.float64) - pair.clean
    error = float(np.mean(wrong**2))
    return packed_answer(pair.coded, 255 * unit, error, quantiser=told)


def with_stated_loss(model: ModelProto, metadata: Metadata) -> Metadata:
    """Write metadata into a lowered graph, with what it was measured to lose on its known answer.

    The gate's budget is for the mean of its pictures, and this is one picture. The known answer
    given is that of the FP32 graph.
    """
    answer = metadata.known_answer
    if answer is not None:
        expected = answer.expected_codes()
        apart = 255 * _output(model, metadata, answer.codes(), answer.quantiser) - expected
        error = float(np.mean(np.square(apart, dtype=np.float64)))
        loss_db = 10 * math.log10(1 + error / max(answer.error_codes2, FLAWLESS))
        allowed_db = MARGIN * loss_db if math.isfinite(loss_db) else 0.0
        stated = packed_answer(
            *(answer.codes(), expected, answer.error_codes2, allowed_db),
            quantiser=answer.quantiser,
        )
        metadata = replace(metadata, known_answer=stated)
    write_metadata(model, metadata)
    return metadata


def _output(
    model: ModelProto, metadata: Metadata, codes: Picture, quantiser: float | None
) -> NDArray[np.float32]:
    """Run a graph as it is written, without the fusions in which engines differ."""
    told = None if quantiser is None else [quantiser]
    with ExactEngine(Artifact(metadata, model.SerializeToString())) as engine:
        unit: NDArray[np.float32] = engine.run(codes[None] * CODE, told)[0]
    return unit
