"""Show the progress of training: a bar with the time left, and one line per epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from training.monitor.records import EpochRecord

QUIET_S = 60.0
"""Seconds of silence after which a line is written if there is no terminal, so that a log tells work from a hang."""


class ProgressBar:
    """Progress bar of a run on stderr with a status line below it; without a terminal, one line per epoch.

    On a narrow terminal the least important parts of a line are left out, so that no line is wrapped.
    """

    def __init__(
        self, epochs: int | None, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare the bar of a run.

        Args:
            epochs: Maximum number of epochs; None if only the time is limited.
            console: Console to write to; stderr by default.
            clock: Function that returns seconds since any start.
        """
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._clock = clock
        self._of = "" if epochs is None else f"/{epochs}"
        self._first: tuple[float, float] | None = None
        self._epoch_start: tuple[int, float] | None = None
        self._epoch_images = 0
        self._last: EpochRecord | None = None
        self._best: EpochRecord | None = None
        self._now: list[str] = []
        self._beside: tuple[str, int, int] | None = None  # other work than steps, shown in place of their line
        self._lock = threading.Lock()
        self._written_s = clock()
        self._bar = _TwoLines(self._console, self._status)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        self._task = self._bar.add_task("starting", total=1.0, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, what: str, done: int, total: int) -> None:
        """Show other work than steps ("reading train images 3/8") below the bar until it is done; an ``OnProgress``."""
        with self._lock:
            before = self._beside
            if before is not None and before[0] == what:
                done = max(done, before[1])  # a thread that is late must not turn the count back
            self._beside = (what, done, total) if done < total else None
        if before is None or done >= total:
            self._bar.refresh()
        self._write_if_silent(_part(what, done, total))

    def step(self, epoch: int, share: float, loss: float, images: int) -> None:
        """Move the bar; the time left assumes the mean pace since this process started."""
        now = self._clock()
        self._first = self._first or (now, share)
        done = share - self._first[1]
        left = f"{_duration((now - self._first[0]) * (1 - share) / done)} left" if done > 0 else ""
        self._beside = None
        self._now = [f"loss {loss:.4f}", self._mean_iou(), self._speed(epoch, now, images)]
        self._bar.update(self._task, completed=share, description=f"epoch {epoch}{self._of}", left=left)
        self._write_if_silent(f"epoch {epoch}{self._of}  {share:.0%}  {left}  {self._status()}")

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Write the line of a finished epoch."""
        self._last = record
        if best:
            self._best = record
        parts = [
            f"epoch {record.epoch:3d}{self._of}",
            f"loss {record.loss:.4f}",
            f"val mean IoU {record.val_mean_iou:.4f}{' best' if best else '     '}",
            f"{record.seconds:6.1f} s",
            f"{record.images_per_s:6.1f} images/s",
            f"val accuracy {record.val_pixel_accuracy:.4f}",
            f"accuracy {record.accuracy:.4f}",
        ]
        self.note(_fitting(parts, self._width()))

    def resume(self, history: Sequence[EpochRecord]) -> None:
        """Take the last and the best of the epochs that an earlier process finished."""
        self._last = history[-1] if history else None
        self._best = max(history, key=lambda record: record.val_mean_iou, default=None)

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(text, markup=False)
        self._written_s = self._clock()

    def _mean_iou(self) -> str:
        """Return the mean IoU of the last epoch beside that of the best."""
        if self._last is None or self._best is None:
            return ""
        best = (
            "the best"
            if self._last is self._best
            else f"best {self._best.val_mean_iou:.4f} in epoch {self._best.epoch}"
        )
        return f"val mean IoU {self._last.val_mean_iou:.4f} ({best})"

    def _speed(self, epoch: int, now: float, images: int) -> str:
        """Return the images per second of the epoch since its first step in this process."""
        if self._epoch_start is None or self._epoch_start[0] != epoch:
            self._epoch_start, self._epoch_images = (epoch, now), 0
            return ""
        self._epoch_images += images
        seconds = now - self._epoch_start[1]
        return f"{self._epoch_images / seconds:.1f} images/s" if seconds > 0 else ""

    def _status(self) -> str:
        beside = self._beside
        parts = self._now if beside is None else [_part(*beside)]
        return _fitting([part for part in parts if part], self._width() - 2)

    def _write_if_silent(self, line: str) -> None:
        if not self._console.is_terminal and self._clock() - self._written_s >= QUIET_S:
            self.note(line)

    def _width(self) -> int:
        """Return the maximum number of columns of a line; a file has practically no limit."""
        return self._console.width if self._console.is_terminal else 1000


class _TwoLines(RichProgress):
    """Progress bar with a line of text below it."""

    def __init__(self, console: Console, status: Callable[[], str]) -> None:
        self._status = status
        super().__init__(
            SpinnerColumn(),  # a first step may take half a minute
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            expand=True,
            transient=True,  # the lines of the epochs stay
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the lines from the top down."""
        yield self.make_tasks_table(self.tasks)
        yield Text(f"  {self._status()}", style="dim", no_wrap=True, overflow="ellipsis")


def _part(what: str, done: int, total: int) -> str:
    return f"{what} {done}/{total}" if done else f"{what} …"


def _fitting(parts: list[str], width: int) -> str:
    """Join as many parts, from the first on, as fit into ``width`` columns; the first is always kept."""
    text = parts[0] if parts else ""
    for part in parts[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text += f"  {part}"
    return text.rstrip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
