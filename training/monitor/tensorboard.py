"""Log a run for TensorBoard: curves after every epoch, and now and then predictions for a few images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.errors import StorageError
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable
from training.monitor.records import EpochRecord
from training.monitor.samples import Sample

PICTURES_EVERY = 5
"""Minimum number of epochs between pictures, because they take a hundred times the space of the curves."""


class TensorBoardLog:
    """Writer of event files for ``tensorboard --logdir``; a resumed run adds a file to its folder."""

    def __init__(self, folder: Path, classes: Sequence[ClassInfo]) -> None:
        """Open a new event file.

        Args:
            folder: Folder for the event files, created if missing.
            classes: Classes in order of their ids, for names and colours.

        Raises:
            StorageError: The file cannot be written.
        """
        self._folder = folder
        self._classes = tuple(classes)
        self._last_pictures: int | None = None
        with self._translated():
            self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._translated():
            self._writer.close()

    def epoch(self, record: EpochRecord, *, best: bool, pictures: Callable[[], Iterable[Sample]]) -> None:
        """Write the curves of an epoch, and pictures if it is the best so far and the last pictures are old enough.

        Args:
            record: Record of the epoch; its number is the step of TensorBoard.
            best: Whether the epoch's model is the best so far.
            pictures: Function that returns the same few validation images every time; called if pictures are due.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._translated(), self._writer.as_default(step=record.epoch):  # flushes at its end
            for name, value in self._scalars(record):
                tf.summary.scalar(name, value)
            if best and (self._last_pictures is None or record.epoch - self._last_pictures >= PICTURES_EVERY):
                self._last_pictures = record.epoch
                for sample in pictures():
                    tf.summary.image(f"validation/{sample.name}", self._side_by_side(sample)[np.newaxis])

    def _scalars(self, record: EpochRecord) -> Iterator[tuple[str, float]]:
        """Yield name and value of each curve; TensorBoard groups them by the part before the slash."""
        yield "training/loss", record.loss
        yield "training/accuracy", record.accuracy
        yield "training/learning_rate", record.learning_rate
        yield "validation/mean_iou", record.val_mean_iou
        yield "validation/accuracy", record.val_pixel_accuracy
        yield "time/images_per_s", record.images_per_s
        yield "time/seconds", record.seconds
        if record.val_class_iou:
            for info, iou in zip(self._classes, record.val_class_iou, strict=True):
                if iou is not None:
                    yield f"class_iou/{info.name}", iou

    def _side_by_side(self, sample: Sample) -> NDArray[np.uint8]:
        """Return (H, 3 W, 3) uint8 RGB: image, truth and prediction."""
        panels = (
            sample.image_bgr,
            sample.painted_truth(self._classes),
            sample.painted_prediction(self._classes),
        )
        return np.ascontiguousarray(np.hstack(panels)[..., ::-1])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as cause:
            reason = str(cause.message).splitlines()[0]
            raise StorageError(
                f"cannot write {printable(self._folder)} — {reason} — check the path and the free space of the disk"
            ) from cause
