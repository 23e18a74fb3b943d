"""A camera stand-in: a local server that streams motion JPEG, and does whatever cameras do when they fail."""

from __future__ import annotations

import http.server
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np

DEADLINE_S = 20.0


def picture(number, size=(48, 64)):
    """Grey whose brightness is the number."""
    return np.full((*size, 3), number, np.uint8)


def until(condition):
    """Poll: the deadline is for a broken program only, no test waits for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.005)


class Camera:
    """Sends an endless MJPEG stream, grey values counting up; `stop_after` frames it does `then`.

    What it does can be changed at any time; each connection does the same until its end:

    - "serve": send pictures of `size`, one each `interval_s`; `number` instead of counting up where it is set.
    - "stall": say nothing more on connections that are open, nor on new ones. A connection stays silent for ever.
    - "close": close connections, also new ones at once.
    - "garbage": send parts with bytes that are no JPEG.
    - "noise": send bytes that are not even parts.
    - "gone": nobody listens, and connections are closed.
    """

    def __init__(self, *, interval_s=0.005, stop_after=None, then="close", mode="serve", size=(48, 64), number=None):
        self.interval_s, self.stop_after, self.then = interval_s, stop_after, then
        self.size, self.number = size, number
        self.mode = mode
        self.sent = 0
        self.connections = 0
        self.asked = threading.Event()
        self.over = threading.Event()
        self._server = self._thread = None
        self.server_port = 0
        self._listen()
        self.url = f"http://127.0.0.1:{self.server_port}/video"

    def do(self, mode):
        """Change what it does."""
        if mode == "gone" and self._server is not None:
            self._stop_listening()
        self.mode = mode
        if mode != "gone" and self._server is None:
            self._listen()

    def close(self):
        self.over.set()
        self.do("gone")

    def _listen(self):
        camera = self

        class Handler(_Stream):
            pass

        Handler.camera = camera
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.server_port), Handler)
        self._server.daemon_threads = True
        self.server_port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="camera-stand-in"
        )
        self._thread.start()

    def _stop_listening(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = None


class _Stream(http.server.BaseHTTPRequestHandler):
    camera: Camera

    def do_GET(self):
        camera = self.camera
        camera.connections += 1
        camera.asked.set()
        try:
            if camera.mode == "close":
                return
            if camera.mode == "stall":
                self.stay_silent()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            while not camera.over.wait(camera.interval_s):
                mode = camera.then if camera.sent == camera.stop_after else camera.mode
                if mode in ("close", "gone"):
                    return
                if mode == "stall":
                    self.stay_silent()
                    return
                self.wfile.write(self.part(mode))
        except OSError:  # the reader has gone
            pass

    def part(self, mode):
        camera = self.camera
        if mode == "noise":
            return np.random.default_rng(camera.sent).bytes(2000)
        if mode == "garbage":
            data = np.random.default_rng(camera.sent).bytes(2000)
        else:
            number = camera.sent % 256 if camera.number is None else camera.number
            data = cv2.imencode(".jpg", picture(number, camera.size))[1].tobytes()
            camera.sent += 1
        return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)

    def stay_silent(self):
        while self.camera.mode != "gone" and not self.camera.over.wait(0.01):
            pass

    def log_message(self, *_):
        pass


@contextmanager
def camera(**options):
    server = Camera(**options)
    try:
        yield server
    finally:
        server.close()
