"""A network camera that sends the same grey picture over and over, and can be switched off."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

PAUSE_SECONDS = 0.04


class NetworkCamera:
    """Motion JPEG over HTTP; `switch_off` hangs up on all, `switch_on` takes the same port."""

    def __init__(self, grey: int, size: tuple[int, int] = (48, 64)):
        self._size = size
        self.show(grey)
        self.port = 0
        self.switch_on()
        self.url = f"http://127.0.0.1:{self.port}/video"

    def show(self, grey: int) -> None:
        """Another picture from now on."""
        self.coded = cv2.imencode(".jpg", np.full((*self._size, 3), grey, np.uint8))[1].tobytes()

    def switch_on(self) -> None:
        self.off = threading.Event()
        handler = type("Handler", (_Handler,), {"camera": self})
        self.server = _Server(("127.0.0.1", self.port), handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def switch_off(self) -> None:
        self.off.set()
        self.server.shutdown()
        self.server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # callers hang up as they like
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        off = self.camera.off
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.end_headers()
        while not off.wait(PAUSE_SECONDS):
            coded = self.camera.coded
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(coded)}\r\n\r\n"
            self.wfile.write(head.encode() + coded + b"\r\n")
