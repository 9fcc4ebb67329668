"""The latest picture of a camera, for whoever looks."""

import threading
from collections import OrderedDict
from typing import Literal

import cv2
import numpy as np

from edgecar.engines.base import Codes
from edgecar.errors import MediaError
from edgecar.media.color import upright_bgr
from edgecar.media.frame import Frame
from edgecar.runtime.camera import StreamFrame

View = Literal["before", "after", "pair"]
JPEG_QUALITY = 85
CACHED = 4
"""Coded pictures kept: several people look at one."""

SMALLEST_WIDTH = 16


class LatestFrame:
    """Holds a camera's newest frame and codes it as JPEG when it is asked for; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frame: StreamFrame | None = None
        self._coded: OrderedDict[tuple[int, View, int], bytes] = OrderedDict()
        self.sequence = 0
        """Of the newest frame, counted from 1; 0 if there is none yet."""

    def put(self, frame: StreamFrame) -> None:
        """A newer one."""
        with self._lock:
            self._frame = frame
            self.sequence += 1

    @property
    def frame(self) -> StreamFrame | None:
        """The newest one."""
        return self._frame

    def jpeg(self, view: View, width: int) -> tuple[bytes, int]:
        """The newest picture and its number.

        Args:
            view: ``pair`` is before and after side by side, twice as wide.
            width: In pixels, of one picture; no more than it has.

        Raises:
            MediaError: There is no picture yet.
        """
        with self._lock:
            frame, sequence = self._frame, self.sequence
            if frame is None:
                raise MediaError("no picture yet; wait for the camera")
            width = max(SMALLEST_WIDTH, min(width, frame.frame.size[1]))
            key = sequence, view, width
            if key in self._coded:
                return self._coded[key], sequence
        coded = _jpeg(frame, view, width)
        with self._lock:
            self._coded[key] = coded
            while len(self._coded) > CACHED:
                self._coded.popitem(last=False)
        return coded, sequence


def _jpeg(frame: StreamFrame, view: View, width: int) -> bytes:
    frames = {"before": [frame.before], "after": [frame.frame]}.get(
        view, [frame.before, frame.frame]
    )
    picture = np.hstack([_scaled(each, width) for each in frames])
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(coded)


def _scaled(frame: Frame, width: int) -> Codes:
    bgr = upright_bgr(frame, fast=True)
    height = max(1, round(bgr.shape[0] * width / bgr.shape[1]))
    if bgr.shape[1] == width:
        return bgr
    return np.asarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
