"""Counts and times of a run, exact and of bounded size however long it lasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_runtime.segment.stream import FrameResult
from edge_runtime.sources import Source

_PERCENTILES = (50, 95, 99)
_LATEST = 4096
"""Percentiles are those of so many latest frames: a bit over two minutes at 30 frames a second."""


class Times:
    """The latest times of one kind, in milliseconds, in an array made once."""

    def __init__(self, latest: int = _LATEST) -> None:
        """Keep so many."""
        self._values_ms = np.zeros(latest, np.float32)
        self._count = 0

    def add(self, value_ms: float) -> None:
        """Take one more; the oldest makes room."""
        self._values_ms[self._count % len(self._values_ms)] = value_ms
        self._count += 1

    def percentiles(self) -> dict[str, float | None]:
        """Return "p50", "p95" and "p99" of what is held, null where there is nothing."""
        if not self._count:
            return {f"p{p}": None for p in _PERCENTILES}
        found = np.percentile(self._values_ms[: self._count], _PERCENTILES)
        return {f"p{p}": round(float(value), 3) for p, value in zip(_PERCENTILES, found, strict=True)}


class Statistics:
    """Counts and times of a run; any thread may add and read.

    Attributes:
        processed: Frames whose result has reached every destination.
        dropped: Frames that were taken from the source and then given up, because the run ended.
        failed: Frames whose result could not be written, or not be computed.
    """

    def __init__(self) -> None:
        self.processed = self.dropped = self.failed = 0
        self._lock = threading.Lock()
        self._latency, self._age = Times(), Times()
        self._stages: dict[str, Times] = {}
        self._first_at: float | None = None
        self._last_at = 0.0

    def add(self, result: FrameResult, stages_ms: Mapping[str, float]) -> None:
        """Count a frame whose result has reached its destination, with the times of its stages in milliseconds."""
        with self._lock:
            self.processed += 1
            self._latency.add(result.latency_ms)
            self._age.add(result.age_ms)
            for stage, value_ms in stages_ms.items():
                self._stages.setdefault(stage, Times()).add(value_ms)
            self._last_at = time.monotonic()
            if self._first_at is None:
                self._first_at = result.frame.captured_at

    def add_dropped(self, frames: int = 1) -> None:
        """Count frames given up at the end of a run."""
        with self._lock:
            self.dropped += frames

    def add_failed(self) -> None:
        """Count a frame whose result was lost."""
        with self._lock:
            self.failed += 1

    @property
    def fps(self) -> float:
        """Frames a second from the first capture to the latest result; 0 before any."""
        if self._first_at is None:
            return 0.0
        return self.processed / max(self._last_at - self._first_at, 1e-6)

    def summary(self, source: Source) -> dict[str, Any]:
        """Return the run in figures, as ``run --json`` prints it last and a service's status holds it.

        Every captured frame is counted once: captured = processed + dropped + failed, once the run has ended.

        Args:
            source: The source that the frames came from.

        Returns:
            A JSON object; percentiles are null where no frame was processed. Times are in milliseconds.
        """
        with self._lock:
            return {
                "captured": source.captured,
                "processed": self.processed,
                "dropped": source.dropped + self.dropped,
                "failed": source.failed + self.failed,
                "reconnects": source.reconnects,
                "stalls": source.stalls,
                "fps": round(self.fps, 2),
                "latency_ms": self._latency.percentiles(),
                "age_ms": self._age.percentiles(),
                "stages_ms": {name: times.percentiles() for name, times in self._stages.items()},
            }
