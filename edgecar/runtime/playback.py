"""One video on its way through a restorer, with a place in it that can be moved."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from edgecar.closing import Closing
from edgecar.media.frame import Frame
from edgecar.media.inputs import open_video
from edgecar.media.live import LiveReader, LiveSettings
from edgecar.media.reader import Reader
from edgecar.media.sources import source_from
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.source import PipelineSettings
from edgecar.runtime.stream_frame import StreamFrame
from edgecar.runtime.suited import Suit


class Playback(Closing):
    """Restored frames one after the other; closes what it opened.

    Args:
        address: A file, a camera's number or a URL.
        suit: What to restore with.
        settings: How frames are queued.
        live: Timeouts and backoff of what is no file.

    Raises:
        MediaError: It cannot be opened.
        ArtifactError: No weights fit.
        EngineError: The engine is absent or refuses the artifact.
    """

    def __init__(
        self, address: str | Path, suit: Suit, settings: PipelineSettings, live: LiveSettings
    ) -> None:
        self._address, self._settings, self._live = address, settings, live
        reader = self._opened()
        try:
            self._restorer = suit.restorer_for(reader.codec)
        except BaseException:
            reader.close()
            raise
        self.facts, self.codec = reader.facts, reader.codec
        self.shown = reader.source.shown
        """The address without passwords."""
        self.newest = settings.policy == "newest" or (settings.policy is None and reader.live)
        """Whether frames that were overtaken are left out."""
        self.seekable = source_from(address).repeatable
        self.frame_count = reader.frame_count if isinstance(reader, Reader) else None
        """How many to expect; None if nobody knows."""
        self.frame: StreamFrame | None = None
        """The one that was grabbed last, if there is one."""
        self.seconds = 0.0
        """When it is shown, counted from the first one."""
        self._play(reader, 0)

    def grab(self) -> bool:
        """Go to the next frame; False at the end.

        Raises:
            EdgecarError: The source or the engine failed.
        """
        self.frame = None
        self.frame = next(self._pipeline, None)
        if self.frame is None:
            self.seconds = 0.0  # as OpenCV
            return False
        self.position += 1
        self.seconds = self._seconds_of(self.frame)
        return True

    def seek(self, position: int) -> None:
        """Go to where `grab` gives frame ``position``, counted from 0, and no other.

        The file is decoded up to there: no index that containers have is right for every file.

        Raises:
            MediaError: The file is gone.
        """
        last = self.frame_count if self.frame_count is not None else position
        position = max(0, min(position, last))
        if position == self.position:
            return
        self._pipeline.close()
        self._play(_From(self._opened(), position), position)
        self.seconds = max(0, position - 1) / float(self.facts.rate)

    def close(self) -> None:
        """Stop all threads and give the source and the engine back."""
        self._pipeline.close()
        self._restorer.close()

    def _opened(self) -> Reader | LiveReader:
        return open_video(
            self._address, settings=self._live, read_coding=self._settings.reads_coding
        )

    def _play(self, source: "Reader | LiveReader | _From", position: int) -> None:
        self._pipeline = Pipeline({self.shown: source}, self._restorer, self._settings)
        self._first_pts: int | None = None
        self.position = position
        """Frames that lie behind: those gone by and those left out on purpose by `seek`."""
        self.frame, self.seconds = None, 0.0

    def _seconds_of(self, frame: StreamFrame) -> float:
        if frame.pts is None:
            return (self.position - 1) / float(self.facts.rate)
        if self._first_pts is None:
            # After a seek, the first frame's own time is not known but by the rate.
            gone = round((self.position - 1) / self.facts.rate / self.facts.time_base)
            self._first_pts = frame.pts - gone
        return float((frame.pts - self._first_pts) * self.facts.time_base)


class _From:
    """The frames of a file from one of them on."""

    live = False

    def __init__(self, reader: Reader | LiveReader, first: int) -> None:
        self._reader, self._first = reader, first

    def __iter__(self) -> Iterator[Frame]:
        return islice(self._reader, self._first, None)

    def close(self) -> None:
        self._reader.close()
