"""Show a run on the console: a progress line, class shares of images, and a summary line at the end."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.model.device_profile import notice
from edge_runtime.run import Observer, RunConfig
from edge_runtime.run.counts import Statistics
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sinks import Written
from edge_runtime.sources import Source

_PROGRESS_S = 0.2


class Console(logging.Handler, Observer):
    """Progress line of a run on stderr, with class shares of images on stdout.

    It is also a logging handler, so that a logged line does not break the progress line.

    Attributes:
        draws: Whether to draw a progress line: stderr is a terminal, and the run is not a service.
    """

    def __init__(self, config: RunConfig) -> None:
        """Prepare the output of a run.

        Args:
            config: The run. Class shares of images are printed if it keeps no results.
        """
        super().__init__()
        self.draws = sys.stderr.isatty() and not config.service
        self.period_s = _PROGRESS_S if self.draws else 1.0
        self._package = Path(config.package)
        self._kept = config.output.draws or config.json is not None
        self._source: Source | None = None
        self._next_at = 0.0
        self._writing = threading.Lock()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Write the log messages of the runtime inside the block."""
        logger = logging.getLogger("edge_runtime")
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log message."""
        self.line(f"edge-unet: {record.getMessage()}")

    def line(self, text: str) -> None:
        """Write a line to stderr."""
        with self._writing:
            sys.stderr.write(f"{self._clear()}{text}\n")

    def begun(self, source: Source, segmenter: Segmenter) -> None:
        """Report the device profile in use."""
        self._source = source
        if segmenter.profile is not None:
            self.line(notice(segmenter.profile, self._package))

    def result(self, result: FrameResult, written: Written) -> None:
        """Print the class shares of an image if the run keeps no results."""
        if self._kept or not self._of_images:
            return
        # The largest comes first; absent classes are left out.
        shares = sorted(result.segmentation.fractions().items(), key=lambda item: -item[1])
        found = ", ".join(f"{name} {share:.1%}" for name, share in shares if share >= 0.0005)
        with self._writing:
            sys.stderr.write(self._clear())
            sys.stdout.write(f"{result.frame.source}: {found}\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Draw the progress within a large picture, at most every 0.2 seconds."""
        if self.draws and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _PROGRESS_S
            with self._writing:
                sys.stderr.write(f"{self._clear()}{what} {done}/{total}")
                sys.stderr.flush()

    def tick(self, statistics: Statistics) -> None:
        """Draw the progress line, at most every 0.2 seconds."""
        source = self._source
        if source is None or not self.draws or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + _PROGRESS_S
        total = f"/{source.total}" if source.total else ""
        live = f"  {source.state}, dropped {source.dropped}" if source.live else ""
        with self._writing:
            sys.stderr.write(
                f"{self._clear()}frame {statistics.processed}{total}  {statistics.fps:.1f} fps{live}",
            )
            sys.stderr.flush()

    def ended(self, summary: dict[str, Any], files: list[str]) -> None:
        """Print the summary in one line, and the files written."""
        if not summary["captured"]:  # the error that follows is enough
            with self._writing:
                sys.stderr.write(self._clear())
            return
        processed, latency = summary["processed"], summary["latency_ms"]
        times = f", latency {latency['p50']:.1f} ms (p95 {latency['p95']:.1f})" if processed else ""
        again = f", {summary['reconnects']} reconnects" if summary["reconnects"] else ""
        self.line(
            f"{processed} frame{'s' * (processed != 1)}, {summary['fps']:.1f} fps{times},"
            f" {summary['dropped']} dropped, {summary['failed']} failed{again}"
        )
        for line in files:
            self.line(f"wrote {line}")
        for note in self._source.notes if self._source is not None else ():
            self.line(f"note: {note}")
        if not (self._kept or self._of_images):
            self.line("nothing was kept: add --save DIR, --show or --json FILE")

    @property
    def _of_images(self) -> bool:
        return self._source is not None and self._source.kind == "images"

    def _clear(self) -> str:
        return "\r\x1b[K" if self.draws else ""
