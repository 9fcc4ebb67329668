"""What runs cost on this machine, learnt from those that were done."""

from edgecar.runtime.canvas import Work

WINDOW_PX = 1500  # what handling a window on a canvas costs, in pixels
CANVAS_FACTOR = 1.2  # of a canvas's pixels over a full frame's, until it was measured
RISE, FALL = 0.1, 0.5  # share of a measurement in the next estimate, above and below the last
TRY_EVERY = 200  # frames after which the other way is measured again


class CostModel:
    """Picks the faster way to bring a frame up to date; the output is the same either way.

    Speed changes with the engine, the network and what else the machine does, and a canvas has its
    own price: shapes that an engine has not seen, windows to copy, a cover to find.
    """

    def __init__(self) -> None:
        self._seconds_per_px: dict[bool, float] = {}  # on a canvas; in full
        self._since_tried = 0

    def prefers(self, canvas: Work, full: Work) -> bool:
        """Whether to run a canvas rather than the full frame."""
        known = self._seconds_per_px
        factor = known[True] / known[False] if len(known) == 2 else CANVAS_FACTOR
        cheaper = factor * _weight(canvas) < _weight(full)
        self._since_tried = 0 if cheaper else self._since_tried + 1
        # An estimate that was bad once would stay so: what it turns down is never measured.
        return cheaper or (self._since_tried % TRY_EVERY == 0 and canvas.pixels < full.pixels)

    def learn(self, work: Work, seconds: float) -> None:
        """Note how long a frame took, from finding what is stale to the last byte."""
        if not work.windows:
            return
        on_canvas, measured = work.canvas is not None, seconds / _weight(work)
        before = self._seconds_per_px.get(on_canvas, measured)
        # First runs and those in which another program had the CPU say little; fast ones do.
        share = FALL if measured < before else RISE
        self._seconds_per_px[on_canvas] = before + share * (min(measured, 2 * before) - before)


def _weight(work: Work) -> float:
    return work.pixels + (WINDOW_PX * len(work.windows) if work.canvas else 0)
