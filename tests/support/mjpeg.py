"""A camera stand-in: a local server that streams motion JPEG, stalls, ends, or never answers."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager

import cv2
import numpy as np

DEADLINE_S = 20.0


def picture(number, size=(48, 64)):
    """Grey whose brightness is the number."""
    return np.full((*size, 3), number, np.uint8)


class Camera(http.server.ThreadingHTTPServer):
    """Sends an endless MJPEG stream, grey values counting up; `stop_after` frames it ends or, with `stall`, falls silent."""

    daemon_threads = True

    def __init__(self, *, interval_s=0.005, stop_after=None, stall=False, silent=False):
        super().__init__(("127.0.0.1", 0), _Stream)
        self.interval_s, self.stop_after, self.stall, self.silent = interval_s, stop_after, stall, silent
        self.sent = 0
        self.asked = threading.Event()
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/video"


class _Stream(http.server.BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self):
        camera = self.server
        camera.asked.set()
        try:
            if camera.silent:
                camera.over.wait(DEADLINE_S)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            while not camera.over.wait(camera.interval_s):
                if camera.sent == camera.stop_after:
                    if camera.stall:
                        camera.over.wait(DEADLINE_S)
                    return
                data = cv2.imencode(".jpg", picture(camera.sent % 256))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                self.wfile.write(head + data + b"\r\n")
                camera.sent += 1
        except OSError:  # the reader has gone
            pass

    def log_message(self, *_):
        pass


@contextmanager
def camera(**options):
    with Camera(**options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
