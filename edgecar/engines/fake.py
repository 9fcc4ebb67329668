"""An engine without a network, for tests of code that uses edgecar."""

from collections.abc import Callable

from edgecar.engines.base import Batch, Engine, EngineInfo, Quantisers


class FakeEngine(Engine):
    """Applies a function instead of a network.

    Args:
        function: Batch to batch of the same shape.
        channels: 1 or 3.
        shape: ``(batch, height, width)`` to behave like an engine of one shape.

    Example:
        >>> import numpy as np
        >>> with FakeEngine(lambda batch: 1 - batch) as engine:
        ...     engine.run(np.zeros((1, 1, 2, 2), np.float32)).mean()
        np.float32(1.0)
    """

    def __init__(
        self,
        function: Callable[[Batch], Batch],
        channels: int = 1,
        shape: tuple[int, int, int] | None = None,
        align_px: int = 1,
    ) -> None:
        info = EngineInfo("fake", "a Python function", "fp32", shape, "cpu")
        super().__init__(info, channels, align_px)
        self._function = function
        self.quantisers: Quantisers | None = None
        """Quantisers of the last batch."""

    def _run(self, batch: Batch, quantisers: Quantisers) -> Batch:
        self.quantisers = quantisers
        return self._function(batch)
