"""``for frame in edgecar.stream(url)``."""

import atexit
import sys
from collections.abc import Mapping
from pathlib import Path

from edgecar.media.inputs import open_video
from edgecar.media.live import LiveReader
from edgecar.media.reader import Reader
from edgecar.media.sources import LIVE_DEFAULTS, LiveSettings
from edgecar.redaction import text_redacted
from edgecar.runtime.camera import PipelineSettings, StreamFrame
from edgecar.runtime.choice import shared_codec
from edgecar.runtime.cleaner import open_restorer
from edgecar.runtime.pipeline import Pipeline
from edgecar.runtime.restorer import Restorer
from edgecar.spec import Policy

LOADERS = "ultralytics.data.loaders"
"""Module that is imported already where the program uses Ultralytics. It is never imported here."""


class Stream(Pipeline):
    """A pipeline that may own its restorer, which it then closes at its end."""

    def __init__(
        self,
        sources: Mapping[str, Reader | LiveReader],
        restorer: Restorer,
        settings: PipelineSettings,
        *,
        owns_restorer: bool,
    ) -> None:
        self._owned = restorer if owns_restorer else None
        super().__init__(sources, restorer, settings)
        # A loop that never began leaves threads inside the engine, whose end would then be a crash.
        atexit.register(self.close)

    def __next__(self) -> StreamFrame:
        """Return the next frame; the end, or a failure, closes the stream."""
        try:
            return super().__next__()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop all threads and close all sources, and the restorer if it was opened here."""
        atexit.unregister(self.close)
        super().close()
        if self._owned is not None:
            self._owned.close()


Address = str | int | Path


def stream(
    source: Address | Mapping[str, Address],
    restorer: Restorer | None = None,
    *,
    policy: Policy | None = None,
    max_latency_ms: float | None = None,
    skip_below_qp: float | None = None,
    skip_above_quality: int | None = None,
    quantiser: float | None = None,
    live: LiveSettings = LIVE_DEFAULTS,
) -> Stream:
    """Restored frames of one source, or of several that share the restorer.

    Reading and restoring go on in threads while a frame is used. Leave the ``with`` block, or call
    ``close``, to stop. Ultralytics' models take a stream of one source as theirs.

    Args:
        source: A file, a camera's number or a URL; or several of them by name.
        restorer: Stays the caller's to close. None opens one of edgecar-s, with weights for what
            the source is coded with, and closes it with the stream.
        policy: ``newest`` leaves out frames that were overtaken, ``block`` makes the source wait.
            None: ``newest`` for cameras and network streams, ``block`` for files.
        max_latency_ms: Frames that would be older when restored pass as they are.
        skip_below_qp: H.264 frames finer than this mean QP pass as they are; 0: none. None: those
            finer than the weights were trained for.
        skip_above_quality: JPEG frames of a higher quality than this pass as they are; 100: none.
            None: those finer than the weights were trained for.
        quantiser: Told to the network for every frame: quality, 1 to 100, for weights for JPEG;
            else QP, 0 to 51. None: that of the frames, or the middle of the range.
        live: Timeouts and backoff of what is no file.

    Raises:
        MediaError: A source cannot be opened.
        SettingsError: A setting is out of range, or the network takes no quantiser.
        ArtifactError: Without a restorer: the sources need weights of several kinds.

    Example:
        >>> def detect_all(url, detector):
        ...     with stream(url) as frames:
        ...         for frame in frames:
        ...             detector(frame.bgr)
        >>> def track_all(url, yolo):
        ...     for result in yolo.track(stream(url), stream=True):
        ...         print(result.boxes.id)
    """
    settings = PipelineSettings(
        policy=policy,
        max_latency_ms=max_latency_ms,
        skip_below_qp=skip_below_qp,
        skip_above_quality=skip_above_quality,
        quantiser=quantiser,
    )
    read_coding = settings.reads_coding(restorer is None or restorer.metadata.takes_quantiser)
    named = source if isinstance(source, Mapping) else {text_redacted(str(source)): source}
    sources: dict[str, Reader | LiveReader] = {}
    own: Restorer | None = None
    try:
        for name, address in named.items():
            sources[name] = open_video(address, settings=live, read_coding=read_coding)
        if restorer is None:
            codecs = [each.codec for each in sources.values()]
            restorer = own = open_restorer(shared_codec(codecs))
        kind = Stream
        if LOADERS in sys.modules:  # Ultralytics takes sources of its own class alone
            from edgecar.integrations.ultralytics import UltralyticsStream

            kind = UltralyticsStream
        return kind(sources, restorer, settings, owns_restorer=own is not None)
    except BaseException:
        for reader in sources.values():
            reader.close()
        if own is not None:
            own.close()
        raise
