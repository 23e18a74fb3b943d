"""The training loop: from a checked dataset to a finished run folder."""

from __future__ import annotations

import csv
import io
import math
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.contract import Contract
from edge_runtime.evaluate import Evaluation, evaluate
from edge_runtime.metrics import confusion_matrix, mean_iou, pixel_accuracy
from edge_runtime.postprocess import class_ids_of
from edge_runtime.storage import temporary_name, translated, write_bytes
from training.augment import augment
from training.check import DatasetReport
from training.config import PRESETS, TrainConfig
from training.dataset import Arrays, load_arrays, with_validation
from training.errors import DivergedError, ResumeError
from training.losses import LOSSES, accuracy
from training.pictures import write_pictures
from training.predict import KerasSegmenter
from training.run_folder import RunFolder
from training.unet import build_unet

WARM_UP = 0.03
"""Share of a cosine schedule over which the learning rate rises from zero."""
RESUMABLE_CHANGES = frozenset({"epochs", "max_minutes", "patience"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One row of ``history.csv``.

    Attributes:
        epoch: From 1.
        loss: Mean training loss.
        accuracy: Share of right training pixels.
        val_mean_iou: On the validation split, at the model's size, from one confusion matrix.
        val_pixel_accuracy: Likewise.
        learning_rate: At the end of the epoch.
        seconds: Time of the epoch with its validation.
    """

    epoch: int
    loss: float
    accuracy: float
    val_mean_iou: float
    val_pixel_accuracy: float
    learning_rate: float
    seconds: float


class Progress(Protocol):
    """Whoever shows how far training is; ``training.progress`` draws a bar."""

    def step(self, epoch: int, share: float, loss: float) -> None:
        """Note a step: the running epoch, the share of the whole run that is done (0–1), and the mean loss so far."""

    def epoch(self, record: EpochRecord, *, best: bool) -> None:
        """Note the end of an epoch."""

    def note(self, text: str) -> None:
        """Show a line of text."""


def fit(config: TrainConfig, report: DatasetReport, run: RunFolder, progress: Progress) -> Evaluation:
    """Train, or go on training, and finish the run folder.

    Sets Keras' global random seed, so that the same configuration starts from the same weights.

    Args:
        config: What to train.
        report: The checked dataset.
        run: An open run folder, with or without checkpoints.
        progress: Where to show what happens.

    Returns:
        Metrics of the best checkpoint on the validation split at the size of its images, as the runtime computes them.

    Raises:
        DivergedError: The loss or a weight is not finite; the checkpoints of before are untouched.
        ResumeError: The run folder was made with another configuration or other data.
        StorageError: A file cannot be written; the checkpoints of before are untouched.
    """
    dataset = with_validation(report.dataset, config.validation_fraction, config.seed)
    contract = _contract(config, report, run.root.resolve().name)
    _record_setup(run, config, report, contract, dataset.splits)
    train, val = (
        load_arrays(
            dataset.splits[split],
            report.info,
            report.encoding,
            height_px=config.height_px,
            width_px=config.width_px,
            channels=report.channels,
        )
        for split in ("train", "val")
    )
    keras.utils.set_random_seed(config.seed)
    model = build_unet(
        PRESETS[config.preset].plan,
        height_px=config.height_px,
        width_px=config.width_px,
        channels=report.channels,
        logit_channels=contract.logit_channels,
    )
    _compile(model, config)
    run.record["parameters"] = model.count_params()
    progress.note(
        f"{config.preset}: {model.count_params():,} parameters, {len(train.names)} images to train on, {len(val.names)} to validate"
    )
    _restore(model, run, progress)
    run.save()
    _Trainer(config, model, train, val, run, progress).run()
    model.load_weights(run.checkpoint("best"))
    pairs = dataset.splits["val"]
    segment = KerasSegmenter(model, contract)
    result = evaluate(
        segment,
        pairs,
        encoding=report.encoding,
        classes=[c.name for c in contract.classes],
        ignore_id=contract.ignore_id,
    )
    write_pictures(run.root / "pictures", pairs, segment, report)
    run.record["metrics"] = {"split": "val", **result.to_dict()}
    run.record["status"] = "finished"
    run.save()
    return result


class _Trainer:
    """The state of one training run; ``run`` is the loop."""

    def __init__(
        self, config: TrainConfig, model: keras.Model, train: Arrays, val: Arrays, run: RunFolder, progress: Progress
    ) -> None:
        self._config = config
        self._preset = PRESETS[config.preset]
        self._model = model
        self._train = train
        self._val = val
        self._run = run
        self._progress = progress
        self._steps = math.ceil(len(train.names) / config.batch_size)
        self._history = [EpochRecord(**row) for row in run.record["history"]]
        self._elapsed_before_s: float = run.record["elapsed_s"]
        self._start_s = time.monotonic()

    def run(self) -> None:
        """Train until the epochs, the time or the patience is used up."""
        writer = tf.summary.create_file_writer(str(self._run.root / "tensorboard"))
        while not self._finished():
            record = self._epoch(len(self._history))
            best = record.val_mean_iou > self._run.best_mean_iou()
            self._history.append(record)
            self._checkpoint(record, best=best)
            with writer.as_default(step=record.epoch):
                for name, value in asdict(record).items():
                    tf.summary.scalar(name, value)
            writer.flush()
            self._progress.epoch(record, best=best)
        writer.close()

    def _finished(self) -> bool:
        epochs = len(self._history)
        if epochs and self._elapsed_s() >= self._limit_s():
            self._progress.note(f"stopping after {self._config.max_minutes:g} minutes")
            return True
        if epochs and self._config.patience:
            best = max(self._history, key=lambda r: r.val_mean_iou).epoch
            if epochs - best >= self._config.patience:
                self._progress.note(f"stopping: no better mean IoU for {self._config.patience} epochs")
                return True
        return self._config.epochs is not None and epochs >= self._config.epochs

    def _epoch(self, epoch: int) -> EpochRecord:
        start_s = time.monotonic()
        self._model.reset_metrics()
        logs: dict[str, float] = {}
        rate = 0.0
        for step, (images, masks, indices) in enumerate(self._batches(epoch)):
            share = self._share(epoch * self._steps + step)
            rate = self._learning_rate(share)
            self._model.optimizer.learning_rate.assign(rate)
            # With a channel axis: Keras would take that of a binary prediction away to match ids without one.
            logs = self._model.train_on_batch(images, masks[..., np.newaxis], return_dict=True)
            if not math.isfinite(logs["loss"]):
                names = ", ".join(self._train.names[i] for i in indices)
                raise DivergedError(
                    f"training: epoch {epoch + 1}, step {step + 1} — loss is {logs['loss']} — expected a finite number — "
                    f"lower --learning-rate (now {rate:g}), or look at the images of this batch: {names}"
                )
            self._progress.step(epoch + 1, self._share(epoch * self._steps + step + 1), logs["loss"])
            if self._elapsed_s() >= self._limit_s():
                break
        matrix = self._validate()
        return EpochRecord(
            epoch=epoch + 1,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_mean_iou=mean_iou(matrix),
            val_pixel_accuracy=pixel_accuracy(matrix),
            learning_rate=rate,
            seconds=time.monotonic() - start_s,
        )

    def _batches(self, epoch: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield the batches of an epoch, each made in a thread while the step before it runs.

        Order and augmentation depend on seed, epoch and step alone, so that a resumed run sees what it would have seen.
        """
        config, size = self._config, self._config.batch_size
        order = np.random.default_rng([config.seed, epoch]).permutation(len(self._train.names))

        def batch(step: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
            indices = order[step * size : (step + 1) * size]
            images, masks = self._train.images[indices], self._train.masks[indices]
            if config.augment:
                rng = np.random.default_rng([config.seed, epoch, step])
                for i in range(len(indices)):
                    images[i], masks[i] = augment(images[i], masks[i], rng)
            return images.astype(np.float32), masks, indices

        with ThreadPoolExecutor(max_workers=1) as pool:
            upcoming = pool.submit(batch, 0)
            for step in range(self._steps):
                current = upcoming.result()
                if step + 1 < self._steps:
                    upcoming = pool.submit(batch, step + 1)
                yield current

    def _validate(self) -> NDArray[np.int64]:
        classes = max(2, self._model.output_shape[-1])
        matrix = np.zeros((classes, classes), np.int64)
        size = self._config.batch_size
        for first in range(0, len(self._val.names), size):
            images = self._val.images[first : first + size].astype(np.float32)
            found = class_ids_of(np.asarray(self._model.predict_on_batch(images)))
            matrix += confusion_matrix(self._val.masks[first : first + size], found, classes)
        return matrix

    def _checkpoint(self, record: EpochRecord, *, best: bool) -> None:
        for weight in self._model.weights:
            if not np.isfinite(weight.numpy()).all():
                raise DivergedError(
                    f"training: epoch {record.epoch} — weight {weight.path} is not finite — lower --learning-rate; "
                    "the checkpoints of the epochs before are intact"
                )
        self._run.record.update(history=[asdict(r) for r in self._history], elapsed_s=self._elapsed_s())
        archive = archive_of(self._model, self._run.root)
        self._run.write_checkpoint(archive, record.epoch, record.val_mean_iou, best=best)
        write_bytes(self._run.root / "history.csv", _csv(self._history).encode())

    def _share(self, step: int) -> float:
        """Return the share of the run that is done, 0–1, by steps or by time, whichever is further."""
        by_steps = step / (self._config.epochs * self._steps) if self._config.epochs else 0.0
        return min(1.0, max(by_steps, self._elapsed_s() / self._limit_s()))

    def _learning_rate(self, share: float) -> float:
        """Return the learning rate at a share of the run: constant, or warm-up and cosine.

        Reference: Loshchilov, Hutter: SGDR, ICLR 2017. https://arxiv.org/abs/1608.03983
        """
        peak = self._config.learning_rate
        if self._preset.schedule == "constant":
            return peak
        if share < WARM_UP:
            return peak * max(0.02, share / WARM_UP)
        return peak * max(0.005, 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))))

    def _elapsed_s(self) -> float:
        return self._elapsed_before_s + time.monotonic() - self._start_s

    def _limit_s(self) -> float:
        return math.inf if self._config.max_minutes is None else self._config.max_minutes * 60


def archive_of(model: keras.Model, folder: Path) -> bytes:
    """Return the bytes of a model's ``.keras`` archive, which Keras can only write to a path; ``folder`` is for that."""
    temporary = temporary_name(folder / "checkpoint.keras")
    try:
        with translated("write", temporary):
            model.save(temporary)
            return temporary.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)


def _compile(model: keras.Model, config: TrainConfig) -> None:
    preset = PRESETS[config.preset]
    if preset.optimizer == "adam":
        optimizer = keras.optimizers.Adam(config.learning_rate)
    else:
        optimizer = keras.optimizers.AdamW(config.learning_rate, weight_decay=1e-2)
        # Decay shrinks filters; shrinking biases and normalisation parameters only hurts.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # XLA, which Keras would choose here, takes 1.4 times as long a step on a CPU.
    model.compile(optimizer, loss=LOSSES[preset.loss], metrics=[accuracy], jit_compile=False)


def _restore(model: keras.Model, run: RunFolder, progress: Progress) -> None:
    """Load the newest whole checkpoint, with the optimizer's state, into a freshly built model."""
    point = run.resume_point()
    if point is None:
        return
    path, entry = point
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    progress.note(f"resuming after epoch {entry['epoch']} from {path.name} (mean IoU {entry['val_mean_iou']:.4f})")


def _contract(config: TrainConfig, report: DatasetReport, name: str) -> Contract:
    return Contract(
        name=name,
        height_px=config.height_px,
        width_px=config.width_px,
        channels=report.channels,
        binary=len(report.info.classes) == 2,
        classes=report.info.classes,
        ignore_id=report.info.ignore_id,
    )


def _record_setup(
    run: RunFolder, config: TrainConfig, report: DatasetReport, contract: Contract, splits: dict[Any, Any]
) -> None:
    """Write what the run is made of into ``run.json``, or compare it with what stands there."""
    versions = {name: version(name) for name in ("edge-unet", "keras", "tensorflow", "numpy", "opencv-python")}
    if "config" in run.record:
        differences = [
            line for line in config.differences(run.record["config"]) if line.split(":")[0] not in RESUMABLE_CHANGES
        ]
        if run.record["data"]["fingerprint"] != report.fingerprint:
            differences.append(f"data: {run.record['data']['fingerprint'][:12]} → {report.fingerprint[:12]}")
        if run.record["versions"]["keras"] != versions["keras"]:
            differences.append(f"keras: {run.record['versions']['keras']} → {versions['keras']}")
        if differences:
            raise ResumeError(
                f"--resume {run.root} — changed: {'; '.join(differences)} — start a new run with another --out"
            )
    root = report.dataset.root.resolve()
    run.record.update(
        status="running",
        config=config.to_dict(),
        contract=contract.to_dict(),
        data={
            "root": str(root),
            "fingerprint": report.fingerprint,
            "mask_encoding": report.encoding,
            "splits": {
                split: [
                    [str(p.image.relative_to(report.dataset.root)), str(p.mask.relative_to(report.dataset.root))]
                    for p in pairs
                ]
                for split, pairs in splits.items()
            },
        },
        versions={**versions, "python": platform.python_version()},
        seed=config.seed,
    )


def _csv(history: list[EpochRecord]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(EpochRecord.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    return text.getvalue()
