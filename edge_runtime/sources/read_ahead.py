"""Read files ahead of the model in a thread."""

from __future__ import annotations

import atexit
import itertools
import math
import queue
import sys
import threading
import time
from collections.abc import Iterator

from edge_runtime.sources.frame import Frame, Source

_DEPTH = 3
_POLL_S = 0.5
JOIN_AT_EXIT_S = 10.0
"""Seconds to wait for a thread when the interpreter ends: longer than the usual limits of native reads."""


class ReadAhead:
    """Reader of a source in its own thread, a few frames ahead; leaving the ``with`` block stops the source.

    Attributes:
        unused: Number of frames that were read but not taken, after the block.
    """

    def __init__(self, source: Source, limit: int | None = None) -> None:
        """Read at most ``limit`` frames."""
        self._source = source
        self._limit = None if limit is None else min(limit, sys.maxsize)
        self._ready: queue.Queue[Frame | None] = queue.Queue(_DEPTH)
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="edge-unet-read", daemon=True)
        self.unused = 0

    def __enter__(self) -> ReadAhead:
        # A stream may be left without being closed, by ``sys.exit``. A thread that then returns from native code would
        # abort the process, so wait for it before the interpreter shuts down.
        atexit.register(self._end, JOIN_AT_EXIT_S)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(math.inf)
        atexit.unregister(self._end)

    def _end(self, limit_s: float) -> None:
        """Stop the source, and empty the queue until the thread notices; a read in progress ends by itself."""
        self._closing.set()
        self._source.stop()
        give_up_at = time.monotonic() + limit_s
        while self._thread.is_alive() and time.monotonic() < give_up_at:
            self._discard()
            self._thread.join(0.01)
        self._discard()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order, then raise the error of the source, if any."""
        while True:
            try:
                frame = self._ready.get(timeout=_POLL_S)  # some systems deliver Ctrl-C only between waits
            except queue.Empty:
                continue
            if frame is None:
                break
            yield frame
        if self._error is not None:
            raise self._error

    def _read(self) -> None:
        try:
            for frame in itertools.islice(self._source, self._limit):
                self._ready.put(frame)
                if self._closing.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised in ``__iter__``
            self._error = error
        if not self._closing.is_set():
            self._ready.put(None)

    def _discard(self) -> None:
        while True:
            try:
                self.unused += self._ready.get_nowait() is not None
            except queue.Empty:
                return
