"""Restoring pictures where they lie in a buffer; knows nothing of GStreamer's bindings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from edgecar.closing import Closing
from edgecar.errors import MediaError, SettingsError
from edgecar.media.frame import Colour, Frame, Plane, chroma_size
from edgecar.runtime.cleaner import open_restorer
from edgecar.spec import CODERS, Precision, Size

PLANES = {"I420": 3, "NV12": 2}
"""Planes by format: Y, U and V, or Y and pairs of U and V; 8-bit 4:2:0 both."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a picture lies in a buffer.

    Attributes:
        pixels: ``I420`` or ``NV12``.
        size: ``(height, width)``.
        offsets: First byte of each plane.
        strides: Bytes from one line of each plane to the next.
        colour: Meaning of the numbers.
    """

    pixels: str
    size: Size
    offsets: tuple[int, ...]
    strides: tuple[int, ...]
    colour: Colour

    def frame(self, data: memoryview) -> Frame:
        """The picture, without a copy: writing to its planes writes to the buffer.

        Raises:
            MediaError: The format is another, or the buffer ends before the picture.
        """
        if self.pixels not in PLANES:
            raise MediaError(f"got {self.pixels} pixels; convert to {' or '.join(PLANES)}")
        small = chroma_size(self.size)
        y = self._plane(data, 0, self.size)
        if self.pixels == "I420":
            u, v = self._plane(data, 1, small), self._plane(data, 2, small)
        else:
            u, v = (self._plane(data, 1, small, first, 2) for first in (0, 1))
        return Frame(y, u, v, colour=self.colour)

    def _plane(
        self, data: memoryview, number: int, size: Size, first: int = 0, step: int = 1
    ) -> Plane:
        offset, stride = self.offsets[number] + first, self.strides[number]
        try:
            plane: Plane = np.ndarray(size, np.uint8, data, offset, (stride, step))
        except (TypeError, ValueError) as error:
            height, width = self.size
            raise MediaError(
                f"a buffer of {len(data)} bytes ends before its {self.pixels} picture of "
                f"{width}x{height}; check the element that sends it"
            ) from error
        return plane


class Filter(Closing):
    """Restores pictures of one stream in place.

    Args:
        network: A network that ships with weights, or an exported file.
        coder: Coder of the pictures, which chooses among shipped weights.
        engine: A name.
        precision: Arithmetic; empty takes the engine's choice.
        reuse: Compute only what a change can reach.
        threads: CPU threads at most; 0: all.

    Raises:
        SettingsError: The coder or precision is unknown.
        ArtifactError: There is no such network, or no weights of it for the coder.
        EngineError: The engine is absent or refuses the artifact.
    """

    def __init__(
        self, network: str, coder: str, engine: str, precision: str, reuse: bool, threads: int
    ) -> None:
        self.restorer = open_restorer(
            coder,
            network=network,
            coder=_known("coder", coder, CODERS),
            engine=engine,
            precision=_known("precision", precision, get_args(Precision)) if precision else None,
            reuse=reuse,
            threads=threads or None,
        )

    def restore(self, data: memoryview, layout: Layout) -> None:
        """Restore a picture in a buffer; bytes between its lines stay as they are.

        Raises:
            MediaError: See `Layout.frame`.
            EngineError: The engine fails.
        """
        before = layout.frame(data)
        after = self.restorer.restore(before)
        for old, new in zip(_planes(before), _planes(after), strict=True):
            if new is not old:
                np.copyto(old, new)

    def close(self) -> None:
        self.restorer.close()


def _planes(frame: Frame) -> tuple[Plane, Plane, Plane]:
    return frame.y, frame.u, frame.v


def _known(what: str, name: str, names: Sequence[str]) -> Any:
    if name not in names:
        raise SettingsError(f"{what} is {name!r}; give one of {', '.join(names)}")
    return name
