"""A network camera stand-in: a local RTSP server that sends motion JPEG in RTP packets over its one connection.

Reference: RFC 2326 (RTSP), section 10.12 for packets in the connection; RFC 2435 (JPEG in RTP).
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from contextlib import contextmanager, suppress

import cv2
from mjpeg import picture

_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track\r\n"
_ANSWERS = {
    "OPTIONS": "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}",
    "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
    "PLAY": "Session: 1\r\n\r\n",
}


class RtspCamera(socketserver.ThreadingTCPServer):
    """Plays grey pictures, counting up, until `hang_up` ends its connections."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, interval_s=0.02):
        super().__init__(("127.0.0.1", 0), _Session)
        self.interval_s = interval_s
        self.sessions = set()
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/live"

    def hang_up(self):
        for session in list(self.sessions):
            with suppress(OSError):  # it has gone by itself
                session.shutdown(socket.SHUT_RDWR)


class _Session(socketserver.StreamRequestHandler):
    server: RtspCamera

    def handle(self):
        self.server.sessions.add(self.connection)
        over = threading.Event()
        try:
            while request := self.rfile.readline().decode(errors="replace").split():
                head = iter(lambda: self.rfile.readline().decode(errors="replace").strip(), "")
                number = next(line for line in head if line.lower().startswith("cseq"))
                list(head)
                answer = _ANSWERS.get(request[0], "\r\n")
                self.wfile.write(f"RTSP/1.0 200 OK\r\n{number}\r\n{answer}".encode())
                if request[0] == "PLAY":
                    threading.Thread(target=self.play, args=(over,), daemon=True).start()
        except (OSError, StopIteration):  # the reader has gone
            pass
        finally:
            over.set()
            self.server.sessions.discard(self.connection)

    def play(self, over):
        number = 0
        try:
            while not over.wait(self.server.interval_s):
                head = struct.pack(">BBHII", 0x80, 0x80 | 26, number & 0xFFFF, number * 1800, 1)
                packet = head + _payload(picture(number % 256))
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                number += 1
        except OSError:
            pass


def _payload(image):
    """Return a JPEG as RTP carries it: without its tables of codes, which are the standard's."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tables, at = b"", 2
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == 0xDB:
            tables += data[at + 5 : at + 2 + length]
        at += 2 + length
    scan = data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) : -2]
    height, width = image.shape[:2]
    main = struct.pack(">IBBBB", 0, 1, 255, width // 8, height // 8)
    return main + struct.pack(">BBH", 0, 0, len(tables)) + tables + scan


@contextmanager
def rtsp_camera(**options):
    with RtspCamera(**options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            server.hang_up()
            thread.join()
