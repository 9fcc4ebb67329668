"""The known answer of an artifact: a coded photograph and what its network makes of it."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecar.artifact import Artifact, Metadata, write_metadata
from edgecar.engines.answer import FLAWLESS
from edgecar.engines.base import CODE, codes_from_unit
from edgecar.exporter.exact import ExactEngine
from edgecar.exporter.frames import Picture, coded_photo
from edgecar.known_answer import KnownAnswer, packed_answer

if TYPE_CHECKING:
    from onnx import ModelProto

LEAST_PX = 48  # side of the picture: 4 to 7 KiB in the file
INSIDE_PX = 16  # more than the halo, so that an engine of one tile has some of it to compare
MOST_PX = 192
MARGIN = 1.5  # on the loss measured here: another machine rounds a few values to other integers


def known_answer(model: "ModelProto", metadata: Metadata) -> KnownAnswer:
    """Return the known answer of an FP32 graph.

    Raises:
        ExportError: scikit-image, whose photograph is used, is not installed.
    """
    side = max(LEAST_PX, metadata.halo_px + INSIDE_PX if metadata.context == "local" else 0)
    side = -(-min(side, MOST_PX) // metadata.align_px) * metadata.align_px
    pair = coded_photo(metadata.trained_on, metadata.channels, metadata.align_px, side)
    unit = _output(model, metadata, pair.coded)
    wrong = codes_from_unit(unit).astype(np.float64) - pair.clean
    return packed_answer(pair.coded, 255 * unit, float(np.mean(wrong**2)))


def with_stated_loss(model: "ModelProto", metadata: Metadata) -> Metadata:
    """Allow a lowered graph what it was measured to lose on its known answer, where that is more.

    The gate's budget is for the mean of its pictures, and this is one picture.

    Args:
        model: Lowered graph; its metadata are written again.
        metadata: Metadata of the lowered graph, with the known answer of the FP32 one.
    """
    answer = metadata.known_answer
    if answer is None:
        return metadata
    expected = answer.expected_codes()
    apart = 255 * _output(model, metadata, answer.codes()) - expected
    error = float(np.mean(np.square(apart, dtype=np.float64)))
    loss_db = 10 * math.log10(1 + error / max(answer.error_codes2, FLAWLESS))
    allowed_db = MARGIN * loss_db if math.isfinite(loss_db) else 0.0
    made = replace(
        metadata,
        known_answer=packed_answer(answer.codes(), expected, answer.error_codes2, allowed_db),
    )
    write_metadata(model, made)
    return made


def _output(model: "ModelProto", metadata: Metadata, codes: Picture) -> NDArray[np.float32]:
    """Run a graph as it is written, without the fusions in which engines differ."""
    with ExactEngine(Artifact(metadata, model.SerializeToString())) as engine:
        unit: NDArray[np.float32] = engine.run(codes[None] * CODE)[0]
    return unit
