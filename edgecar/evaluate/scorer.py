"""Deep multi-scale IQA at work: a reference and a distorted picture in, a score out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecar.artifact import Artifact, Metadata, read_model
from edgecar.closing import Closing
from edgecar.engines.base import Engine
from edgecar.engines.select import open_engine
from edgecar.errors import ArtifactError
from edgecar.evaluate.metrics import Luma
from edgecar.evaluate.patches import PATCH_PX, PLANES, picture_score
from edgecar.files import PACKAGE, sha256_of

if TYPE_CHECKING:
    from onnx import ModelProto

SHIPPED = PACKAGE / "evaluate" / "weights" / "multiscale-iqa.onnx"
"""The scorer that ships; it learned a proxy, which its metadata name."""

KEY = "edgecar-scorer"  # no key of artifacts that restore: runtimes must not take it for one
BYTES_PER_PX = 128  # the first layers of both streams, alive at one time


@dataclass(frozen=True)
class ScorerMetadata:
    """What travels in the metadata of a scorer's ONNX file.

    Attributes:
        model: Name of the network.
        target: What it learned to predict: opinion scores, or a proxy that is named as such.
        low: Lowest score that it learned.
        high: Highest.
        lower_is_better: Whether a low score means a good picture.
        trained_on: Which pictures.
        parity_max_error: Largest difference of the ONNX file to torch, in the unit of the score.
    """

    model: str
    target: str
    low: float
    high: float
    lower_is_better: bool
    trained_on: str
    parity_max_error: float


def write_scorer_metadata(model: "ModelProto", metadata: ScorerMetadata) -> None:
    """Store the metadata in the metadata of a graph without any."""
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(asdict(metadata))


def read_scorer_metadata(model: "ModelProto", path: Path) -> ScorerMetadata:
    """The metadata in the metadata of a graph.

    Raises:
        ArtifactError: There are none, or they are not understood.
    """
    stored = {entry.key: entry.value for entry in model.metadata_props}.get(KEY)
    if stored is None:
        raise ArtifactError(
            f"{path} is no scorer; give a file that python -m edgecar.train.quality made"
        )
    try:
        return ScorerMetadata(**json.loads(stored))
    except (ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path}: its metadata are not understood ({error}); make it again"
        ) from (error)


class Scorer(Closing):
    """Scores pictures on the engine at hand; needs no torch.

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
        self.metadata = read_scorer_metadata(model, path)
        self.engine = (
            engine
            if isinstance(engine, Engine)
            # In float32: bfloat16 would round away what small differences are compared by.
            else open_engine(
                _artifact(model, self.metadata, path), engine, precision="fp32", threads=threads
            )
        )

    def score(self, reference: Luma, distorted: Luma) -> float:
        """Mean of the scores of the picture's patches.

        Args:
            reference: The clean picture, ``(H, W)`` uint8, at least 128 px each way.
            distorted: The picture to judge, of the same size.

        Returns:
            In the unit of ``metadata.target``, about ``metadata.low`` to
            ``metadata.high``; a network may go a little beyond both.

        Raises:
            DataError: Sizes differ or are too small.
        """
        return picture_score(reference, distorted, self.engine.run)

    def gain(self, before: float, after: float) -> float:
        """By how much a score is better than one before; negative: worse."""
        return before - after if self.metadata.lower_is_better else after - before

    def close(self) -> None:
        self.engine.close()


def _artifact(model: "ModelProto", metadata: ScorerMetadata, path: Path) -> Artifact:
    """What engines open: they run any graph, and take the number of planes from its metadata."""
    engine_facts = Metadata(
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
    return Artifact(engine_facts, model.SerializeToString(), path)
