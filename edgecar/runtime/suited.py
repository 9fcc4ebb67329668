"""A restorer that suits what a video is coded with."""

import logging
from dataclasses import dataclass
from pathlib import Path

from edgecar.artifact import Artifact
from edgecar.engines.base import Engine
from edgecar.runtime.choice import choose_weights
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
    """

    network: str | Path | Artifact = NETWORK
    coder: Coder | None = None
    engine: str | Engine = "auto"
    precision: Precision | None = None
    reuse: bool = True
    threads: int | None = None

    def restorer_for(self, codec: str) -> Restorer:
        """Open one; what was chosen is logged, as a warning where it does not fit.

        Args:
            codec: What the video is coded with: FFmpeg's short name.

        Raises:
            ArtifactError: No weights fit, or there is no such network.
            EngineError: The engine is absent or refuses the artifact.
        """
        artifact = self.network
        if not isinstance(artifact, Artifact):
            choice = choose_weights(str(artifact), codec, self.coder)
            artifact = choice.artifact
            _log.info("network: %s", choice.reason)
            if choice.note:
                _log.warning("%s", choice.note)
        restorer = Restorer(
            artifact, self.engine, self.precision, reuse=self.reuse, threads=self.threads
        )
        _log.info("engine: %s", restorer.engine.info)
        return restorer
