"""Pass frames from a reading thread to a consumer through one slot, so that the consumer can always be interrupted.

Reading may block in native code or in a pipe, where signals are not handled. Waiting for the slot handles them.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EdgeUnetError, SourceError
from edge_runtime.sources.frame import Frame, Kind, Source
from edge_runtime.sources.read_ahead import JOIN_AT_EXIT_S

_JOIN_S = 1.0
POLL_S = 0.5
"""Longest single wait in seconds: some systems deliver Ctrl-C only between waits, and ``stop`` must take effect."""


class SlotSource(Source):
    """Base class of sources that read in a thread; a subclass calls ``_put`` for each frame and ``_end`` at the end.

    In a live source, a new frame replaces one that was not taken, which is counted as dropped. In a video, the thread
    waits until the slot is free, so that no frame is lost.
    """

    def __init__(self, name: str, kind: Kind) -> None:
        super().__init__(name, kind)
        self._changed = threading.Condition()
        # Everything below, the counters and the state are written while holding this condition.
        self._slot: Frame | None = None
        self._opened = self._ended = False
        self._error: EdgeUnetError | None = None
        self._threads: list[threading.Thread] = []

    def stop(self) -> None:
        """End the iteration soon; see ``Source``."""
        with self._changed:
            super().stop()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading. A live frame in the slot counts as dropped; a thread stuck in native code is left behind."""
        with self._changed:
            self.stop()
            if self._slot is not None:
                self._slot = None
                self.dropped += self.live
        if self._join(_JOIN_S):
            atexit.unregister(self._exit)

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until the end or ``stop``: the newest ones of a live source, all of a video.

        Raises:
            SourceError: A live source delivered no frame for longer than ``Patience`` allows.
            InputError: At the end, if a video or standard input was truncated.
        """
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> Frame | None:
        with self._changed:
            while True:
                if self.stopped.is_set():
                    return None
                if self._slot is not None:
                    frame, self._slot = self._slot, None
                    self._changed.notify_all()
                    return frame if self.live else self._taken(frame)
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
                self._wait()

    def _wait(self) -> None:
        """Wait a moment for a change, while holding the condition."""
        self._changed.wait(POLL_S)

    def _start(self, thread: threading.Thread) -> None:
        if not self._threads:
            # A thread that returns from native code while the interpreter shuts down aborts the process ("terminate
            # called without an active exception"), so wait for the threads before.
            atexit.register(self._exit)
        self._threads = [known for known in self._threads if known.is_alive()] + [thread]
        thread.start()

    def _join(self, limit_s: float) -> bool:
        """Wait for the threads to end; return whether all have ended."""
        deadline = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _exit(self) -> None:
        self.stop()
        self._join(JOIN_AT_EXIT_S)

    def _put(
        self,
        image_bgr: NDArray[np.uint8],
        captured_at: float,
        *,
        time_s: float | None = None,
        decode_ms: float = 0.0,
        flags: tuple[str, ...] = (),
    ) -> NDArray[np.uint8] | None:
        """Put a frame into the slot; return the picture that it replaces, whose memory can be used again."""
        with self._changed:
            while self._slot is not None and not self.live and not self.stopped.is_set():
                self._changed.wait(POLL_S)
            if self.stopped.is_set():
                return None
            replaced = self._slot
            self.dropped += replaced is not None
            # In a video the slot is empty now, so every earlier frame is counted.
            self._slot = Frame(
                index=self.captured,
                name=f"{self.captured:06d}",
                source=self.name,
                image_bgr=image_bgr,
                captured_at=captured_at,
                time_s=time_s,
                decode_ms=decode_ms,
                flags=flags,
            )
            if self.live:
                self._taken(self._slot)
            self._changed.notify_all()
            return None if replaced is None else replaced.image_bgr

    def _run_to_end(self, read: Callable[[], None]) -> None:
        """Read to the end and record the error that ended it, if any; runs in the thread."""
        error: EdgeUnetError | None = self._died()
        try:
            read()
            error = None
        except EdgeUnetError as caught:
            error = caught
        finally:
            self._end(error)

    def _end(self, error: EdgeUnetError | None) -> None:
        """Record, from the thread, that no frame will follow, and the error that is the reason."""
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _died(self) -> SourceError:
        return SourceError(f"{self.name} — the reading thread died — the traceback above says why: please report it")
