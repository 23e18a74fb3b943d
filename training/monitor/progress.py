"""Interface between training and its display; ``progress_bar`` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from training.monitor.records import EpochRecord


class Progress(Protocol):
    """Display of training progress: ``ProgressBar`` draws one, ``Silent`` shows nothing.

    Example:
        >>> from training import Progress, Silent
        >>> progress: Progress = Silent()
        >>> progress.note("nobody reads this")
    """

    def advance(self, what: str, done: int, total: int) -> None:
        """Show other work than steps ("reading train images"); an ``OnProgress``, called from any thread."""

    def step(self, epoch: int, share: float, loss: float, images: int) -> None:
        """Show a finished training step.

        Args:
            epoch: Number of the running epoch, from 1.
            share: Finished share of the whole run, 0–1.
            loss: Mean loss of the epoch so far.
            images: Number of images in this step.
        """

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Show a finished epoch, and whether it is the best so far."""

    def resume(self, history: Sequence[EpochRecord]) -> None:
        """Take the epochs that an earlier process finished."""

    def note(self, text: str) -> None:
        """Show a line of text."""


class Silent:
    """Display that shows nothing: the default of every ``Progress`` argument, and a base for displays of a part.

    Example:
        >>> from training import Silent, check_dataset
        >>> class Printed(Silent):
        ...     def advance(self, what, done, total):
        ...         if done == total:
        ...             print(f"{what} is done")
        >>> report = check_dataset(data, on_progress=Printed().advance)
        checking is done
        comparing is done
    """

    def advance(self, what: str, done: int, total: int) -> None:
        """Show nothing."""

    def step(self, epoch: int, share: float, loss: float, images: int) -> None:
        """Show nothing."""

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Show nothing."""

    def resume(self, history: Sequence[EpochRecord]) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""
