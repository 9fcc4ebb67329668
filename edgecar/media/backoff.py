"""How long to wait before the next attempt."""

import random


class Backoff:
    """Waits that double from one failure to the next, and vary.

    Args:
        first_seconds: The first wait.
        longest_seconds: No wait is longer, but for the jitter.
        jitter: Share by which each varies, so that many cameras behind one switch that failed do
            not come back in the same moment.
        rng: Draws the jitter.
    """

    def __init__(
        self, first_seconds: float, longest_seconds: float, jitter: float, rng: random.Random
    ) -> None:
        self._first_seconds = min(first_seconds, longest_seconds)
        self._longest_seconds, self._jitter, self._rng = longest_seconds, jitter, rng
        self._last_seconds = 0.0

    def next_seconds(self) -> float:
        """How long to wait now."""
        doubled = max(2 * self._last_seconds, self._first_seconds)
        self._last_seconds = min(doubled, self._longest_seconds)
        return self._last_seconds * (1 + self._jitter * self._rng.uniform(-1, 1))

    def succeeded(self, for_seconds: float) -> None:
        """Begin anew after a success that outlasted the wait for it.

        One that did not (a camera that takes the call and hangs up) must not be tried at the
        shortest wait for ever.
        """
        if for_seconds >= self._last_seconds:
            self._last_seconds = 0.0
