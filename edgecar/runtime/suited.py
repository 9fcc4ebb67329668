"""A restorer that suits what a video is coded with."""

import logging
from dataclasses import dataclass
from pathlib import Path

from edgecar.artifact import Artifact
from edgecar.engines.base import Engine
from edgecar.runtime.choice import choose_weights, limits_of
from edgecar.runtime.restorer import Restorer
from edgecar.spec import Coder, Precision

NETWORK = "edgecar-s"
"""What is taken where nothing is asked for; as in `edgecar run`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suit:
    """What a restorer is to be like, but for its weights.

    Attributes:
        network: A network that ships with weights, an exported file, or an open artifact.
        coder: Take shipped weights for this, whatever the video; None: for what it is coded with.
        engine: A name, or an open engine, which stays the caller's to close.
        precision: Arithmetic; None takes the engine's choice.
        reuse: Compute only what a change can reach.
        threads: CPU threads at most; None: all.
        skip_below_qp: Pass H.264 frames finer than this mean QP; 0: none. None: by the weights.
        skip_above_quality: Pass JPEG of a higher quality; 100: none. None: by the weights.
    """

    network: str | Path | Artifact = NETWORK
    coder: Coder | None = None
    engine: str | Engine = "auto"
    precision: Precision | None = None
    reuse: bool = True
    threads: int | None = None
    skip_below_qp: float | None = None
    skip_above_quality: int | None = None

    def restorer_for(self, codec: str) -> Restorer:
        """Open one; what was chosen is logged, as a warning where it does not fit.

        Args:
            codec: What the video is coded with: FFmpeg's short name.

        Raises:
            ArtifactError: No weights fit, or there is no such network.
            EngineError: The engine is absent or refuses the artifact.
        """
        artifact = self.network
        if isinstance(artifact, Artifact):
            limits = limits_of(artifact.metadata, any_coder=True)
        else:
            choice = choose_weights(str(artifact), codec, self.coder)
            artifact, limits = choice.artifact, choice.limits
            _log.info("network: %s", choice.reason)
            if choice.note:
                _log.warning("%s", choice.note)
        restorer = Restorer(
            artifact,
            self.engine,
            self.precision,
            reuse=self.reuse,
            threads=self.threads,
            limits=limits.but(self.skip_below_qp, self.skip_above_quality),
        )
        _log.info("engine: %s", restorer.engine.info)
        return restorer
