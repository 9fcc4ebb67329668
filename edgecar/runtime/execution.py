"""One frame's windows on their way into an engine and back."""

from dataclasses import dataclass, field

import numpy as np

from edgecar.engines.base import Codes
from edgecar.runtime.canvas import Canvas, Work


class Scratch:
    """A picture to lay windows on, kept from frame to frame."""

    def __init__(self) -> None:
        self._codes = np.zeros(0, np.uint8)

    def picture(self, channels: int, canvas: Canvas) -> Codes:
        """``(C, H, W)``; what lay there before may still be seen between the windows."""
        shape = (channels, *canvas.size)
        count = channels * canvas.pixels
        if self._codes.size < count:
            self._codes = np.zeros(count, np.uint8)
        return self._codes[:count].reshape(shape)


@dataclass
class Execution:
    """What to run for a frame, and where its output goes.

    Attributes:
        work: Windows, and their canvas if they share one.
        padded: The frame they read, ``(C, H, W)``.
        restored: Gets what they keep, ``(C, H, W)``.
        scratch: To lay them on.
    """

    work: Work
    padded: Codes
    restored: Codes
    scratch: Scratch = field(default_factory=Scratch)

    def inputs(self) -> list[Codes]:
        """What the engine reads: every window, or all of them on their canvas."""
        reads = [window.read for window in self.work.windows]
        views = [self.padded[:, top:bottom, left:right] for top, left, bottom, right in reads]
        canvas = self.work.canvas
        if canvas is None:
            return views
        picture = self.scratch.picture(self.padded.shape[0], canvas)
        for view, (row, column) in zip(views, canvas.places, strict=True):
            picture[:, row : row + view.shape[1], column : column + view.shape[2]] = view
        return [picture]

    def take(self, number: int, output: Codes) -> None:
        """Keep what the engine made of one input.

        Args:
            number: Of the input, in the order of `inputs`.
            output: Of the same shape as that input.
        """
        canvas = self.work.canvas
        if canvas is None:
            self._keep(number, output)
            return
        for window, (row, column) in enumerate(canvas.places):
            self._keep(window, output[:, row:, column:])

    def _keep(self, number: int, output: Codes) -> None:
        window = self.work.windows[number]
        top, left, bottom, right = window.keep
        rows, columns = window.kept_in_window
        self.restored[:, top:bottom, left:right] = output[:, rows, columns]
