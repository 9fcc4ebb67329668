"""The engines all cameras share, and which network each camera gets when they ask for too much."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgecar.artifact import is_artifact_path
from edgecar.errors import EdgecarError
from edgecar.runtime.choice import choose_weights, coder_for
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stats import PassReason
from edgecar.serve.settings import CameraSettings, EngineChoice
from edgecar.spec import WeightsFor, coder_and_purpose, weights_for_purpose

RETRY_SECONDS = 10.0
"""Time from a failure of an engine to the next attempt. Frames pass unchanged meanwhile."""

FULL = 0.95
"""Share of the restoring thread's time above which load is shed; the rest is for bursts."""

ROOM = 0.80
"""Share that a step back up must stay below, so that steps do not undo each other."""

PATIENCE_TICKS = 2
"""Ticks in a row that must find too much load: a single one may see a short burst."""

FIRST_HOLD_TICKS = 5
LONGEST_HOLD_TICKS = 150

PROBE_HOLDS = 4
"""Holds after which a network is tried again although its measured cost speaks against it: the
machine may have been busy with something else at that time."""

STEP_RATIO = 2.5
"""Assumed cost of a network that was not measured yet, relative to the next smaller one."""

_log = logging.getLogger(__name__)

Key = tuple[str, WeightsFor]
"""Network, and what its weights are for."""


def open_restorer(network: str, weights_for: WeightsFor, choice: EngineChoice) -> Restorer:
    """Open a network with the weights for a coder, and for a purpose."""
    coder, purpose = coder_and_purpose(weights_for)
    artifact = choose_weights(network, coder, None if purpose == "view" else weights_for).artifact
    engine, precision, threads = choice.name, choice.precision, choice.threads
    return Restorer(artifact, engine, precision, threads=threads, codec=weights_for)


def weights_for_stream(codec: str, network: str, settings: CameraSettings) -> WeightsFor | None:
    """Return which weights suit a camera's stream; None if none are made for its coding.

    A network's own file suits any stream.
    """
    own = is_artifact_path(network)
    coder = settings.coder or coder_for(codec) or ("h264" if own else None)
    return coder and weights_for_purpose(coder, "view" if own else settings.purpose)


class Networks:
    """Restorers by network and what its weights are for.

    The thread that restores opens them; any may read.
    """

    def __init__(
        self,
        choice: EngineChoice,
        opener: Callable[[str, WeightsFor, EngineChoice], Restorer] = open_restorer,
    ) -> None:
        self._choice, self._opener = choice, opener
        self._restorers: dict[Key, Restorer] = {}
        self._errors: dict[Key, tuple[str, float]] = {}  # message, and when to try again

    def restorer(self, network: str, weights_for: WeightsFor) -> Restorer | PassReason:
        """Return a restorer, opened if it was not; a failure is tried again after a while."""
        key = network, weights_for
        if (restorer := self.peek(*key)) is not None:
            return restorer
        if self.error(*key):
            return "engine_failed"
        try:
            restorer = self._opener(network, weights_for, self._choice)
        except Exception as error:  # a failure of one network must not end the others
            if not isinstance(error, EdgecarError):
                _log.exception("network %s for %s cannot be opened", *key)
            self._note(key, error)
            return "engine_failed"
        self._restorers[key] = restorer
        _log.info("opened %s for %s on %s", network, weights_for, restorer.engine.info.name)
        return restorer

    def failed(self, restorer: Restorer, error: EdgecarError) -> PassReason:
        """Close a restorer that failed; it is opened again later."""
        for key in [key for key, each in self._restorers.items() if each is restorer]:
            del self._restorers[key]
            self._note(key, error)
        restorer.close()
        return "engine_failed"

    def error(self, network: str, weights_for: WeightsFor) -> str | None:
        """Return why a network does not run."""
        message, until = self._errors.get((network, weights_for), ("", 0.0))
        return message or None if time.monotonic() < until else None

    def peek(self, network: str, weights_for: WeightsFor) -> Restorer | None:
        """Return a restorer if it is open."""
        return self._restorers.get((network, weights_for))

    @property
    def open(self) -> dict[Key, Restorer]:
        """All restorers at work."""
        return self._restorers.copy()

    def close(self) -> None:
        """Close all engines."""
        restorers, self._restorers = self._restorers, {}
        for restorer in restorers.values():
            restorer.close()

    def _note(self, key: Key, error: Exception) -> None:
        _log.error("network %s for %s: %s", *key, error)
        message = str(error) or type(error).__name__
        self._errors[key] = message, time.monotonic() + RETRY_SECONDS


@dataclass(frozen=True)
class Demand:
    """Load that a camera asks for."""

    name: str
    fps: float
    """Frames that arrive per second."""
    priority: int
    """Cameras of higher priority keep their network longer."""
    costs: Sequence[float | None]
    """Seconds per frame of each network it may get, the preferred one first. None where it was
    not measured yet; 0 for letting frames pass."""

    def cost(self, level: int) -> float:
        """Return the cost in seconds per frame, guessed from the nearest network if unmeasured."""
        known = self.costs[level]
        if known is not None:
            return known
        measured = [(place, cost) for place, cost in enumerate(self.costs) if cost]
        if not measured:
            return 0.0
        place, cost = min(measured, key=lambda each: abs(each[0] - level))
        return cost * math.pow(STEP_RATIO, place - level)


@dataclass
class _Held:
    """Place of one camera in its list of networks."""

    level: int = 0
    rested_ticks: int = 0
    """Ticks since the level changed."""
    hold_ticks: int = FIRST_HOLD_TICKS
    """Ticks before a step up; doubled after each step up that did not last."""
    rose: bool = False


@dataclass
class Shedder:
    """Steps cameras down to cheaper networks under load, and back up one at a time.

    Example:
        >>> shedder = Shedder()
        >>> demands = [Demand("gate", 25, 0, (0.05, 0.02, 0.0))]
        >>> shedder.levels(demands), shedder.levels(demands)
        ({'gate': 0}, {'gate': 1})
    """

    _held: dict[str, _Held] = field(default_factory=dict)
    _ticks_over: int = 0

    def levels(self, demands: Sequence[Demand]) -> Mapping[str, int]:
        """Return the place in ``costs`` that each camera gets until the next call.

        Call it at a steady pace: each call is one tick.
        """
        self._held = {each.name: self._held.get(each.name, _Held()) for each in demands}
        for demand in demands:
            held = self._held[demand.name]
            held.level = min(held.level, len(demand.costs) - 1)
            held.rested_ticks += 1
        if self.load(demands) > FULL:
            self._ticks_over += 1
            if self._ticks_over >= PATIENCE_TICKS:
                self._step_down(demands)
        else:
            self._ticks_over = 0
            self._step_up(demands)
        return {name: held.level for name, held in self._held.items()}

    def load(self, demands: Sequence[Demand]) -> float:
        """Return the share of the restoring thread's time that is asked for."""
        return sum(each.fps * each.cost(self._held[each.name].level) for each in demands)

    def _step_down(self, demands: Sequence[Demand]) -> None:
        while self.load(demands) > FULL:
            lower = [each for each in demands if self._held[each.name].level < len(each.costs) - 1]
            if not lower:
                return
            # Among the least important cameras, take the one that frees most.
            chosen = min(lower, key=lambda d: (d.priority, self._change(d, +1)))
            held = self._held[chosen.name]
            held.level += 1
            if held.rose:
                held.hold_ticks = min(2 * held.hold_ticks, LONGEST_HOLD_TICKS)
            held.rested_ticks, held.rose = 0, False

    def _step_up(self, demands: Sequence[Demand]) -> None:
        """Raise one camera only, so that its cost is seen before the next one rises."""
        load = self.load(demands)
        waiting = [each for each in demands if self._held[each.name].level]
        for demand in sorted(waiting, key=lambda d: (-d.priority, -self._held[d.name].level)):
            held = self._held[demand.name]
            fits = load + self._change(demand, -1) < ROOM and held.rested_ticks > held.hold_ticks
            if fits or (load < ROOM and held.rested_ticks > PROBE_HOLDS * held.hold_ticks):
                held.level -= 1
                held.rested_ticks, held.rose = 0, True
                return

    def _change(self, demand: Demand, steps: int) -> float:
        """Return the load that a step down (+1) or up (-1) adds."""
        level = self._held[demand.name].level
        return demand.fps * (demand.cost(level + steps) - demand.cost(level))
