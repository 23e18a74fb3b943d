"""Read cameras and network streams: keep only the newest frame, and reconnect after every outage.

A thread opens the source, reads until reading fails, waits, and opens it again. Each of these steps may block in native
code for longer than its time limit. Therefore the consumer watches the thread while it waits: a thread that exceeds its
time is abandoned and another one is started. Frames from an abandoned thread are ignored; it releases its capture when
the native call returns.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.errors import InputError, SourceError, UsageError
from edge_runtime.sources.capture import (
    URL_SCHEMES,
    device_path,
    is_address,
    is_camera,
    is_remote_video,
    lasting_name,
    open_camera,
    open_url,
    plausible_fps,
    redacted,
)
from edge_runtime.sources.frame import State
from edge_runtime.sources.health import Events, PictureHealth
from edge_runtime.sources.options import Patience, SourceOptions
from edge_runtime.sources.slot import POLL_S, SlotSource
from edge_runtime.storage import printable, translated

_CHECK = "check the camera, its power and the network"
_MAX_THREADS = 4
_MOST_DIGITS = 10
# Native code exceeds its time limits by up to 0.1 seconds. With these margins, in most cases the thread closes the
# connection itself, which is better than abandoning the thread.
_READ_LATER = 1.05
_OPEN_LATER = 1.5
# FFmpeg's limit is fixed at the first connection, before the frame period is known: it allows two of 0.2 read_s.
_FIRST_READ = 1.4
_FRAMES_FOR_PERIOD = 10
_NEWEST_SHARE = 0.2


def recognise(source: int | str | Path, options: SourceOptions) -> LiveSource | None:
    """Return the source for a camera or the address of a stream; None for anything else, such as a video at an address.

    Raises:
        InputError: A path cannot be accessed.
        UsageError: An address of an unknown kind, or an option of another kind of source is set.
    """
    camera = _camera(source)
    if camera is not None:
        options.refuse_all_but("camera_size")
        name = f"camera {printable(str(camera))}"
        return LiveSource(name, camera, options.patience, camera_size=options.camera_size)
    if not is_address(source) or is_remote_video(source):
        return None
    options.refuse_all_but()
    if source.partition("://")[0].lower() not in URL_SCHEMES:
        raise UsageError(f"source {redacted(source)} — unknown kind of address — expected {', '.join(URL_SCHEMES)}")
    return LiveSource(redacted(source), source, options.patience)


def _camera(source: int | str | Path) -> int | str | None:
    """Return the index or path of a camera; None for another source."""
    if isinstance(source, int):
        return source
    if is_address(source):
        return None
    with translated("read", Path(source), InputError):
        if isinstance(source, str) and source.isascii() and source.isdigit() and len(source) < _MOST_DIGITS:
            # "2024" may be a folder. "0" is a camera, which may be unplugged just now.
            if len(source) == 1 or device_path(int(source)).exists() or not Path(source).exists():
                return int(source)
            return None
        return str(source) if is_camera(Path(source)) else None


class LiveSource(SlotSource):
    """Source of the newest frames of a camera or network stream."""

    def __init__(
        self,
        name: str,
        target: int | str,
        patience: Patience | None = None,
        *,
        camera_size: tuple[int, int] | None = None,
    ) -> None:
        """Describe the source; ``with`` opens it.

        Args:
            name: Printable name of the source.
            target: Camera index, path of a camera, or address.
            patience: Time limits and retries.
            camera_size: (height, width) in pixels to request from a camera.
        """
        super().__init__(name, "live")
        self._target = target
        self._patience = patience or Patience()
        self._camera_size = camera_size
        self._lasting: Path | None = None
        self._events = Events(name)
        # Everything below is written while holding the condition.
        self._worker: threading.Thread | None = None
        self._generation = 0  # number of the current worker thread
        self._deadline = math.inf  # of the current step of the worker
        self._silent_since = 0.0
        self._attempts = 0  # failed attempts since the latest frame
        self._retry_at = 0.0
        self._problem = ""
        self._period_s = 0.0
        self._shape: tuple[int, ...] | None = None

    @property
    def state(self) -> State:
        """State of the source; see ``Source``."""
        silent = self._state == "reading" and time.monotonic() >= self._deadline
        return "stalled" if silent else self._state

    def open(self) -> None:
        """Start the thread and wait until the source is open; with ``retry_at_start``, wait for the first attempt only.

        Raises:
            SourceError: The source cannot be opened, or not in time.
        """
        self._silent_since = time.monotonic()
        try:
            with self._changed:
                while not (self._opened or self._ended or self._attempts or self.stopped.is_set()):
                    self._wait()
                if self._error is not None:
                    raise self._error
        except BaseException:
            self.close()
            raise

    # Methods of the consumer, called while holding the condition.

    def _wait(self) -> None:
        """Wait a moment for a change, and replace a worker thread that is stuck."""
        now = time.monotonic()
        if now >= self._deadline:
            self._replace_worker(now)
        if self._worker is None and sum(thread.is_alive() for thread in self._threads) < _MAX_THREADS:
            self._worker = threading.Thread(
                target=self._run, args=(self._generation,), name="edge-unet-grab", daemon=True
            )
            self._start(self._worker)
        silent_s = now - self._silent_since
        if silent_s >= self._patience.give_up_s and not self._ended:
            raise SourceError(
                f"{self.name} — no frame for {silent_s:.0f} s, {self._attempts} attempts to open it again — {self._problem}"
            )
        if not self._ended:
            self._changed.wait(min(POLL_S, max(0.0, self._deadline - now)))

    def _replace_worker(self, now: float) -> None:
        self._generation += 1
        self._worker = None
        if self._state == "reading":
            self._lost(f"no frame for {now - self._silent_since:.1f} s — {_CHECK}", stalled=True)
        else:
            self._lost(f"does not open within {_OPEN_LATER * self._patience.open_s:.1f} s — {_CHECK}")

    # Methods of the worker thread.

    def _run(self, generation: int) -> None:
        """Keep the source open until it is closed or this thread is abandoned; runs in the worker thread."""
        died = True
        try:
            while self._pause(generation):
                self._connect(generation)
            died = False
        finally:
            with self._changed:
                if died and self._current(generation):
                    self._end(self._died())

    def _current(self, generation: int) -> bool:
        return generation == self._generation and not self._ended and not self.stopped.is_set()

    def _pause(self, generation: int) -> bool:
        """Wait until the next attempt is due; return False if there is to be no further attempt."""
        with self._changed:
            while self._current(generation):
                now = time.monotonic()
                if now >= self._retry_at:
                    self._state, self._deadline = "opening", now + _OPEN_LATER * self._patience.open_s
                    return True
                self._changed.wait(self._retry_at - now)
        return False

    def _connect(self, generation: int) -> None:
        """Open the source, read until reading fails, and record the failure."""
        stalled = False
        try:
            capture = self._open_capture()
            try:
                problem, stalled = self._read(capture, generation)
            finally:
                capture.release()
        except SourceError as error:
            problem = str(error)
        with self._changed:
            if self._current(generation):
                self._lost(problem, stalled=stalled)

    def _open_capture(self) -> cv2.VideoCapture:
        if isinstance(self._target, str) and "://" in self._target:
            known = self.captured >= _FRAMES_FOR_PERIOD
            limit_s = self._silence_s() if known else _FIRST_READ * self._patience.read_s
            return open_url(self._target, self._patience, limit_s)
        if self._lasting is None and sys.platform == "linux":
            self._lasting = lasting_name(device_path(self._target))
        return open_camera(self._target if self._lasting is None else str(self._lasting), self._camera_size)

    def _read(self, capture: cv2.VideoCapture, generation: int) -> tuple[str, bool]:
        """Put each new frame into the slot; return the problem that ended reading, and whether it was a stall.

        After ``read`` has returned False once, it always does so at once, so the source has to be opened again.
        """
        health = PictureHealth(self._patience.frozen_s, self._events)
        with self._changed:
            if not self._current(generation):
                return "", False
            self.fps = plausible_fps(capture)
            if self.fps and not self._period_s:
                self._period_s = 1 / self.fps
            self._opened, self._state = True, "reading"
            self._deadline = time.monotonic() + _READ_LATER * self._silence_s()
            self._changed.notify_all()
        spare, before = None, None
        while True:
            started = time.monotonic()
            done, image = capture.read(spare)
            now = time.monotonic()
            if not done:
                stalled = now - started >= 0.9 * self._patience.read_s
                found = f"no frame for {now - started:.1f} s" if stalled else "the stream ended or cannot be decoded"
                return f"{found} — {_CHECK}", stalled
            image_bgr = np.asarray(image, np.uint8)
            flags = health.flags(image_bgr, now)
            with self._changed:
                if not self._current(generation):
                    return "", False
                self._arrived(image_bgr.shape, now, before)
                spare, before = self._put(image_bgr, now, flags=flags), now

    # Methods of both, called while holding the condition.

    def _silence_s(self) -> float:
        """Return the allowed seconds of silence, which include two frame periods for the sake of slow cameras."""
        return self._patience.read_s + 2 * self._period_s

    def _arrived(self, shape: tuple[int, ...], now: float, before: float | None) -> None:
        """Record the arrival of a frame at ``now`` and of the one before it in this connection."""
        if before is not None:
            self._period_s += _NEWEST_SHARE * (now - before - self._period_s)
        if self._attempts:
            self.reconnects += self.captured > 0
            self._events("back", f"back after {now - self._silent_since:.1f} s", logging.INFO)
        self._attempts, self._silent_since = 0, now
        self._deadline = now + _READ_LATER * self._silence_s()
        if shape != self._shape:
            self._tell_size(shape)
            self._shape = shape

    def _tell_size(self, shape: tuple[int, ...]) -> None:
        if self._shape is not None:
            self._events("size", f"the size changed from {_size(self._shape)} to {_size(shape)}", logging.INFO)
        elif self._camera_size not in (None, shape[:2]):
            self._events("asked", f"asked for {_size(self._camera_size or ())}, got {_size(shape)}")

    def _lost(self, problem: str, *, stalled: bool = False) -> None:
        """Record that the source is lost, and schedule the next attempt."""
        self.stalls += stalled
        if not self._opened and not self._patience.retry_at_start:
            self._end(SourceError(f"{self.name} — {problem}"))
            return
        if not self._attempts:
            self._events("outage", f"{problem} — trying to open it again")
        self._retry_at = time.monotonic() + self._patience.retry_wait_s(self._attempts)
        self._attempts += 1
        self._problem = problem
        self._state, self._deadline = "waiting", math.inf
        self._changed.notify_all()


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
