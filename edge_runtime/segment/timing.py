"""Measure the time of each stage of segmenting a frame."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager


class StageTimes:
    """Collector of the time per stage of one call.

    Not thread-safe. Times add up over calls, so use a new collector for each call.

    Attributes:
        stages_ms: Milliseconds per stage, in the order in which the stages were first entered.

    Example:
        >>> from edge_runtime import Segmenter, StageTimes
        >>> segmenter, times = Segmenter.load(package), StageTimes()
        >>> result = segmenter(image_bgr, times)
        >>> list(times.stages_ms)
        ['resize', 'inference', 'mask']
        >>> times.total_ms == sum(times.stages_ms.values())
        True
    """

    __slots__ = ("stages_ms",)

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that adds the time of its block to a stage, even if the block raises."""
        return _Stage(self.stages_ms, name)

    @property
    def total_ms(self) -> float:
        """Sum of all stages, in milliseconds."""
        return sum(self.stages_ms.values())


class _Stage(AbstractContextManager[None]):
    """Timed block; a class, because a generator-based context manager takes twice the time."""

    __slots__ = ("_name", "_stages_ms", "_started")

    def __init__(self, stages_ms: dict[str, float], name: str) -> None:
        self._stages_ms = stages_ms
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        passed_ms = (time.perf_counter() - self._started) * 1e3
        self._stages_ms[self._name] = self._stages_ms.get(self._name, 0.0) + passed_ms
