"""What a run tells of itself while it goes on."""

from __future__ import annotations

from typing import Any

from edge_runtime.run.counts import Statistics
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sinks import Written
from edge_runtime.sources import Source


class Observer:
    """Hears of a run. Every method does nothing here: override those that matter.

    An exception that one of them raises ends the run, whose files are finished, and is raised by ``execute``.

    Attributes:
        period_s: Longest time between two ``tick``s.

    Example:
        >>> from edge_runtime import Observer, RunConfig, execute
        >>> class Alarm(Observer):
        ...     def result(self, result, written):
        ...         if result.segmentation.fractions()["red"] > 0.05:
        ...             print(f"{result.frame.name}: red in view")
        >>> summary = execute(RunConfig(package=package, source=folder), observer=Alarm())
        0: red in view
        1: red in view
        2: red in view
    """

    period_s: float = 1.0

    def begun(self, source: Source, segmenter: Segmenter) -> None:
        """Hear that the source is recognised and the model loaded; nothing is opened yet."""

    def result(self, result: FrameResult, written: Written) -> None:
        """Take a frame's result, in order, after its files are written; in a thread of the run, which waits meanwhile."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Hear how far the work on one large picture is; an ``OnProgress``, called from the threads of the run."""

    def tick(self, statistics: Statistics) -> None:
        """Look at the counts so far, again and again, in the thread that called ``execute``."""

    def ended(self, summary: dict[str, Any], files: list[str]) -> None:
        """Take the summary and what was written, one line each, also where an error follows; in the caller's thread."""
