"""From a checked dataset to a finished run folder: everything around the training loop."""

from __future__ import annotations

import math
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation, evaluate
from edge_runtime.dataset.pairs import Pair, Split
from edge_runtime.errors import UsageError
from edge_runtime.model.contract import Contract
from edge_runtime.resources import available_memory, usable_cores
from edge_runtime.storage import printable, system_text
from training.config import Precision, Preset, TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import Dataset, read_class_ids
from training.data.splits import find_groups, hold_out_by_seed, hold_out_groups
from training.errors import DataError, ResumeError, TrainingStopped
from training.input.augment import augment, mix
from training.input.batches import Batches
from training.input.cache import PixelCache, cache_size, open_cache, require_space
from training.loop.keras_segmenter import KerasSegmenter
from training.loop.run_folder import RunFolder
from training.loop.sizes import PlanFacts, TrainingPlan, output_bytes_per_pixel, plan_training
from training.loop.train_state import Learner
from training.loop.trainer import Trainer
from training.losses.make import make_loss
from training.losses.weights import class_weights_of
from training.monitor.records import Progress
from training.monitor.tensorboard import TensorBoardLog
from training.network.deploy import deployable
from training.network.encoders import EncoderWeights, load_encoder
from training.network.shape import Shape
from training.report import ReportFacts, write_report
from training.report.pictures import write_pictures

STATE_BYTES = 4 * (3 * 4 + 2)
"""Room that a parameter takes on disk, at most: three states of four numbers each, and the best model twice."""
RESUMABLE_CHANGES = frozenset({"epochs", "max_minutes", "patience"})


def fit(
    config: TrainConfig,
    report: DatasetReport,
    run: RunFolder,
    progress: Progress,
    *,
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    force_resume: bool = False,
) -> Evaluation:
    """Train, or go on training, and finish the run folder.

    Sets Keras' global random seed, so that the same configuration starts from the same weights.

    Args:
        config: What to train.
        report: The checked dataset.
        run: An open run folder, with or without checkpoints.
        progress: Where to show what happens.
        command: What was typed to start the run, for its report.
        should_stop: Asked after each step; training then saves its state and ends.
        force_resume: Go on although the configuration or the data differ from those of the run.

    Returns:
        Metrics of the best checkpoint on the validation split at the size of its images, as the runtime computes them.

    Raises:
        DataError: The validation split that is asked for cannot be made.
        DivergedError: The loss or a weight is not finite; the checkpoints of before are untouched.
        ResumeError: The run folder was made with another configuration or other data.
        StorageError: A file cannot be written; the checkpoints of before are untouched.
        TrainingStopped: ``should_stop`` said so.
    """
    start_s = time.monotonic()
    dataset, split_by = _split(config, report)
    contract = _contract(config, report, run.root.resolve().name)
    _record_setup(run, config, report, contract, dataset, force=force_resume, progress=progress)
    train, val = _caches(config, report, dataset, run, progress, should_stop)
    # A state has the weights of the encoder: to go on, neither a download nor their file is needed again.
    start = replace(config, encoder_weights=None) if run.begun else config
    learner = make_learner(start, contract, _pixels(report, dataset))
    shipped = deployable(learner.model, config.shape)
    parameters = shipped.count_params()
    require_space(run.root, STATE_BYTES * parameters, "the checkpoints")
    run.record["parameters"] = parameters
    run.save()
    progress.note(
        f"{config.preset}: {parameters:,} parameters, {len(train.names)} images to train on, {len(val.names)} to validate"
    )
    with TensorBoardLog(run.root / "tensorboard", contract.classes) as log:
        batches = make_batches(config, train)
        Trainer(
            config, learner, shipped, batches, val, run, progress, log, should_stop=should_stop, start_s=start_s
        ).run()
    for cache in (train, val):
        cache.remove()
    return _finish(run, contract, report, dataset, split_by, command, progress, should_stop)


def make_learner(config: TrainConfig, contract: Contract, pixels: NDArray[np.int64]) -> Learner:
    """Build the network, its optimizer and its loss, on every device that there is.

    Args:
        config: What to train.
        contract: What goes in and out.
        pixels: (classes,) pixels of each class in the training split, for the weights of the classes.
    """
    strategy = tf.distribute.MirroredStrategy() if len(_gpus()) > 1 else tf.distribute.get_strategy()
    devices = strategy.num_replicas_in_sync
    if config.batch_size % devices:
        raise UsageError(f"--batch-size {config.batch_size} — for {devices} devices — expected a multiple of {devices}")
    classes = len(contract.classes)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(_policy(config.precision))
    try:
        with strategy.scope():
            model = config.shape.build(
                height_px=config.height_px,
                width_px=config.width_px,
                channels=contract.channels,
                logit_channels=contract.logit_channels,
                for_training=True,
            )
            if config.encoder and config.encoder_weights:
                load_encoder(model, config.encoder, _weights_source(config.encoder_weights))
            optimizer = _optimizer(config)
    finally:
        keras.config.set_dtype_policy("float32")
    weights = class_weights_of(pixels) if config.class_weights else None
    loss = make_loss(config.loss, classes=classes, class_weights=weights, label_smoothing=config.label_smoothing)
    return Learner(model, optimizer, loss, average_over=config.recipe.average_over, strategy=strategy)


def _weights_source(text: str) -> EncoderWeights:
    return "imagenet" if text == "imagenet" else Path(text)


def make_batches(config: TrainConfig, cache: PixelCache) -> Batches:
    """Batches of a training split as the configuration wants them: in random order, and varied."""
    return Batches(
        cache,
        height_px=config.height_px,
        width_px=config.width_px,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=augment if config.augment else None,
        mix=(lambda images, masks, rng: mix(images, masks, config.mix, rng)) if config.mix else None,
    )


def _caches(
    config: TrainConfig,
    report: DatasetReport,
    dataset: Dataset,
    run: RunFolder,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> tuple[PixelCache, PixelCache]:
    """Decode both splits: for training at a size that can be zoomed into, for validation at the model's."""
    size = config.height_px, config.width_px
    sizes: dict[Split, tuple[int, int]] = {"train": size, "val": size}
    if config.augment:
        sizes["train"] = cache_size(
            (report.shapes[pair] for pair in dataset.splits["train"]), height_px=size[0], width_px=size[1]
        )
    caches = []
    for split, (height_px, width_px) in sizes.items():
        pairs = dataset.splits[split]
        with progress.phase(f"reading {split} images", len(pairs)) as advance:
            cache = open_cache(
                pairs,
                lambda pair: read_class_ids(pair, report.key),
                height_px=height_px,
                width_px=width_px,
                channels=report.channels,
                folder=run.root / f"{split}-pixels",
                labels=report.fingerprint,
                on_pair=_stopping(advance, should_stop, f"reading {split} images"),
            )
        caches.append(cache)
    return caches[0], caches[1]


def _finish(
    run: RunFolder,
    contract: Contract,
    report: DatasetReport,
    dataset: Dataset,
    split_by: str,
    command: str,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> Evaluation:
    """Measure the best model on whole validation images, and write the report."""
    segment = KerasSegmenter(keras.saving.load_model(run.best, compile=False), contract)
    pairs = dataset.splits["val"]

    def read_truth(pair: Pair) -> NDArray[np.uint8]:
        return read_class_ids(pair, report.key)

    with progress.phase("measuring the best epoch", len(pairs)) as advance:
        classes = [c.name for c in contract.classes]
        next_image = _stopping(advance, should_stop, "measuring the best epoch")
        result = evaluate(segment, pairs, key=report.key, classes=classes, on_image=lambda _: next_image())
    write_pictures(run.root / "pictures", pairs, read_truth, segment, contract.classes)
    run.record["metrics"] = {"split": "val", **result.to_dict()}
    run.record["status"] = "finished"
    facts = ReportFacts(
        record=run.record,
        evaluation=result,
        pairs=pairs,
        read_truth=read_truth,
        segment=segment,
        check=report.to_dict(),
        sizes=Counter(report.shapes.values()),
        train_pixels=_pixels(report, dataset),
        split_by=split_by,
        command=command,
        cores=usable_cores(),
    )
    write_report(run.root / "report.html", facts)
    run.remove_old_states()
    return result


def _stopping(advance: Callable[[], None], should_stop: Callable[[], bool], what: str) -> Callable[[], None]:
    """Return ``advance`` that also ends the work if that is wanted."""

    def next_part() -> None:
        advance()
        if should_stop():
            raise TrainingStopped(f"stopped while {what}")

    return next_part


def _split(config: TrainConfig, report: DatasetReport) -> tuple[Dataset, str]:
    """Return the dataset with the validation split that the configuration asks for, and in words where it is from."""
    if not report.dataset.splits.get("train"):
        raise DataError(f"dataset {printable(report.dataset.root)} — nothing to train on — expected images in train/")
    groups = find_groups(report.dataset, config.group_by or report.info.groups)
    if config.val_groups:
        if groups is None:
            raise UsageError(
                f"--val-groups {','.join(config.val_groups)} — the dataset has no groups — pass --group-by PATTERN or write "
                "groups.csv"
            )
        named = f"the groups {', '.join(config.val_groups)} of the training images"
        return hold_out_groups(report.dataset, config.val_groups, groups), named
    if report.dataset.splits.get("val"):
        return report.dataset, "the dataset's val folder"
    classes_in = {pair: report.classes_in(pair) for pair in report.dataset.splits["train"]}
    held_out = hold_out_by_seed(
        report.dataset, config.validation_fraction, config.seed, groups=groups, classes_in=classes_in
    )
    return held_out, f"held out by seed{'' if groups is None else ', groups whole'}"


def _pixels(report: DatasetReport, dataset: Dataset) -> NDArray[np.int64]:
    """Return (classes,) pixels of each class in the training split."""
    return np.sum([report.counts[pair] for pair in dataset.splits["train"]], axis=0)


def planned(
    preset: Preset, shape: Shape, report: DatasetReport, input_size: tuple[int, int] | None, batch_size: int | None
) -> TrainingPlan:
    """Choose what the user has not: input size and batch size, from the data and the memory.

    Args:
        preset: Its size and batch size are the starting point.
        shape: The network.
        report: The checked dataset.
        input_size: (height, width) if the user has chosen it.
        batch_size: If the user has chosen it.

    Raises:
        UsageError: It does not fit into the memory.
    """
    if preset.fixed_size:
        input_size, batch_size = input_size or preset.input_size, batch_size or preset.batch_size
    small = shape.build(
        height_px=shape.stride,
        width_px=shape.stride,
        channels=report.channels,
        logit_channels=len(report.info.classes),
    )
    facts = PlanFacts(
        image_sizes=[report.shapes[pair] for pair in report.dataset.splits.get("train", ())] or [preset.input_size],
        stride=shape.stride,
        pixels=math.prod(preset.input_size),
        batch_size=preset.batch_size,
        output_bytes_per_pixel=output_bytes_per_pixel(small),
        parameters=small.count_params(),
        memory_bytes=available_memory(),
    )
    return plan_training(facts, input_size=input_size, batch_size=batch_size)


def _gpus() -> list[Any]:
    return list(tf.config.list_physical_devices("GPU"))


def _policy(precision: Precision) -> str:
    """Return Keras' policy; "auto" is bfloat16 where the device multiplies in it, else float32."""
    if precision == "auto":
        flags = system_text(Path("/proc/cpuinfo")).partition("flags")[2].partition("\n")[0].split()
        gains = _gpus() or {"avx512_bf16", "amx_bf16"} & set(flags)
        precision = "bfloat16" if gains else "float32"
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def _optimizer(config: TrainConfig) -> keras.optimizers.Optimizer:
    steps = config.accumulate if config.accumulate > 1 else None
    if config.recipe.optimizer == "adam":
        return keras.optimizers.Adam(config.learning_rate, gradient_accumulation_steps=steps)
    optimizer = keras.optimizers.AdamW(
        config.learning_rate, weight_decay=config.recipe.weight_decay, gradient_accumulation_steps=steps
    )
    # Decay shrinks filters; shrinking biases and normalisation parameters only hurts.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


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
    run: RunFolder,
    config: TrainConfig,
    report: DatasetReport,
    contract: Contract,
    dataset: Dataset,
    *,
    force: bool,
    progress: Progress,
) -> None:
    """Write what the run is made of into ``run.json``, or compare it with what stands there."""
    versions = {name: version(name) for name in ("edge-unet", "keras", "tensorflow", "numpy", "opencv-python")}
    if "config" in run.record:
        differences = _differences(run.record, config, report, versions["keras"])
        if differences and not force:
            raise ResumeError(
                f"--resume {run.root} — changed: {'; '.join(differences)} — start a new run with another --out, or pass "
                "--force-resume"
            )
        for line in differences:
            progress.note(f"changed since this run began: {line}")
    root = dataset.root.resolve()
    run.record.update(
        status="running",
        config=config.to_dict(),
        contract=contract.to_dict(),
        data={
            "root": str(root),
            "fingerprint": report.fingerprint,
            "mask_encoding": report.encoding,
            "labels": report.key.to_dict(),
            "splits": {
                split: [[str(path.relative_to(dataset.root)) for path in (p.image, p.mask)] for p in pairs]
                for split, pairs in dataset.splits.items()
            },
        },
        versions={**versions, "python": platform.python_version()},
        seed=config.seed,
    )


def _differences(record: dict[str, Any], config: TrainConfig, report: DatasetReport, keras_version: str) -> list[str]:
    lines = [line for line in config.differences(record["config"]) if line.split(":")[0] not in RESUMABLE_CHANGES]
    if record["data"]["fingerprint"] != report.fingerprint:
        lines.append(f"data: {record['data']['fingerprint'][:12]} → {report.fingerprint[:12]}")
    if record["versions"]["keras"] != keras_version:
        lines.append(f"keras: {record['versions']['keras']} → {keras_version}")
    return lines
