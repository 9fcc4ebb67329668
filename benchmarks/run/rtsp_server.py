"""A camera for tests and the soak: loops coded H.264 pictures over RTSP until it is killed.

It is run by the system's Python, which has GStreamer's bindings, and prints its port once it
listens. All callers watch the same picture, so who comes late joins between two keyframes.
"""

import argparse
import itertools
import struct
import sys
from pathlib import Path
from typing import Any

PIPELINE = (
    "( appsrc name=source is-live=true format=time do-timestamp=true "
    "caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! rtph264pay name=pay0 )"
)


def access_units(path: Path) -> list[bytes]:
    """The coded pictures in a file, each behind its length in four bytes."""
    data, units = path.read_bytes(), []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        units.append(data[4 : 4 + size])
        data = data[4 + size :]
    return units


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path, help="none: only see whether everything is there")
    parser.add_argument("--port", default="0")
    parser.add_argument("--interval-ms", type=int, default=20)
    parser.add_argument("--auth", choices=["basic", "digest"])
    parser.add_argument("--user")
    parser.add_argument("--password")
    arguments = parser.parse_args()

    # Here, because pytest imports every file under tests with a Python that lacks them.
    import gi

    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    if arguments.pictures == Path("none"):
        Gst.parse_launch(PIPELINE)
        return

    def start(_factory: Any, media: Any) -> None:
        source = media.get_element().get_by_name("source")
        pictures = itertools.cycle(access_units(arguments.pictures))

        def push() -> bool:  # once the last caller hung up, no buffer is taken any more
            buffer = Gst.Buffer.new_wrapped(next(pictures))
            return bool(source.emit("push-buffer", buffer) == Gst.FlowReturn.OK)

        GLib.timeout_add(arguments.interval_ms, push)

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    factory.connect("media-configure", start)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    server.get_mount_points().add_factory("/main", factory)

    if arguments.auth:
        token, auth = GstRtspServer.RTSPToken(), GstRtspServer.RTSPAuth()
        token.set_string("media.factory.role", "viewer")
        if arguments.auth == "basic":
            secret = GstRtspServer.RTSPAuth.make_basic(arguments.user, arguments.password)
            auth.add_basic(secret, token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(arguments.user, arguments.password, token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        for right in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("viewer", right, True)
        factory.set_permissions(permissions)

    server.attach(None)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
