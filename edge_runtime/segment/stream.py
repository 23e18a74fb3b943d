"""Source and segmenter joined: one result a frame."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.segment.segmenter import Segmentation
from edge_runtime.sources import Frame, Source, open_source

Segment = Callable[[NDArray[np.uint8]], Segmentation]
"""``image_bgr -> segmentation``: a ``Segmenter``, or one of those that refine or tile it."""

_DEPTH = 3
_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameResult:
    """What one frame came to.

    Attributes:
        frame: The frame as it was captured.
        segmentation: Its mask.
        age_ms: Time from capture to mask, waiting included: what a viewer perceives as lag.
    """

    frame: Frame
    segmentation: Segmentation
    age_ms: float


def stream(segmenter: Segment, source: int | str | Path | Source) -> Iterator[FrameResult]:
    """Segment a source frame by frame.

    Files are read ahead by a few frames while the model works; of a live source the newest frame is taken.

    Args:
        segmenter: Takes (H, W, 3) uint8 BGR; a ``Segmenter``.
        source: What ``open_source`` takes, opened at the first frame and closed after the last; or a source that is
            open already, which stays open.

    Raises:
        SourceError: The camera or stream is not available.
        InputError: A file cannot be read; for one image of many, or a video that ends early, after all other frames.
    """
    if isinstance(source, (int, str, Path)):
        with open_source(source) as opened:
            yield from stream(segmenter, opened)
        return
    if source.live:
        for frame in source:
            yield segment_frame(segmenter, frame)
        return
    with ReadAhead(source) as frames:
        for frame in frames:
            yield segment_frame(segmenter, frame)


def segment_frame(segmenter: Segment, frame: Frame) -> FrameResult:
    """Segment one frame and measure its age."""
    segmentation = segmenter(frame.image_bgr)
    age_ms = (time.monotonic() - frame.captured_at) * 1e3
    return FrameResult(frame=frame, segmentation=segmentation, age_ms=age_ms)


class ReadAhead:
    """Reads a source in a thread of its own, a few frames ahead; leaving the ``with`` block stops the source.

    Attributes:
        unused: After the block: frames that were read and that nobody took.
    """

    def __init__(self, source: Source, limit: int | None = None) -> None:
        """Read at most ``limit`` frames."""
        self._source = source
        self._limit = limit
        self._ready: queue.Queue[Frame | None] = queue.Queue(_DEPTH)
        self._closing = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="edge-unet-read", daemon=True)
        self.unused = 0

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._source.stop()
        # Room is made until the thread has seen it; a read that it is in ends by itself.
        while self._thread.is_alive():
            self._discard()
            self._thread.join(0.01)
        self._discard()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order; an error of the source is raised after those before it."""
        while True:
            try:
                frame = self._ready.get(timeout=_POLL_S)  # some systems deliver Ctrl-C only between two waits
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
        except BaseException as error:  # noqa: BLE001 - raised where the frames are taken
            self._error = error
        if not self._closing.is_set():
            self._ready.put(None)

    def _discard(self) -> None:
        while True:
            try:
                self.unused += self._ready.get_nowait() is not None
            except queue.Empty:
                return
