"""Child process of `edgecar.serve.writers.Pusher`: sends coded pictures from a pipe to a server.

It is run as a script and imports nothing of edgecar, which takes seconds to load on a busy machine.
"""

import os
import sys
from typing import IO

import av

TIMEOUT_MICROSECONDS = 5_000_000
PIPE_FORMAT = "nut"  # every picture is whole in the pipe at once


def send(pipe: IO[bytes]) -> None:
    """Read an address from the first line, then send the coded pictures that follow.

    Raises:
        av.FFmpegError: The server cannot be reached, or hangs up.
    """
    url = pipe.readline().decode().strip()
    rtsp = url.lower().startswith("rtsp")
    options = {"rtsp_transport": "tcp", "timeout": str(TIMEOUT_MICROSECONDS)} if rtsp else {}
    # FFmpeg need not probe: the pictures' facts are at the head.
    no_probing = {"fflags": "nobuffer", "probesize": "32", "analyzeduration": "0"}
    with (
        av.open(pipe, "r", format=PIPE_FORMAT, options=no_probing) as pictures,
        av.open(url, "w", format="rtsp" if rtsp else "flv", options=options) as server,
    ):
        (video,) = pictures.streams.video
        stream = server.add_stream_from_template(video)
        for packet in pictures.demux(video):
            if packet.dts is not None:
                packet.stream = stream
                server.mux(packet)


if __name__ == "__main__":
    try:
        # A buffer would wait until it is full.
        with os.fdopen(sys.stdin.fileno(), "rb", buffering=0) as stdin:
            send(stdin)
    except (av.FFmpegError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or type(failure).__name__
        sys.stderr.write(f"{reason}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        pass
