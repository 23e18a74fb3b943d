"""Interface for receiving the events of a run."""

from __future__ import annotations

from typing import Any

from edge_runtime.run.counts import Statistics
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sinks import Written
from edge_runtime.sources import Source


class Observer:
    """Receiver of the events of a run. Its methods do nothing: override those that you need.

    An exception in a method ends the run. Its files are finished, then ``execute`` raises the exception.

    Attributes:
        period_s: Longest time between two calls of ``tick``, in seconds.

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
        """Called when the source is recognised and the model is loaded; the source is not open yet."""

    def result(self, result: FrameResult, written: Written) -> None:
        """Called with each result, in order, after its files are written; a thread of the run waits meanwhile."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Called with the progress within one large picture, by threads of the run; an ``OnProgress``."""

    def tick(self, statistics: Statistics) -> None:
        """Called repeatedly with the counts so far, by the thread that called ``execute``."""

    def ended(self, summary: dict[str, Any], files: list[str]) -> None:
        """Called at the end, even before an error, with the summary and one line per output; by the caller's thread."""
