"""Which network each camera gets, so that all of them keep up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FULL = 0.95
"""Share of the restoring thread's time above which something must give: the rest is for bursts."""

ROOM = 0.80
"""Share that a step back up must stay below, so that steps do not undo each other."""

PATIENCE_TICKS = 2
"""So many calls in a row must find too much load: one sees a burst of something else."""

FIRST_HOLD_TICKS = 5
LONGEST_HOLD_TICKS = 150

PROBE_HOLDS = 4
"""So many holds after a step down it is tried again though what was measured speaks against it:
that was measured when something else may have kept the machine busy."""

STEP_RATIO = 2.5
"""What a network is taken to cost, times that of the next smaller one, before it was measured."""


@dataclass(frozen=True)
class Demand:
    """What a camera asks for.

    Attributes:
        name: Of the camera.
        fps: Frames that come in a second.
        priority: Higher ones keep their network longer.
        costs: Seconds a frame of each network it may get, the wish first; None where it was not
            measured yet; 0 for letting frames pass.
    """

    name: str
    fps: float
    priority: int
    costs: Sequence[float | None]


@dataclass
class _Held:
    level: int = 0
    rested: int = 0
    """Ticks since it last changed."""
    hold: int = FIRST_HOLD_TICKS
    """Ticks it stays down; twice as long after each step up that did not last."""
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
        """The place in ``costs`` that each camera gets from now on.

        Called at a steady pace; a hold is counted in calls.

        Args:
            demands: Of all cameras that run.
        """
        self._held = {each.name: self._held.get(each.name, _Held()) for each in demands}
        for demand in demands:
            held = self._held[demand.name]
            held.level = min(held.level, len(demand.costs) - 1)
            held.rested += 1
        if self.load(demands) > FULL:
            self._ticks_over += 1
            if self._ticks_over >= PATIENCE_TICKS:
                self._step_down(demands)
        else:
            self._ticks_over = 0
            self._step_up(demands)
        return {name: held.level for name, held in self._held.items()}

    def load(self, demands: Sequence[Demand]) -> float:
        """Share of the restoring thread's time that is asked for; above 1 it cannot keep up."""
        return sum(each.fps * cost_of(each, self._held[each.name].level) for each in demands)

    def _step_down(self, demands: Sequence[Demand]) -> None:
        while self.load(demands) > FULL:
            lower = [each for each in demands if self._can_fall(each)]
            if not lower:
                return
            # Of the least important ones, that which frees most.
            chosen = min(lower, key=lambda each: (each.priority, -self._freed(each)))
            held = self._held[chosen.name]
            held.level += 1
            if held.rose:
                held.hold = min(2 * held.hold, LONGEST_HOLD_TICKS)
            held.rested, held.rose = 0, False

    def _step_up(self, demands: Sequence[Demand]) -> None:
        """One camera, so that what it costs is seen before the next."""
        waiting = [each for each in demands if self._held[each.name].level]
        for demand in sorted(waiting, key=lambda d: (-d.priority, -self._held[d.name].level)):
            held = self._held[demand.name]
            load = self.load(demands)
            more = demand.fps * (cost_of(demand, held.level - 1) - cost_of(demand, held.level))
            fits = load + more < ROOM and held.rested > held.hold
            if fits or (load < ROOM and held.rested > PROBE_HOLDS * held.hold):
                held.level -= 1
                held.rested, held.rose = 0, True
                return

    def _can_fall(self, demand: Demand) -> bool:
        return self._held[demand.name].level < len(demand.costs) - 1

    def _freed(self, demand: Demand) -> float:
        level = self._held[demand.name].level
        return demand.fps * (cost_of(demand, level) - cost_of(demand, level + 1))


def cost_of(demand: Demand, level: int) -> float:
    """Seconds a frame, measured or guessed from the nearest network that was; 0 if none was."""
    known = demand.costs[level]
    if known is not None:
        return known
    measured = [(place, cost) for place, cost in enumerate(demand.costs) if cost]
    if not measured:
        return 0.0
    place, cost = min(measured, key=lambda each: abs(each[0] - level))
    return cost * math.pow(STEP_RATIO, place - level)
