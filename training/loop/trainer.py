"""The training loop: steps, validation and checkpoints per epoch, and an orderly end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.dataset.metrics import class_iou, confusion_matrix, mean_iou, pixel_accuracy
from edge_runtime.dataset.sampling import spread
from edge_runtime.errors import UsageError
from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.storage import printable, temporary_name, translated, write_bytes
from training.config import TrainConfig
from training.errors import DivergedError, TrainingStopped
from training.input.batches import Batches
from training.input.cache import PixelCache
from training.loop.run_folder import RunFolder
from training.loop.run_record import EpochSums
from training.loop.train_state import TrainState, encoder_rate_at, learning_rate_at
from training.monitor.progress import Progress
from training.monitor.records import EpochRecord, epochs_of_one_class, to_csv
from training.monitor.samples import Sample
from training.monitor.tensorboard import TensorBoardLog
from training.network.deploy import copy_weights

SAVE_EVERY_S = 300.0
"""Seconds between saves within a long epoch: the most work that a crash can cost."""
PICTURES = 4
"""Number of validation images that TensorBoard shows."""
STUCK_EPOCHS = 5
"""Epochs in a row without any class but one, after which a line says so."""
RESERVED = 0.02
"""Share of the time limit that is kept for measuring the best model and writing the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Display, log, stop condition and start time of a run.

    Attributes:
        progress: Display of the progress.
        log: TensorBoard log of the epochs.
        should_stop: Called after each step; True stops training.
        start_s: ``time.monotonic()`` before the images were read: reading counts towards the time limit.
    """

    progress: Progress
    log: TensorBoardLog
    should_stop: Callable[[], bool]
    start_s: float


class Trainer:
    """Training loop of a run; ``run`` trains to the end."""

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        shipped: keras.Model,
        batches: Batches,
        validation: PixelCache,
        run: RunFolder,
        watch: Watch,
        class_names: Sequence[str],
    ) -> None:
        """Prepare to train, or to resume.

        Args:
            config: Configuration of the run.
            state: Initial training state; a saved state in the run folder is loaded into it.
            shipped: Network to save, see ``deployable``; it receives the trained weights.
            batches: Batches of the training split.
            validation: Validation split at the model's size.
            run: The open run folder.
            watch: Display, log, stop condition and start time of the run.
            class_names: Names of the classes in order of their ids.
        """
        self._config = config
        self._state = state
        self._shipped = shipped
        self._batches = batches
        self._validation = validation
        self._run = run
        self._class_names = class_names
        self._progress, self._log, self._should_stop = watch.progress, watch.log, watch.should_stop
        self._start_s = self._saved_s = watch.start_s
        self._step, self._sums = 0, EpochSums()
        self._restore()
        self._part_s = time.monotonic()  # since when this process works on the epoch
        self._elapsed_before_s = run.record.elapsed_s
        self._progress.resume(self._history)

    @property
    def _history(self) -> tuple[EpochRecord, ...]:
        return self._run.record.history

    def run(self) -> None:
        """Train until the epochs, the time or the patience is used up.

        Raises:
            DivergedError: The loss or a weight is not finite; earlier checkpoints are untouched.
            TrainingStopped: ``should_stop`` returned True; the state is saved.
            StorageError: A file cannot be written; earlier checkpoints are untouched.
            UsageError: A step takes more memory than there is; earlier checkpoints are untouched.
        """
        if self._history and self._run.best_on_disk() is None:
            # best.keras is lost, or a crash came before it was written: save the newest weights instead.
            with self._state.averaged():
                copy_weights(self._state.model, self._shipped)
            self._write_best(self._history[-1])
        try:
            while not self._finished():
                self._train_epoch(len(self._history))
                with self._state.averaged():
                    best, predictions = self._finish_epoch()
                self._save_state()
                self._time_epoch()
                record = self._history[-1]
                self._log.epoch(record, best=best, pictures=partial(self._samples, predictions))
                self._progress.epoch(record, best=best)
                self._note_if_stuck()
            self._write_history()
        except TrainingStopped:
            self._save_state()
            raise

    def _train_epoch(self, epoch: int) -> None:
        last_s = time.monotonic()
        for batch in self._batches.epoch(epoch, first_step=self._step):
            ready_s = time.monotonic()
            share = self._share(epoch * self._batches.steps + self._step)
            rate = self._learning_rate(share)
            with self._enough_memory():
                result = self._state.step(batch.images, batch.masks, rate, encoder_rate=encoder_rate_at(share))
            self._refuse_divergence(epoch, result.loss, rate, batch.indices)
            self._step += 1
            now_s = time.monotonic()
            self._sums = self._sums.plus(
                EpochSums(
                    loss=result.loss,
                    accuracy=result.accuracy,
                    step_s=now_s - ready_s,
                    wait_s=ready_s - last_s,
                )
            )
            last_s = now_s
            share = self._share(epoch * self._batches.steps + self._step)
            self._progress.step(epoch + 1, share, self._sums.loss / self._step, len(batch.indices))
            self._stop_if_asked()
            if self._elapsed_s() >= self._limit_s():
                break
            if now_s - self._saved_s > SAVE_EVERY_S:
                self._save_state()
                last_s = time.monotonic()  # saving is not waiting for batches

    def _finish_epoch(self) -> tuple[bool, NDArray[np.uint8]]:
        """Validate, record, and save the best model; return whether this is it, and the class ids found."""
        start_s = time.monotonic()
        matrix, predictions = self._validate()
        validate_s = time.monotonic() - start_s
        steps, sums = self._step, self._sums
        record = EpochRecord(
            epoch=len(self._history) + 1,
            loss=sums.loss / steps,
            accuracy=sums.accuracy / steps,
            val_mean_iou=mean_iou(matrix),
            val_pixel_accuracy=pixel_accuracy(matrix),
            learning_rate=float(self._state.optimizer.learning_rate.numpy()),
            seconds=self._epoch_s(),
            step_s=sums.step_s,
            wait_s=sums.wait_s,
            validate_s=validate_s,
            images_per_s=steps * self._config.batch_size / max(sums.step_s + sums.wait_s, 1e-9),
            val_class_iou=tuple(None if math.isnan(iou) else float(iou) for iou in class_iou(matrix)),
        )
        weight = self._state.unfit_weight()
        if weight is not None:
            raise DivergedError(
                f"training: epoch {record.epoch} — weight {weight} is not finite — lower --learning-rate; "
                "the checkpoints of the epochs before are intact"
            )
        on_disk = self._run.best_on_disk()
        best = on_disk is None or record.val_mean_iou > on_disk.val_mean_iou
        if best:
            self._write_best(record)
        self._run.add_epoch(record)
        self._step = 0
        return best, predictions

    def _epoch_s(self) -> float:
        """Return the seconds of the unfinished epoch so far, over all processes."""
        return self._sums.seconds + time.monotonic() - self._part_s

    def _time_epoch(self) -> None:
        """Record the time of the whole epoch, that of its checkpoints included, and begin that of the next one."""
        self._run.time_epoch(self._epoch_s())
        self._sums, self._part_s = EpochSums(), time.monotonic()

    def _note_if_stuck(self) -> None:
        if epochs_of_one_class(self._history) != STUCK_EPOCHS:
            return
        ious = self._history[-1].val_class_iou
        found = self._class_names[max(range(len(ious)), key=lambda i: ious[i] or 0)]
        c = self._config
        self._progress.note(
            f"has found nothing but '{printable(found)}' for {STUCK_EPOCHS} epochs: rare classes need time; if it "
            "stays so, look at the masks (edge-unet data preview), and pass a larger --input-size if the objects are small "
            f"at {c.width_px}x{c.height_px} pixels"
        )

    def _finished(self) -> bool:
        epochs = len(self._history)
        if self._step:
            return False
        if epochs and self._elapsed_s() >= self._limit_s():
            self._progress.note(f"stopping after {self._config.max_minutes:g} minutes")
            return True
        if epochs and self._config.patience:
            best = max(self._history, key=lambda r: r.val_mean_iou).epoch
            if epochs - best >= self._config.patience:
                self._progress.note(f"stopping: no better mean IoU for {self._config.patience} epochs")
                return True
        return self._config.epochs is not None and epochs >= self._config.epochs

    def _validate(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the confusion matrix of the validation split and the class ids found, (N, H, W) uint8.

        The validated network is the one that is saved: in float32, with the averaged weights.
        """
        images, masks = self._validation.images, self._validation.masks
        copy_weights(self._state.model, self._shipped)
        classes = max(2, self._shipped.output_shape[-1])
        found = np.empty(masks.shape, np.uint8)
        size = self._config.batch_size
        for first in range(0, len(images), size):
            self._stop_if_asked()
            batch = images[first : first + size].astype(np.float32)
            found[first : first + size] = class_ids_of(np.asarray(self._shipped.predict_on_batch(batch)))
        return confusion_matrix(np.asarray(masks), found, classes), found

    def _samples(self, predictions: NDArray[np.uint8]) -> Iterator[Sample]:
        """Yield the same few validation images every time, at the model's size."""
        for i in spread(range(len(predictions)), PICTURES):
            image = self._validation.images[i]
            yield Sample(
                name=Path(self._validation.names[i]).stem,
                image_bgr=np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., ::-1],
                truth=self._validation.masks[i],
                prediction=predictions[i],
            )

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            epoch = len(self._history) + 1
            raise TrainingStopped(f"stopped in epoch {epoch}, after step {self._step} of {self._batches.steps}")

    def _write_best(self, record: EpochRecord) -> None:
        archive = archive_of(self._shipped, self._run.root)
        self._run.write_best(archive, epoch=record.epoch, val_mean_iou=record.val_mean_iou)

    def _save_state(self) -> None:
        self._saved_s = time.monotonic()
        self._run.write_state(
            self._state.arrays(),
            epoch=len(self._history),
            step=self._step,
            elapsed_s=self._elapsed_s(),
            sums=replace(self._sums, seconds=self._epoch_s()) if self._step else EpochSums(),
        )
        self._write_history()

    def _write_history(self) -> None:
        write_bytes(self._run.root / "history.csv", to_csv(self._history).encode())

    def _restore(self) -> None:
        found = self._run.read_state()
        if found is None:
            return
        arrays, entry = found
        self._state.restore(arrays)
        self._step, self._sums = entry.step, entry.sums
        within = f" and {entry.step} steps" if entry.step else ""
        self._progress.note(f"resuming after epoch {entry.epoch}{within} from {entry.file}")

    def _refuse_divergence(self, epoch: int, loss: float, rate: float, indices: NDArray[np.int64]) -> None:
        if math.isfinite(loss):
            return
        names = ", ".join(self._batches.names[i] for i in indices)
        raise DivergedError(
            f"training: epoch {epoch + 1}, step {self._step + 1} — loss is {loss} — expected a finite number — "
            f"lower --learning-rate (now {rate:g}), or look at the images of this batch: {names}"
        )

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.ResourceExhaustedError as cause:
            c = self._config
            raise UsageError(
                f"--batch-size {c.batch_size} --input-size {c.height_px}x{c.width_px} — out of memory in a training step — "
                "choose smaller ones; what was saved before is intact, and --accumulate keeps the gradients as smooth"
            ) from cause

    def _share(self, step: int) -> float:
        """Return the finished share of the run, 0–1, by steps or by time, whichever is larger."""
        by_steps = step / (self._config.epochs * self._batches.steps) if self._config.epochs else 0.0
        return min(1.0, max(by_steps, self._elapsed_s() / self._limit_s()))

    def _learning_rate(self, share: float) -> float:
        return learning_rate_at(share, peak=self._config.learning_rate, schedule=self._config.recipe.schedule)

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._start_s

    def _limit_s(self) -> float:
        minutes = self._config.max_minutes
        return math.inf if minutes is None else minutes * 60 * (1 - RESERVED)


def archive_of(model: keras.Model, folder: Path) -> bytes:
    """Return the bytes of a model's ``.keras`` archive; ``folder`` holds the temporary file that Keras must write."""
    temporary = temporary_name(folder / "checkpoint.keras")
    try:
        with translated("write", temporary):
            model.save(temporary)
            return temporary.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)
