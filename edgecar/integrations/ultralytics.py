"""Streams for the loop of Ultralytics: ``model(edgecar.stream(url), stream=True)``.

`edgecar.stream` returns an `UltralyticsStream` where a program has imported Ultralytics, which is
never a dependency of edgecar.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ultralytics.data.loaders import LoadStreams

from edgecar.errors import SettingsError
from edgecar.media.live import LiveReader
from edgecar.media.reader import Reader
from edgecar.runtime.camera import PipelineSettings
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream import Stream

Batch = tuple[list[str], list[Any], list[str]]
"""Names, BGR pictures and texts to print."""


class SourceType(NamedTuple):
    """Kind of source that a stream is, in the words of Ultralytics."""

    stream: bool = True
    screenshot: bool = False
    from_img: bool = False
    tensor: bool = False


class UltralyticsStream(Stream, LoadStreams):  # type: ignore[misc]  # its library is not typed
    """A stream that is also a ``LoadStreams``, the kind of source that a predictor loops over.

    A predictor sets ``source_type`` and then iterates over batches. From then on batches of one
    come out in place of frames, with pictures in BGR. The predictor closes the stream at the end of
    its loop. Arguments as for `Stream`.
    """

    mode = "stream"
    """Mode of Ultralytics' loader of streams: trackers keep their state from frame to frame."""
    bs = 1
    """Number of pictures in a batch."""

    def __init__(
        self,
        sources: Mapping[str, Reader | LiveReader],
        restorer: Restorer,
        settings: PipelineSettings,
        *,
        owns_restorer: bool,
    ) -> None:
        self.count = 0
        """Number of batches given out."""
        self.fps = [float(each.facts.rate) for each in sources.values()]
        # Without passwords, and without slashes: Ultralytics makes names of files from them.
        self._shown = {name: each.source.shown.replace("/", "_") for name, each in sources.items()}
        self._source_type: Any = SourceType()
        self._in_batches = False
        Stream.__init__(self, sources, restorer, settings, owns_restorer=owns_restorer)

    @property
    def source_type(self) -> Any:
        """Flags of the kind of source; set by a predictor that wants batches."""
        return self._source_type

    @source_type.setter
    def source_type(self, kind: Any) -> None:
        if len(self._shown) > 1:
            # Trackers tell cameras apart by their place in a batch.
            raise SettingsError(
                f"got a stream of {len(self._shown)} cameras, a detector's own loop takes one; "
                "give it a stream for each, or loop over the frames and give it frame.bgr"
            )
        self._source_type, self._in_batches = kind, True

    def __next__(self) -> Any:
        """Return the next frame; a batch of one once a detector asked for batches."""
        frame = Stream.__next__(self)
        if not self._in_batches:
            return frame
        self.count += 1
        return [self._shown[frame.camera]], [frame.bgr], [""]
