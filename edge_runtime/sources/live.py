"""Cameras and network streams: a thread always holds the newest frame, so that a slow consumer sees the present."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge_runtime.errors import SourceError
from edge_runtime.sources.frame import BaseSource, Frame, decoded_frame, plausible_fps

_JOIN_S = 1.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a live source may be silent, in seconds.

    Attributes:
        open_s: For opening a stream.
        read_s: For one read of a network stream.
        stall_s: Without a new frame, whatever the driver says; above the 5 s that a slow camera may take.
    """

    open_s: float = 5.0
    read_s: float = 5.0
    stall_s: float = 10.0


class LiveSource(BaseSource):
    """A camera or network stream: a thread grabs, one slot holds the newest frame, the consumer takes it.

    Opening and reading happen in that thread only, for both may block in native code where no signal gets through.
    """

    def __init__(self, name: str, target: int | str, timeouts: Timeouts) -> None:
        """Take a camera index, device path or address; ``name`` is what may be printed of it."""
        super().__init__(name, "live")
        self._target = target
        self._timeouts = timeouts
        self._changed = threading.Condition()
        # Everything below, and the counters, are read and written under this condition.
        self._slot: Frame | None = None
        self._opened = self._ended = self._closing = False
        self._error: SourceError | None = None
        self._last_news = 0.0
        self._thread = threading.Thread(target=self._grab, name="edge-unet-grab", daemon=True)

    def open(self) -> None:
        """Start grabbing and wait until the source is open.

        Raises:
            SourceError: It cannot be opened, or does not answer in time.
        """
        self._last_news = time.monotonic()
        self._thread.start()
        try:
            with self._changed:
                while not (self._opened or self._ended):
                    self._wait(self._timeouts.open_s + self._timeouts.read_s)
                if not self._opened:
                    raise self._error or self._died()
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """End the iteration soon; see ``Source``."""
        super().stop()
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop grabbing; a frame left in the slot counts as dropped. A thread stuck in native code is left behind."""
        with self._changed:
            self._closing = True
            if self._slot is not None:
                self._slot = None
                self.dropped += 1
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time, until the source is closed.

        Raises:
            SourceError: The stream ended, or brought no frame for too long.
        """
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        with self._changed:
            while self._slot is None:
                if self._closing:
                    return None
                if self._ended:
                    raise self._error or self._died()
                self._wait(self._timeouts.stall_s)
            frame, self._slot = self._slot, None
            return frame

    def _wait(self, patience_s: float) -> None:
        """Wait a moment for news, in short steps: some systems deliver Ctrl-C only between them."""
        self._changed.wait(_POLL_S)
        if time.monotonic() - self._last_news > patience_s and not (self._slot or self._ended):
            raise SourceError(
                f"{self.name} — no frame for {patience_s:g} s — check the cable, the network and its power"
            )

    def _died(self) -> SourceError:
        return SourceError(f"{self.name} — the grabbing thread died — the traceback above says why: please report it")

    def _grab(self) -> None:
        """Run in the thread: open, read until the end, say how it ended. Reconnecting belongs here, around the block."""
        error: SourceError | None = None
        try:
            capture = self._open_capture()
            try:
                self._read(capture)
            finally:
                capture.release()
        except SourceError as caught:
            error = caught
        finally:
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()

    def _open_capture(self) -> cv2.VideoCapture:
        if isinstance(self._target, str) and "://" in self._target:
            # Only here are the timeouts heard: set() after opening is refused, and other backends ignore them.
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                int(self._timeouts.open_s * 1000),
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                int(self._timeouts.read_s * 1000),
            ]
            capture = cv2.VideoCapture(self._target, cv2.CAP_FFMPEG, limits)
            if not capture.isOpened():
                raise SourceError(f"{self.name} — cannot be opened — check the address, the network and the password")
        else:
            capture = _open_camera(self._target, self.name)
        with self._changed:
            self.fps = plausible_fps(capture)
            self._opened, self._last_news = True, time.monotonic()
            self._changed.notify_all()
        return capture

    def _read(self, capture: cv2.VideoCapture) -> None:
        """Put each new frame into the slot until the source is closed; returning False once means the end, for good."""
        while not self._closing:
            started = time.monotonic()
            done, image = capture.read()
            now = time.monotonic()
            if not done or image is None:
                stalled = now - started >= 0.9 * self._timeouts.read_s
                found = f"no frame for {now - started:.0f} s" if stalled else "the stream ended"
                raise SourceError(
                    f"{self.name} — {found} after {self.captured} frames — check the camera and the network"
                )
            with self._changed:
                if self._closing:
                    return
                index, self.captured = self.captured, self.captured + 1
                self.dropped += self._slot is not None
                self._slot = decoded_frame(index, image, self.name)
                self._last_news = now
                self._changed.notify_all()


def _open_camera(target: int | str, name: str) -> cv2.VideoCapture:
    device = Path(f"/dev/video{target}") if isinstance(target, int) else Path(target)
    # OpenCV is not asked about a device that is not there: it would try every backend and log about each.
    if sys.platform != "linux" or device.exists():
        capture = cv2.VideoCapture(target, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if capture.isOpened():
            return capture
        capture.release()
    found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "no camera"
    listing = f" — found {found} in /dev" if sys.platform == "linux" else ""
    raise SourceError(
        f"{name} — cannot be opened{listing} — connect it, close other programs that use it, and check your permissions (Linux: group 'video')"
    )
