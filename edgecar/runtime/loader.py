"""What `edgecar.stream` gives: frames for a loop, a source for detectors that loop themselves."""

import atexit
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgecar.errors import SettingsError
from edgecar.media.live import LiveReader
from edgecar.media.reader import Reader
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.source import PipelineSettings
from edgecar.runtime.stream_frame import StreamFrame

LOADERS = "ultralytics.data.loaders"
"""Is never imported here: it is there if the caller uses it."""


class SourceType(NamedTuple):
    """What kind of source a stream is, in the words of Ultralytics."""

    stream: bool = True
    screenshot: bool = False
    from_img: bool = False
    tensor: bool = False


Batch = tuple[list[str], list[Any], list[str]]
"""Names, BGR pictures and texts to print."""


class Stream(Pipeline):
    """A pipeline that may own its restorer, and that ``model(stream, stream=True)`` accepts.

    Ultralytics' predictor takes a source that is an instance of one of its loaders, tells it its
    ``source_type``, and then iterates over batches. So where its loaders are imported, `isinstance`
    finds a stream to be a ``LoadStreams``; once the source type is set, batches of one come out in
    place of frames, with pictures in BGR. The predictor closes the stream at the end of its loop.

    Args:
        sources: By name; closed with the stream.
        restorer: For all sources.
        settings: For all sources.
        owns_restorer: Close it with the stream.
    """

    mode = "stream"
    """As Ultralytics' loader of streams: trackers keep what they know from frame to frame."""
    bs = 1
    """Pictures in a batch."""

    def __init__(
        self,
        sources: Mapping[str, Reader | LiveReader],
        restorer: Restorer,
        settings: PipelineSettings,
        *,
        owns_restorer: bool,
    ) -> None:
        self.count = 0
        """Batches given out."""
        self.fps = [float(each.facts.rate) for each in sources.values()]
        # Without passwords, and without slashes: Ultralytics makes names of files from them.
        self._shown = {name: each.source.shown.replace("/", "_") for name, each in sources.items()}
        self._source_type: Any = SourceType()
        self._in_batches = False
        self._owned = restorer if owns_restorer else None
        super().__init__(sources, restorer, settings)
        # A loop that never began leaves threads inside the engine, whose end would then be a crash.
        atexit.register(self.close)

    @property  # type: ignore[misc]  # `object` has a setter too
    def __class__(self) -> Any:
        """Ultralytics' loader of streams if its loaders are imported, for `isinstance` to find."""
        loaders = sys.modules.get(LOADERS)
        return getattr(loaders, "LoadStreams", type(self))

    @property
    def source_type(self) -> Any:
        """Flags of the kind of source; set by who wants batches."""
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

    def __next__(self) -> StreamFrame:
        """The next frame; a batch of one where a detector asked for batches.

        The end, or a failure, closes the stream.
        """
        try:
            frame = super().__next__()
        except BaseException:
            self.close()
            raise
        if not self._in_batches:
            return frame
        self.count += 1
        batch: Batch = [self._shown[frame.camera]], [frame.bgr], [""]
        return batch  # type: ignore[return-value]  # for who cannot be told about types

    def close(self) -> None:
        """Stop all threads and close all sources, and the restorer if it was opened here."""
        atexit.unregister(self.close)
        super().close()
        if self._owned is not None:
            self._owned.close()
