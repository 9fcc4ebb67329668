"""One engine for all cameras: restorers of the networks in use, opened when they are needed."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgecar.artifact import is_artifact_path
from edgecar.closing import Closing
from edgecar.engines.base import EngineInfo
from edgecar.errors import EdgecarError
from edgecar.runtime.choice import choose_weights, coder_for
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason
from edgecar.serve.settings import EngineChoice
from edgecar.spec import Coder

RETRY_SECONDS = 10.0
"""From a failure of an engine to the next attempt; frames pass as they are meanwhile."""

_log = logging.getLogger(__name__)

Key = tuple[str, Coder]
"""Network and coder of its weights."""


@dataclass(frozen=True)
class Open:
    """An engine at work."""

    network: str
    coder: Coder
    info: EngineInfo


class Networks(Closing):
    """Restorers by network and coder; used in the thread that restores, looked at from any.

    Args:
        choice: Engine, arithmetic and threads of all.
        opener: Makes a restorer; for tests.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        choice: EngineChoice,
        opener: Callable[[str, Coder, EngineChoice], Restorer] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._choice, self._opener, self._clock = choice, opener or open_restorer, clock
        self._lock = threading.Lock()
        self._restorers: dict[Key, Restorer] = {}
        self._errors: dict[Key, tuple[str, float]] = {}

    def restorer(self, network: str, coder: Coder) -> Restorer | PassReason:
        """What restores, opened if it was not; a failure is tried again after a while."""
        key = network, coder
        with self._lock:
            if key in self._restorers:
                return self._restorers[key]
            _, until = self._errors.get(key, ("", 0.0))
            if self._clock() < until:
                return "engine_failed"
        try:
            restorer = self._opener(network, coder, self._choice)
        except Exception as error:  # nothing of one network may end the others
            if not isinstance(error, EdgecarError):
                _log.exception("network %s for %s cannot be opened", *key)
            self._note(key, error)
            return "engine_failed"
        with self._lock:
            self._restorers[key] = restorer
            self._errors.pop(key, None)
        _log.info("opened %s for %s on %s", network, coder, restorer.engine.info.name)
        return restorer

    def failed(self, restorer: Restorer, error: EdgecarError) -> PassReason:
        """Close a restorer that failed; it is opened again later."""
        with self._lock:
            keys = [key for key, each in self._restorers.items() if each is restorer]
            for key in keys:
                del self._restorers[key]
        for key in keys:
            self._note(key, error)
        restorer.close()
        return "engine_failed"

    def error(self, network: str, coder: Coder) -> str | None:
        """Why a network does not run."""
        with self._lock:
            message, until = self._errors.get((network, coder), ("", 0.0))
        return message or None if self._clock() < until else None

    def peek(self, network: str, coder: Coder) -> Restorer | None:
        """A restorer that is open already."""
        with self._lock:
            return self._restorers.get((network, coder))

    @property
    def open(self) -> list[Open]:
        """All engines at work."""
        with self._lock:
            return [Open(*key, each.engine.info) for key, each in self._restorers.items()]

    def close(self) -> None:
        """Close all engines."""
        with self._lock:
            restorers = list(self._restorers.values())
            self._restorers.clear()
        for restorer in restorers:
            restorer.close()

    def _note(self, key: Key, error: Exception) -> None:
        _log.error("network %s for %s: %s", *key, error)
        with self._lock:
            self._errors[key] = str(error) or type(error).__name__, self._clock() + RETRY_SECONDS


def open_restorer(network: str, coder: Coder, choice: EngineChoice) -> Restorer:
    """A restorer with the weights of a coder.

    Raises:
        ArtifactError: There is no such network, or none for the coder.
        EngineError: The engine is absent or refuses it.
    """
    artifact = choose_weights(network, coder).artifact
    return Restorer(artifact, choice.name, choice.precision, threads=choice.threads, codec=coder)


def coder_of(codec: str, network: str, asked: Coder | None) -> Coder | None:
    """Return the coder whose weights suit an input; None if none are made for it.

    Args:
        codec: How the input is coded: FFmpeg's short name.
        network: A network that ships with weights, or a file, which is taken whatever the input.
        asked: Coder that the camera's settings name; None if they name none.
    """
    return asked or coder_for(codec) or ("h264" if is_artifact_path(network) else None)
