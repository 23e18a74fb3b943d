"""What training says of itself: one record an epoch, and the interface of whoever shows it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch: a row of ``run.json``'s history and, but for the IoU of the classes, of ``history.csv``.

    What ``seconds`` holds beyond steps, waiting and validation is checkpoints, logs and pictures.

    Attributes:
        epoch: From 1.
        loss: Mean training loss.
        accuracy: Share of right training pixels, 0–1, of augmented images and weights that still change.
        val_mean_iou: On the validation split, at the model's size, from one confusion matrix, 0–1.
        val_pixel_accuracy: Likewise.
        learning_rate: At the end of the epoch.
        seconds: Time of the epoch with its validation.
        step_s: Time in training steps, without the wait for their batches.
        wait_s: Time that steps waited for their batches.
        validate_s: Time of the validation.
        images_per_s: Training images by the time of steps and waiting.
        val_class_iou: IoU of each class on the validation split, None where it does not occur; empty if not measured.
    """

    epoch: int
    loss: float
    accuracy: float
    val_mean_iou: float
    val_pixel_accuracy: float
    learning_rate: float
    seconds: float
    step_s: float
    wait_s: float
    validate_s: float
    images_per_s: float
    val_class_iou: tuple[float | None, ...] = ()

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> EpochRecord:
        """Read a row of ``run.json``'s history."""
        return cls(**{**row, "val_class_iou": tuple(row.get("val_class_iou", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {**asdict(self), "val_class_iou": list(self.val_class_iou)}


class Progress(Protocol):
    """Whoever shows how far training is; ``training.monitor.progress`` draws a bar."""

    def phase(self, name: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Note work beside the steps ("reading images", "validating") of so many parts.

        The function that the block gets is called after each part, from any thread.
        """

    def step(self, epoch: int, share: float, loss: float, images: int) -> None:
        """Note a step.

        Args:
            epoch: The running epoch, from 1.
            share: Share of the whole run that is done, 0–1.
            loss: Mean loss of the epoch so far.
            images: Images of this step.
        """

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Note the end of an epoch, and whether it is the best so far."""

    def resume(self, history: Sequence[EpochRecord]) -> None:
        """Take note of the epochs that an earlier process finished."""

    def note(self, text: str) -> None:
        """Show a line of text."""


def to_csv(history: Iterable[EpochRecord]) -> str:
    """Return ``history.csv``: a header and a row an epoch, without the IoU of the classes."""
    columns = [field.name for field in fields(EpochRecord) if field.name != "val_class_iou"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    return text.getvalue()
