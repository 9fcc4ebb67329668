"""An engine without a network, for tests of code that uses edgecar."""

from collections.abc import Callable

from edgecar.engines.base import Batch, Engine, EngineInfo, Quantisers


class FakeEngine(Engine):
    """Applies a function instead of a network.

    Args:
        function: Batch to batch of the same shape; it is given the quantisers too if it takes them.
        channels: 1 or 3.
        shape: ``(batch, height, width)`` to behave like an engine of one shape.
        align_px: Multiple that the sides of a tile must be.
        takes_quantiser: True to behave like an artifact with that input.

    Example:
        >>> import numpy as np
        >>> with FakeEngine(lambda batch: 1 - batch) as engine:
        ...     engine.run(np.zeros((1, 1, 2, 2), np.float32)).mean()
        np.float32(1.0)
    """

    def __init__(
        self,
        function: Callable[..., Batch],
        channels: int = 1,
        shape: tuple[int, int, int] | None = None,
        align_px: int = 1,
        takes_quantiser: bool = False,
    ) -> None:
        info = EngineInfo("fake", "a Python function", "fp32", shape, "cpu")
        super().__init__(info, channels, align_px, takes_quantiser)
        self._function = function
        self.quantisers: Quantisers | None = None
        """Quantisers of the last batch."""

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        self.quantisers = quantisers
        return self._function(batch, quantisers) if self.takes_quantiser else self._function(batch)
