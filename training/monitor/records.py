"""Record of an epoch, and the history as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """Record of an epoch: a row of the history in ``run.json`` and, without the IoU per class, of ``history.csv``.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss.
        accuracy: Pixel accuracy on the training split, 0–1, of augmented images while the weights change.
        val_mean_iou: Mean IoU on the validation split at the model's size, from one confusion matrix, 0–1.
        val_pixel_accuracy: Pixel accuracy from the same matrix, 0–1.
        learning_rate: Learning rate at the end of the epoch.
        seconds: Seconds of the whole epoch: steps, waiting, validation, checkpoints and logs. If the process was killed
            right after the epoch, without the time of its last state.
        step_s: Seconds in training steps, without waiting for batches.
        wait_s: Seconds of waiting for batches.
        validate_s: Seconds of the validation.
        images_per_s: Training images per second of steps and waiting.
        val_class_iou: IoU of each class on the validation split, None for absent classes; empty if not measured.

    Example:
        >>> from training import EpochRecord
        >>> scores = {"accuracy": 0.8, "val_mean_iou": 0.5, "val_pixel_accuracy": 0.8}
        >>> times = {"seconds": 10.0, "step_s": 8.0, "wait_s": 0.5, "validate_s": 1.0, "images_per_s": 20.0}
        >>> record = EpochRecord(epoch=1, loss=0.7, learning_rate=2e-3, **scores, **times)
        >>> EpochRecord.from_dict(record.to_dict()) == record
        True
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


def to_csv(history: Iterable[EpochRecord]) -> str:
    """Return ``history.csv``: a header and one row per epoch, without the IoU per class."""
    columns = [field.name for field in fields(EpochRecord) if field.name != "val_class_iou"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    return text.getvalue()


def epochs_of_one_class(history: Sequence[EpochRecord]) -> int:
    """Return the number of epochs in a row, up to the last one, that found at most one class in the validation images."""
    found = [sum(bool(iou) for iou in record.val_class_iou) for record in history]
    return next((i for i, classes in enumerate(reversed(found)) if classes > 1), len(found))
