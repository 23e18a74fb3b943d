"""What one sees while training runs: a bar with the time left, and a line an epoch."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

from training.fit import EpochRecord


class ProgressBar:
    """A bar over the whole run on stderr; without a terminal only the lines of the epochs are written."""

    def __init__(self, epochs: int | None) -> None:
        """Prepare for a run of at most so many epochs, or of unknown many."""
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._of = "" if epochs is None else f"/{epochs}"
        self._first: tuple[float, float] | None = None
        self._best = 0.0

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        self._task = self._bar.add_task("starting", total=1.0, left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, epoch: int, share: float, loss: float) -> None:
        """Move the bar; the time left is what the rest takes at the pace since the start of this process."""
        now = time.monotonic()
        self._first = self._first or (now, share)
        done = share - self._first[1]
        left = f"{_duration((now - self._first[0]) * (1 - share) / done)} left" if done > 0 else ""
        text = f"epoch {epoch}{self._of}  loss {loss:.4f}  best mean IoU {self._best:.4f}"
        self._bar.update(self._task, completed=share, description=text, left=left)

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Write the line of a finished epoch."""
        self._best = max(self._best, record.val_mean_iou)
        mark = "  best" if best else ""
        self.note(
            f"epoch {record.epoch:3d}{self._of}  loss {record.loss:.4f}  accuracy {record.accuracy:.4f}  "
            f"val mean IoU {record.val_mean_iou:.4f}  val accuracy {record.val_pixel_accuracy:.4f}  "
            f"{record.seconds:.1f} s{mark}"
        )

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(text, markup=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
