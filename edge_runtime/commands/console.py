"""What a person sees of a run: a progress line on a terminal, class shares of images, one line at the end."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_runtime.run.counts import Statistics
from edge_runtime.segment.stream import FrameResult
from edge_runtime.sources import Source

_PROGRESS_S = 0.2


class Console(logging.Handler):
    """Writes to stderr, and class shares to stdout; also a logging handler, so that a line breaks no progress line.

    Attributes:
        draws: Whether there is a progress line: stderr is a terminal.
    """

    def __init__(self, source: Source, *, shares: bool, quiet: bool = False) -> None:
        """Prepare.

        Args:
            source: Where the frames come from.
            shares: Nothing is kept, so the class shares of images are printed.
            quiet: No progress line, as for a service.
        """
        super().__init__()
        self._source = source
        self.draws = sys.stderr.isatty() and not quiet
        self._shares = shares and source.kind == "images"
        self._nothing_kept = shares and not self._shares
        self._next_at = 0.0
        self._writing = threading.Lock()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Write what the runtime logs for the length of the block."""
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
        """Write a line of the log."""
        self.line(f"edge-unet: {record.getMessage()}")

    def line(self, text: str) -> None:
        """Write a line to stderr."""
        with self._writing:
            sys.stderr.write(f"{self._clear()}{text}\n")

    def frame(self, result: FrameResult) -> None:
        """Print the class shares of an image, where nothing else is kept of it."""
        if not self._shares:
            return
        # Largest first; a class that is not there is not worth reading.
        shares = sorted(result.segmentation.fractions().items(), key=lambda item: -item[1])
        found = ", ".join(f"{name} {share:.1%}" for name, share in shares if share >= 0.0005)
        with self._writing:
            sys.stderr.write(self._clear())
            sys.stdout.write(f"{result.frame.source}: {found}\n")

    def tile(self, done: int, total: int) -> None:
        """Draw how far the work on a large picture has come, if it is time and there is a terminal."""
        if self.draws and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + _PROGRESS_S
            with self._writing:
                sys.stderr.write(f"{self._clear()}tile {done}/{total}")
                sys.stderr.flush()

    def progress(self, statistics: Statistics) -> None:
        """Draw the progress line, if it is time and there is a terminal."""
        if not self.draws or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + _PROGRESS_S
        source = self._source
        total = f"/{source.total}" if source.total else ""
        live = f"  {source.state}, dropped {source.dropped}" if source.live else ""
        with self._writing:
            sys.stderr.write(
                f"{self._clear()}frame {statistics.processed}{total}  {statistics.fps:.1f} fps{live}",
            )
            sys.stderr.flush()

    def finish(self, summary: dict[str, Any], finished: list[str]) -> None:
        """Report the run in one line, and what was written."""
        if not summary["captured"]:  # the error that follows says it all
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
        for line in finished:
            self.line(f"wrote {line}")
        if self._nothing_kept:
            self.line("nothing was kept: add --save DIR, --show or --json FILE")

    def _clear(self) -> str:
        return "\r\x1b[K" if self.draws else ""
