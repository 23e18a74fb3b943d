"""Source and segmenter joined: one result a frame, and the figures of a whole run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.segmenter import Segmentation
from edge_runtime.sources import open_source
from edge_runtime.sources.frame import Frame, Source

_PERCENTILES = (50, 95, 99)


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


def stream(
    segmenter: Callable[[NDArray[np.uint8]], Segmentation], source: int | str | Path | Source
) -> Iterator[FrameResult]:
    """Segment a source frame by frame.

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
    for frame in source:
        segmentation = segmenter(frame.image_bgr)
        age_ms = (time.monotonic() - frame.captured_at) * 1e3
        yield FrameResult(frame=frame, segmentation=segmentation, age_ms=age_ms)


class Statistics:
    """Counts and times of a run. Memory stays bounded: percentiles are those of the latest frames."""

    def __init__(self, latest: int = 10_000) -> None:
        """Keep the times of this many frames: about six minutes at 30 frames a second."""
        self.processed = 0
        self._latency_ms: deque[float] = deque(maxlen=latest)
        self._age_ms: deque[float] = deque(maxlen=latest)
        self._first_at: float | None = None
        self._last_at = 0.0

    def add(self, result: FrameResult) -> None:
        """Count a frame whose result has reached its destination."""
        self.processed += 1
        self._latency_ms.append(result.segmentation.latency_ms)
        self._age_ms.append(result.age_ms)
        self._last_at = time.monotonic()
        if self._first_at is None:
            self._first_at = result.frame.captured_at

    @property
    def fps(self) -> float:
        """Frames a second from the first capture to the latest result; 0 before any."""
        if self._first_at is None:
            return 0.0
        return self.processed / max(self._last_at - self._first_at, 1e-6)

    def summary(self, source: Source) -> dict[str, Any]:
        """Return the run in figures, as ``run --json`` prints it last.

        A captured frame that has neither a result nor failed was dropped, whether a newer one replaced it, it was left
        over at the end, or an interrupt hit while it was being segmented. So captured = processed + dropped + failed.

        Args:
            source: The source that the frames came from, closed.

        Returns:
            A JSON object; percentiles are null where no frame was processed. Times are in milliseconds.
        """
        captured, failed = source.captured, source.failed
        return {
            "captured": captured,
            "processed": self.processed,
            "dropped": captured - self.processed - failed,
            "failed": failed,
            "reconnects": source.reconnects,
            "fps": round(self.fps, 2),
            "latency_ms": _percentiles(self._latency_ms),
            "age_ms": _percentiles(self._age_ms),
        }


def _percentiles(values_ms: deque[float]) -> dict[str, float | None]:
    if not values_ms:
        return {f"p{p}": None for p in _PERCENTILES}
    found = np.percentile(np.fromiter(values_ms, np.float64), _PERCENTILES)
    return {f"p{p}": round(float(value), 3) for p, value in zip(_PERCENTILES, found, strict=True)}
