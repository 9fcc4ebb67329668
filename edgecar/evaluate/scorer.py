"""Deep multi-scale IQA: a score from a reference and a distorted picture, by patches."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.artifact import Artifact, read_model
from edgecar.engines.base import Engine
from edgecar.engines.select import open_engine
from edgecar.errors import ArtifactError, DataError
from edgecar.evaluate.metrics import Luma
from edgecar.files import PACKAGE, sha256_of
from edgecar.metadata import Metadata

if TYPE_CHECKING:
    from onnx import ModelProto

SHIPPED = PACKAGE / "evaluate" / "weights" / "multiscale-iqa.onnx"
"""The scorer that ships; it learned a proxy, which its metadata names."""

KEY = "edgecar-scorer"  # no key of artifacts that restore: runtimes must not take it for one
BYTES_PER_PX = 128  # the first layers of both streams, alive at one time
PATCH_PX = 128
PLANES = 2  # distorted picture and residual map
BATCH = 32  # patches at a time: 4 MiB

Patches = NDArray[np.float32]
"""``(N, 2, 128, 128)`` in [0, 1]."""


@dataclass(frozen=True)
class ScorerMetadata:
    """Metadata of a scorer's ONNX file.

    Attributes:
        model: Name of the network.
        target: Scores it predicts: opinion scores, or a proxy that is named as such.
        low: Lowest score in training.
        high: Highest score in training.
        lower_is_better: True if a low score means a good picture.
        trained_on: Description of the training pictures.
        parity_max_error: Largest difference of the ONNX file to torch, in the unit of the score.
    """

    model: str
    target: str
    low: float
    high: float
    lower_is_better: bool
    trained_on: str
    parity_max_error: float

    def write(self, model: "ModelProto") -> None:
        """Replace all metadata of a graph by these."""
        del model.metadata_props[:]
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, json.dumps(asdict(self))


def planes_of(reference: Luma, distorted: Luma) -> NDArray[np.uint8]:
    """Return distorted luma and residual map ``|D - O|`` (Eq. 1 of the paper), ``(2, H, W)``.

    Raises:
        DataError: Size or type differ, or a side is shorter than a patch.
    """
    if reference.shape != distorted.shape or reference.dtype != distorted.dtype:
        raise DataError(
            f"reference is {reference.dtype} {reference.shape}, distorted {distorted.dtype} "
            f"{distorted.shape}; give pictures of one size"
        )
    if min(reference.shape) < PATCH_PX:
        height, width = reference.shape
        raise DataError(
            f"picture is {width}x{height}; a score needs at least {PATCH_PX} px each way"
        )
    return np.stack([distorted, cv2.absdiff(distorted, reference)])


def patch_starts(side: int) -> list[int]:
    """Return where patches start along a side: side by side, the last one moved back to the edge.

    The paper averages "each 128×128 image patch" and does not mention the rest; here every pixel
    counts.

    Example:
        >>> patch_starts(128), patch_starts(300)
        ([0], [0, 128, 172])
    """
    starts = list(range(0, side - PATCH_PX + 1, PATCH_PX))
    return starts if side % PATCH_PX == 0 else [*starts, side - PATCH_PX]


def picture_score(
    reference: Luma, distorted: Luma, scores_of: Callable[[Patches], NDArray[np.float32]]
) -> float:
    """Return the mean score of a picture's patches (section II-B); fails as `planes_of` does.

    Args:
        reference: ``(H, W)`` uint8, at least 128 px each way.
        distorted: Picture of the same size.
        scores_of: The network: patches to ``(N, 1)``.
    """
    planes = planes_of(reference, distorted)
    height, width = reference.shape
    patches = [
        planes[:, top : top + PATCH_PX, left : left + PATCH_PX]
        for top in patch_starts(height)
        for left in patch_starts(width)
    ]
    scores = []
    for first in range(0, len(patches), BATCH):
        batch = np.stack(patches[first : first + BATCH]).astype(np.float32) / np.float32(255)
        scores.append(np.array(scores_of(batch)))  # copied: engines use their output again
    return float(np.concatenate(scores).mean(dtype=np.float64))


class Scorer(AbstractContextManager["Scorer"]):
    """Scorer of pictures on the engine at hand; needs no torch.

    Args:
        path: An ONNX file that training made; default: the one that ships.
        engine: A name (see ``edgecar.engines.select.NAMES``), or an open engine for tests.
        threads: CPU threads; all usable cores if not given.

    Raises:
        ArtifactError: The file is missing or is no scorer.
        EngineError: The engine is absent or refuses the graph.
    """

    def __init__(
        self, path: Path = SHIPPED, engine: str | Engine = "auto", threads: int | None = None
    ) -> None:
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file; leave --scorer out for the one that ships")
        model = read_model(path)
        self.metadata = _metadata(model, path)
        if isinstance(engine, Engine):
            self.engine = engine
            return
        artifact = _artifact(model, self.metadata, path)
        # In float32: bfloat16 would round away what small differences are compared by.
        self.engine = open_engine(artifact, engine, precision="fp32", threads=threads)

    def score(self, reference: Luma, distorted: Luma) -> float:
        """Score a picture against its reference; arguments and failures as of `picture_score`.

        Returns:
            Score in the unit of ``metadata.target``, about ``metadata.low`` to ``metadata.high``;
            a network may go a little beyond both.
        """
        return picture_score(reference, distorted, self.engine.run)

    def gain(self, before: float, after: float) -> float:
        """Improvement of a score over one before; negative: worse."""
        return before - after if self.metadata.lower_is_better else after - before

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _metadata(model: "ModelProto", path: Path) -> ScorerMetadata:
    stored = {entry.key: entry.value for entry in model.metadata_props}.get(KEY)
    if stored is None:
        raise ArtifactError(f"{path} is no scorer; give a file that edgecar train-scorer made")
    try:
        return ScorerMetadata(**json.loads(stored))
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path}: its metadata is not understood ({error}); make it again"
        ) from error


def _artifact(model: "ModelProto", metadata: ScorerMetadata, path: Path) -> Artifact:
    """Return the artifact for an engine, which takes the number of planes from the metadata."""
    own = Metadata(
        model=metadata.model,
        channels=PLANES,
        halo_px=0,
        align_px=PATCH_PX,
        context="windowed",
        bytes_per_px=BYTES_PER_PX,
        precision="fp32",
        trained_on=metadata.target,
        weights_sha256=sha256_of(path),
        parity_max_error=metadata.parity_max_error,
        parity_budget=metadata.parity_max_error,
    )
    return Artifact(own, model.SerializeToString(), path)
