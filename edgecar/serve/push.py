"""A restored stream sent to an RTSP or RTMP server."""

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from edgecar.errors import MediaError
from edgecar.media.sources import reason_of, redacted
from edgecar.serve.coding import Coded, PacketOutput
from edgecar.serve.settings import Push

DEPTH = 50  # pictures: two seconds; who is slower gets the next keyframe
TIMEOUT_MICROSECONDS = 5_000_000


class Pusher(PacketOutput):
    """Sends coded pictures; connects again, with a growing wait, where the server goes away.

    Args:
        push: Where to.
    """

    def __init__(self, push: Push) -> None:
        super().__init__("push", redacted(push.url), DEPTH)
        self._url = push.url
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._of: VideoStream | None = None
        self._began_ticks = 0

    def _mux(self, item: Coded) -> None:
        failure = None
        try:
            if self._container is None or item.stream is not self._of:
                self._reset()
                self._connect(item)
            assert self._container is not None and self._stream is not None  # noqa: PT018
            self._container.mux(item.packet_for(self._stream, self._began_ticks))
        except (av.FFmpegError, OSError, ValueError) as error:
            failure = reason_of(error)
        if failure:
            # Out here, so that FFmpeg's error, which shows the URL, is no part of it.
            raise MediaError(f"{self.target} takes no stream ({failure}); check server and address")

    def _connect(self, item: Coded) -> None:
        rtsp = self._url.lower().startswith("rtsp")
        options = {"rtsp_transport": "tcp", "timeout": str(TIMEOUT_MICROSECONDS)} if rtsp else {}
        self._container = av.open(
            self._url, "w", format="rtsp" if rtsp else "flv", container_options=options
        )
        self._of, self._began_ticks = item.stream, item.ticks
        self._stream = self._container.add_stream_from_template(item.stream)

    def _reset(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()
