"""Count the frames of a run exactly and collect its times, in bounded memory."""

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
"""Number of latest frames that percentiles cover: a little over two minutes at 30 frames per second."""


class Times:
    """Latest times of one kind in milliseconds, in an array of fixed size."""

    def __init__(self, latest: int = _LATEST) -> None:
        """Keep the ``latest`` newest times."""
        self._values_ms = np.zeros(latest, np.float32)
        self._count = 0

    def add(self, value_ms: float) -> None:
        """Add a time, which replaces the oldest if the array is full."""
        self._values_ms[self._count % len(self._values_ms)] = value_ms
        self._count += 1

    def percentiles(self) -> dict[str, float | None]:
        """Return "p50", "p95" and "p99" of the times in milliseconds; None without any."""
        if not self._count:
            return {f"p{p}": None for p in _PERCENTILES}
        found = np.percentile(self._values_ms[: self._count], _PERCENTILES)
        return {f"p{p}": round(float(value), 3) for p, value in zip(_PERCENTILES, found, strict=True)}


class Statistics:
    """Counts and times of a run; any thread may add and read them.

    Attributes:
        processed: Number of frames whose result has reached every destination.
        dropped: Number of frames that were taken from the source and discarded because the run ended.
        failed: Number of frames whose result could not be computed or written.
    """

    def __init__(self) -> None:
        self.processed = self.dropped = self.failed = 0
        self._lock = threading.Lock()
        self._latency, self._age = Times(), Times()
        self._stages: dict[str, Times] = {}
        self._first_at: float | None = None
        self._last_at = 0.0

    def add(self, result: FrameResult, stages_ms: Mapping[str, float]) -> None:
        """Count a frame whose result has reached every destination, and add its times per stage in milliseconds."""
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
        """Count frames discarded at the end of a run."""
        with self._lock:
            self.dropped += frames

    def add_failed(self) -> None:
        """Count a frame whose result could not be computed or written."""
        with self._lock:
            self.failed += 1

    @property
    def fps(self) -> float:
        """Frames per second from the first capture to the latest result; 0 before the first result."""
        if self._first_at is None:
            return 0.0
        return self.processed / max(self._last_at - self._first_at, 1e-6)

    def summary(self, source: Source) -> dict[str, Any]:
        """Return the summary of the run, as in the last line of ``run --json`` and in the status of a service.

        When the run has ended, every captured frame is counted once: captured = processed + dropped + failed.

        Args:
            source: Source of the frames.

        Returns:
            A JSON object with times in milliseconds; percentiles are null if no frame was processed.
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
