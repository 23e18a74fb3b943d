"""Cameras and network streams: the newest frame at any time, and back again after every outage.

A thread opens the source, reads until that fails, waits, and opens it again. Each of these may block in native code for
longer than any limit says, so the consumer, while it waits, watches the thread: one that exceeds its time is given up
and another takes its place. What a thread that was given up still brings is ignored; it cleans up when it wakes.
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
# The limits of native code are kept to a tenth of a second. With this much more the thread itself closes the connection
# in most cases, which is better than being given up.
_READ_LATER = 1.05
_OPEN_LATER = 1.5
# FFmpeg's limit is fixed when the first connection is opened, before the period is known: room for 0.2 read_s.
_FIRST_READ = 1.4
_FRAMES_FOR_PERIOD = 10
_NEWEST_SHARE = 0.2


def recognise(source: int | str | Path, options: SourceOptions) -> LiveSource | None:
    """Return the source for a camera or an address of a stream; None for anything else, a video behind an address too.

    Raises:
        InputError: A path cannot be looked at.
        UsageError: An address of an unknown kind, or an option is set that goes with other sources.
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
    """Return the index or the path of a camera."""
    if isinstance(source, int) or (isinstance(source, str) and source.isascii() and source.isdigit()):
        return int(source)
    if is_address(source):
        return None
    with translated("read", Path(source), InputError):
        return str(source) if is_camera(Path(source)) else None


class LiveSource(SlotSource):
    """A camera or network stream."""

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
            name: What may be printed of it.
            target: A camera index, the path of a camera, or an address.
            patience: With its silence and its absence.
            camera_size: (height, width) to ask a camera for.
        """
        super().__init__(name, "live")
        self._target = target
        self._patience = patience or Patience()
        self._camera_size = camera_size
        self._lasting: Path | None = None
        self._events = Events(name)
        # Everything below is written under the condition.
        self._worker: threading.Thread | None = None
        self._generation = 0  # of the worker
        self._deadline = math.inf  # for what the worker does now
        self._silent_since = 0.0
        self._attempts = 0  # that failed since the latest frame
        self._retry_at = 0.0
        self._problem = ""
        self._period_s = 0.0
        self._shape: tuple[int, ...] | None = None

    @property
    def state(self) -> State:
        """What it is doing; see ``Source``."""
        silent = self._state == "reading" and time.monotonic() >= self._deadline
        return "stalled" if silent else self._state

    def open(self) -> None:
        """Start, and wait until the source is open; with ``retry_at_start``, for the first attempt only.

        Raises:
            SourceError: It cannot be opened, or not in time.
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

    # The consumer's side: each of these is called under the condition.

    def _wait(self) -> None:
        """Wait a moment for news, and see to it that a thread that is not stuck works on them."""
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

    # The thread's side.

    def _run(self, generation: int) -> None:
        """Run in the thread: keep the source open until it is closed or this thread is given up."""
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
        """Wait until it is time for the next attempt; return False if there shall be none."""
        with self._changed:
            while self._current(generation):
                now = time.monotonic()
                if now >= self._retry_at:
                    self._state, self._deadline = "opening", now + _OPEN_LATER * self._patience.open_s
                    return True
                self._changed.wait(self._retry_at - now)
        return False

    def _connect(self, generation: int) -> None:
        """Open, read until that fails, and say so."""
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
        """Put each new frame into the slot; return what ended it, and whether that was silence.

        Once ``read`` has returned False it does so for good, and at once: only opening again helps.
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

    # What both sides say; under the condition.

    def _silence_s(self) -> float:
        """Return how long the source may be silent; a camera of one frame a second is no stall after five."""
        return self._patience.read_s + 2 * self._period_s

    def _arrived(self, shape: tuple[int, ...], now: float, before: float | None) -> None:
        """Note a frame, and when the one before it in this connection came."""
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
        """Note that the source is away, and decide when to try again."""
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
