"""``cap = edgecar.VideoCapture(url)`` where a program has ``cv2.VideoCapture(url)``."""

import logging
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgecar.engines.base import Codes
from edgecar.errors import EdgecarError
from edgecar.media.color import bgr_from_frame, upright_bgr
from edgecar.media.inputs import open_video
from edgecar.media.live import LiveReader
from edgecar.media.reader import Reader
from edgecar.media.sources import LIVE_DEFAULTS, LiveSettings, source_from
from edgecar.runtime.camera import PipelineSettings, StreamFrame
from edgecar.runtime.cleaner import open_restorer
from edgecar.runtime.pipeline import Pipeline
from edgecar.spec import Policy

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edgecar.runtime.cleaner import RestorerOptions

UNKNOWN = -1.0 if int(cv2.__version__.partition(".")[0]) >= 5 else 0.0
"""Answer of this OpenCV where it knows none. Not asked of a capture of its own: a program
may have put this one in its place."""

FOURCC = {
    "av1": "AV01",
    "cinepak": "cvid",
    "dnxhd": "AVdn",
    "dvvideo": "dvsd",
    "ffvhuff": "FFVH",
    "huffyuv": "HFYU",
    "jpeg2000": "mjp2",
    "mjpeg": "MJPG",
    "mpeg1video": "mpg1",
    "mpeg2video": "mpg2",
    "mpeg4": "FMP4",
    "msmpeg4v2": "MP42",
    "msmpeg4v3": "MP43",
    "png": "MPNG",
    "prores": "apch",
    "qtrle": "rle",
    "rawvideo": "\0\0\0\0",
    "utvideo": "ULRA",
    "vp8": "VP80",
    "vp9": "VP90",
}
"""Codes that OpenCV answers, whatever a file says, where FFmpeg's name of the coding is not it."""

_log = logging.getLogger(__name__)


class Playback:
    """Restored frames of one source, one after the other, and the place among them."""

    def __init__(
        self,
        address: str | Path,
        settings: PipelineSettings,
        live: LiveSettings,
        options: "RestorerOptions",
    ) -> None:
        self._open = partial(
            open_video, address, settings=live, read_coding=settings.reads_coding()
        )
        reader = self._open()
        try:
            self._restorer = open_restorer(reader.codec, **options)
        except BaseException:
            reader.close()
            raise
        self._settings, self._shown = settings, reader.source.shown
        self.facts, self.codec = reader.facts, reader.codec
        self.newest = settings.policy == "newest" or (settings.policy is None and reader.live)
        self.seekable = source_from(address).repeatable
        self.frame_count = reader.frame_count if isinstance(reader, Reader) else None
        self.frame: StreamFrame | None = None
        """The one that was grabbed last, if there is one."""
        self.seconds = 0.0
        """When it is shown, counted from the first one."""
        self._first_pts: int | None = None
        self._play(reader, 0)

    def grab(self) -> bool:
        """Go to the next frame; False at the end."""
        self.frame = None
        self.frame = next(self._pipeline, None)
        if self.frame is None:
            self.seconds = 0.0  # as OpenCV
            return False
        self.position += 1
        facts, pts = self.facts, self.frame.pts
        if pts is None:
            self.seconds = (self.position - 1) / float(facts.rate)
            return True
        if self._first_pts is None:
            # After a seek, the first frame's own time is not known but by the rate.
            self._first_pts = pts - round((self.position - 1) / facts.rate / facts.time_base)
        self.seconds = float((pts - self._first_pts) * facts.time_base)
        return True

    def seek(self, position: int) -> None:
        """Go to where `grab` gives frame ``position``, counted from 0, and no other.

        The file is decoded up to there: no index that containers have is right for every file.
        """
        last = self.frame_count if self.frame_count is not None else position
        position = max(0, min(position, last))
        if position == self.position:
            return
        self._pipeline.close()
        reader = self._open()
        deque(islice(reader, position), maxlen=0)
        self._play(reader, position)
        self.seconds = max(0, position - 1) / float(self.facts.rate)

    def close(self) -> None:
        """Stop all threads and give the source and the engine back."""
        self._pipeline.close()
        self._restorer.close()

    def _play(self, reader: Reader | LiveReader, position: int) -> None:
        self._pipeline = Pipeline({self._shown: reader}, self._restorer, self._settings)
        self._first_pts = None
        self.position = position
        """Frames that lie behind: those gone by and those left out on purpose by `seek`."""
        self.frame, self.seconds = None, 0.0


class VideoCapture(AbstractContextManager["VideoCapture"]):
    """Restored frames by the methods of ``cv2.VideoCapture``.

    Of a file every frame comes, of a camera the newest: reading and restoring go on in threads.
    Shipped weights are chosen by what the source is coded with. Return values are OpenCV's:
    ``read`` gives ``(False, None)`` at the end and never raises. What cannot be opened gives a
    capture that is not open, a source or engine that fails later closes it; `error` and a logged
    warning say why.

    Colours are converted as OpenCV does it: where nothing is restored, its very bytes come out.
    That repeats chroma instead of interpolating it, so pixels at edges of colour are some codes
    off those of `edgecar.stream`. It differs from OpenCV in this: pictures that are to be mirrored
    are, cameras that break off are connected again, moving to a frame decodes the file up to it,
    and one that is no longer referred to stops its threads.

    Args:
        source: A file, a camera's number or a URL; None opens nothing yet.
        apiPreference, params: Accepted and not used.
        policy, max_latency_ms, skip_below_qp, skip_above_quality: See
            `edgecar.runtime.camera.PipelineSettings`.
        live: Timeouts and backoff of cameras and network streams.
        options: ``network``, ``coder``, ``engine``, ``precision``, ``reuse`` and ``threads``, as
            for `edgecar.runtime.cleaner.open_restorer`. An open engine is used by no other capture
            meanwhile.

    Example:
        >>> def detect_all(url, detector):
        ...     cap = VideoCapture(url)
        ...     while cap.isOpened():
        ...         ok, bgr = cap.read()
        ...         if not ok:
        ...             break
        ...         detector(bgr)
        ...     cap.release()
        >>> VideoCapture("nowhere.mp4").error
        'nowhere.mp4 does not exist; give the path of a video file'
    """

    def __init__(
        self,
        source: str | int | Path | None = None,
        apiPreference: int = cv2.CAP_ANY,
        params: Sequence[int] = (),
        *,
        policy: Policy | None = None,
        max_latency_ms: float | None = None,
        skip_below_qp: float | None = None,
        skip_above_quality: int | None = None,
        live: LiveSettings = LIVE_DEFAULTS,
        **options: "Unpack[RestorerOptions]",
    ) -> None:
        self.error: str | None = None
        """Why it is not open, or no longer; None if nothing went wrong."""
        self._settings = PipelineSettings(
            policy=policy,
            max_latency_ms=max_latency_ms,
            skip_below_qp=skip_below_qp,
            skip_above_quality=skip_above_quality,
        )
        self._live, self._options = live, options
        self._turned = True
        self._raises = False
        self._playback: Playback | None = None
        self._stop: Callable[[], object] = lambda: None
        if source is not None:
            self.open(source, apiPreference, params)

    def open(
        self,
        source: str | int | Path,
        apiPreference: int = cv2.CAP_ANY,  # noqa: ARG002
        params: Sequence[int] = (),  # noqa: ARG002
    ) -> bool:
        """Open another source in place of the present one; whether that worked."""
        self.release()
        self.error = None
        try:
            address = source if isinstance(source, Path) else str(source)
            playback = Playback(address, self._settings, self._live, self._options)
        except EdgecarError as error:
            return self._failed(error)
        self._playback = playback
        # Not a method of this object: that would keep alive what is to be noticed as gone.
        self._stop = weakref.finalize(self, playback.close)
        return True

    def isOpened(self) -> bool:
        """Return True if frames may come; stays true at the end of a file, as in OpenCV."""
        return self._playback is not None

    def read(self, image: Codes | None = None) -> tuple[bool, Codes | None]:
        """The next frame, ``(H, W, 3)`` uint8 in BGR order: `grab`, then `retrieve`."""
        return self.retrieve(image) if self.grab() else (False, None)

    def grab(self) -> bool:
        """Go to the next frame and leave it as it is; False where there is none."""
        playback = self._playback
        try:
            return playback is not None and playback.grab()
        except EdgecarError as error:
            return self._failed(error)

    def retrieve(self, image: Codes | None = None, flag: int = 0) -> tuple[bool, Codes | None]:  # noqa: ARG002
        """The frame that was grabbed, as a new array.

        Args:
            image: Is written to and returned instead if it has the frame's shape.
            flag: Accepted and not used.
        """
        playback = self._playback
        frame = playback.frame if playback else None
        if frame is None:
            return False, None
        shown = upright_bgr if self._turned else bgr_from_frame
        bgr = shown(frame.frame, fast=True)
        if image is not None and image.shape == bgr.shape and image.dtype == bgr.dtype:
            np.copyto(image, bgr)
            bgr = image
        return True, bgr

    def release(self) -> None:
        """Stop all threads and give the source back; harmless when repeated."""
        self._playback = None
        self._stop()

    close = release

    def __exit__(self, *_: object) -> None:
        self.release()

    def get(self, propId: int) -> float:
        """Return a property ``cv2.CAP_PROP_…``; OpenCV's own answer where it is unknown."""
        playback = self._playback
        if playback is None:
            return UNKNOWN
        facts = playback.facts
        height, width = facts.size
        if self._turned and facts.rotation_degrees % 180:
            height, width = width, height
        count, aspect = playback.frame_count, facts.sample_aspect
        answers: dict[int, float | Fraction] = {
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
            cv2.CAP_PROP_FPS: facts.rate,
            cv2.CAP_PROP_FRAME_COUNT: count or UNKNOWN,
            cv2.CAP_PROP_POS_FRAMES: playback.position,
            cv2.CAP_PROP_POS_MSEC: 1e3 * playback.seconds,
            cv2.CAP_PROP_POS_AVI_RATIO: playback.position / count if count else UNKNOWN,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(
                *FOURCC.get(playback.codec, playback.codec)[:4].ljust(4)
            ),
            cv2.CAP_PROP_FORMAT: cv2.CV_8UC3,
            cv2.CAP_PROP_CONVERT_RGB: 1,
            cv2.CAP_PROP_BUFFERSIZE: 1 if playback.newest else UNKNOWN,
            cv2.CAP_PROP_ORIENTATION_AUTO: self._turned,
            cv2.CAP_PROP_ORIENTATION_META: -facts.rotation_degrees % 360,
            cv2.CAP_PROP_SAR_NUM: aspect.numerator if aspect else 0,
            cv2.CAP_PROP_SAR_DEN: aspect.denominator if aspect else 1,
        }
        return float(answers.get(propId, UNKNOWN))

    def set(self, propId: int, value: float) -> bool:
        """Set a property; False where it cannot be.

        ``CAP_PROP_POS_FRAMES`` and ``CAP_PROP_POS_MSEC`` move within a file. Cameras have a buffer
        of one frame and no other. Frames are always BGR.
        """
        playback = self._playback
        if playback is None:
            return False
        if propId == cv2.CAP_PROP_ORIENTATION_AUTO:
            self._turned = bool(value)
            return True
        if propId == cv2.CAP_PROP_CONVERT_RGB:
            return bool(value)
        if propId == cv2.CAP_PROP_BUFFERSIZE:
            return playback.newest and value >= 1
        if propId == cv2.CAP_PROP_POS_MSEC:
            value = value / 1e3 * float(playback.facts.rate)
        elif propId != cv2.CAP_PROP_POS_FRAMES:
            return False
        if not playback.seekable:
            return False
        try:
            playback.seek(round(value))
        except EdgecarError as error:
            return self._failed(error)
        return True

    def getBackendName(self) -> str:
        """Who reads and restores; empty where nothing is open."""
        return "EDGECAR" if self._playback else ""

    def setExceptionMode(self, enable: bool) -> None:
        """Raise from ``open`` and ``grab`` what else ends up in `error`."""
        self._raises = enable

    def getExceptionMode(self) -> bool:
        """Return True if errors are raised."""
        return self._raises

    def _failed(self, error: EdgecarError) -> bool:
        self.release()
        self.error = str(error)
        if self._raises:
            raise error
        _log.warning("%s", error)
        return False
