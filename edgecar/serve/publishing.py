"""Restored frames for other programs on the same machine, over ZeroMQ."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecar.errors import MediaError, SettingsError
from edgecar.runtime.camera import StreamFrame
from edgecar.serve.outputs import Output
from edgecar.serve.settings import Publish

DEPTH = 4
"""Frames of each camera that may wait."""

WAITING_AT_SOCKET = 4
"""Frames that a slow subscriber may be behind; it misses those beyond."""


class Publisher(Output[StreamFrame]):
    """One PUB socket for all cameras; a message is name, metadata in JSON and pixels."""

    def __init__(self, settings: Publish, cameras: int) -> None:
        super().__init__("publish", settings.address, DEPTH * cameras)
        self._settings = settings
        self._socket: Any = None

    def _write(self, item: StreamFrame) -> bool:
        import zmq

        pixels = item.bgr if self._settings.pixels == "bgr" else _i420(item)
        metadata = {
            "camera": item.camera,
            "height": item.frame.size[0],
            "width": item.frame.size[1],
            "pixels": self._settings.pixels,
            "pts_seconds": item.pts_seconds,
            "restored": item.restored,
            "arrived_monotonic_seconds": item.arrived_seconds,
        }
        parts = [item.camera.encode(), json.dumps(metadata).encode(), np.ascontiguousarray(pixels)]
        try:
            if self._socket is None:
                self._socket = zmq.Context.instance().socket(zmq.PUB)
                self._socket.setsockopt(zmq.SNDHWM, WAITING_AT_SOCKET)
                self._socket.setsockopt(zmq.LINGER, 0)
                self._socket.bind(self._settings.address)
            self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            raise MediaError(
                f"nothing can be published at {self._settings.address} ({error}); "
                "choose another address"
            ) from error
        return True

    def _reset(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()


def _i420(item: StreamFrame) -> NDArray[np.uint8]:
    """Return the planes below each other, as OpenCV's ``COLOR_YUV2BGR_I420`` takes them."""
    frame = item.frame
    height, width = frame.size
    if height % 2 or width % 2:
        raise MediaError(f"{item.camera} is {width}x{height}; I420 needs even sides: publish bgr")
    return np.concatenate([plane.reshape(-1, width) for plane in (frame.y, frame.u, frame.v)])


@dataclass(frozen=True)
class Received:
    """Frame from a service.

    Attributes:
        camera: Name of the camera.
        bgr: ``(H, W, 3)`` uint8; None if the service publishes I420.
        i420: ``(H * 3 / 2, W)`` uint8 planes; None if it publishes BGR.
        metadata: Everything else in the message: ``pts_seconds``, ``restored``, …
    """

    camera: str
    bgr: NDArray[np.uint8] | None
    i420: NDArray[np.uint8] | None
    metadata: dict[str, Any]


def received_frames(
    address: str, camera: str = "", timeout_seconds: float = 10
) -> Iterator[Received]:
    """Yield the frames that a service in another process publishes.

    Args:
        address: Address in ``publish.address`` of the service's file.
        camera: Name of the only camera to receive; all by default.
        timeout_seconds: Longest wait for a frame.

    Raises:
        MediaError: No frame came in time.
        SettingsError: pyzmq is not installed.
    """
    try:
        import zmq
    except ImportError as error:
        raise SettingsError(
            "frames over ZeroMQ need pyzmq, which is not installed; "
            "run: pip install 'edgecar[serve]'"
        ) from error
    context: Any = zmq.Context.instance()
    with context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.RCVHWM, WAITING_AT_SOCKET)
        socket.setsockopt(zmq.RCVTIMEO, round(1e3 * timeout_seconds))
        socket.setsockopt(zmq.SUBSCRIBE, camera.encode())
        socket.connect(address)
        while True:
            try:
                name, header, pixels = socket.recv_multipart()
            except zmq.Again as error:
                raise MediaError(
                    f"no frame at {address} for {timeout_seconds:g} s; check that the service runs"
                ) from error
            if camera and name != camera.encode():  # subscriptions are by prefix
                continue
            facts, codes = json.loads(header), np.frombuffer(pixels, np.uint8)
            height, width = facts["height"], facts["width"]
            if facts["pixels"] == "bgr":
                yield Received(facts["camera"], codes.reshape(height, width, 3), None, facts)
            else:
                yield Received(facts["camera"], None, codes.reshape(-1, width), facts)
