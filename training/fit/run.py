"""Choose the open settings of a run on a checked dataset, train, and finish the run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from edge_runtime.dataset.evaluate import Evaluation
from edge_runtime.progress import OnProgress
from edge_runtime.storage import write_bytes
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.validation import Validated
from training.errors import TrainingStopped
from training.fit.adjust import adjust_logits
from training.fit.finish import ReportContext, finish
from training.fit.interpolate import interpolate_weights
from training.input.cache import require_space
from training.input.flips import choose_flip
from training.input.prepare import decode_splits, make_batches
from training.loop.initial_state import initial_state
from training.loop.run_folder import RunFolder
from training.loop.run_setup import begin, contract_for, setup_of
from training.loop.sizes import with_sizes
from training.loop.trainer import Trainer, Watch, archive_of
from training.monitor.progress import Progress
from training.monitor.tensorboard import TensorBoardLog
from training.network.deploy import copy_weights, deployable
from training.network.start import measure_statistics

STATE_BYTES = 4 * (3 * 4 + 2)
"""Upper bound of the disk bytes per parameter: 3 states × 4 arrays + 2 copies of ``best.keras``, float32."""


def fit(
    config: TrainConfig,
    report: DatasetReport,
    validated: Validated,
    run: RunFolder,
    progress: Progress,
    *,
    command: str = "",
    should_stop: Callable[[], bool] = lambda: False,
    force_resume: bool = False,
) -> Evaluation:
    """Choose the settings that the configuration leaves open, train or resume training, and finish the run folder.

    Sets Keras' global random seed, so that the same configuration starts from the same weights.

    Args:
        config: Configuration of the run.
        report: The checked dataset, without errors.
        validated: The dataset with its validation split, from ``with_validation``.
        run: An open run folder, with or without checkpoints.
        progress: Display of the progress.
        command: Command line that started the run, for the report.
        should_stop: Called after each step; if it returns True, training saves its state and ends.
        force_resume: Resume even if the configuration or the data differ from those of the run.

    Returns:
        Metrics of the best checkpoint on the validation split at the size of its images, as the runtime computes them.

    Raises:
        DataError: A file cannot be read, or no labelled pixel of a split is left at the model's size.
        DivergedError: The loss or a weight is not finite; earlier checkpoints are untouched.
        ResumeError: The run folder was made with another configuration or other data.
        StorageError: A file cannot be written; earlier checkpoints are untouched.
        TrainingStopped: ``should_stop`` returned True.
        UsageError: The memory is too small for the sizes that the user wants.
    """
    config, reasons = with_sizes(config, report, run.record.setup)
    for line in reasons:
        progress.note(line)
    start_s = time.monotonic()
    dataset = validated.dataset
    contract = contract_for(config, report, run.root.resolve().name)
    begin(run, config, setup_of(config, report, dataset, contract), force=force_resume, note=progress.note)
    on_progress = _stopping(progress.advance, should_stop)
    train, val = decode_splits(config, report, dataset, run.root, on_progress)
    if config.augment and config.flip is None:
        # The same images give the same choice, so that a resumed run goes on as it began.
        flip, why = choose_flip(train, len(contract.classes))
        config = replace(config, flip=flip)
        if why is not None:
            progress.note(why)
    state = initial_state(config, contract, report.pixels_of(dataset.splits["train"]), pretrained=not run.begun)
    shipped = deployable(state.model, config.shape, (config.height_px, config.width_px))
    parameters = shipped.count_params()
    require_space(run.root, STATE_BYTES * parameters, "the checkpoints")
    run.add_parameters(parameters)
    progress.note(
        f"{config.preset}: {parameters:,} parameters, {len(train.names)} images to train on, {len(val.names)} to validate "
        f"({validated.split_by})"
    )
    with TensorBoardLog(run.root / "tensorboard", contract.classes) as log:
        watch = Watch(progress=progress, log=log, should_stop=should_stop, start_s=start_s)
        batches = make_batches(config, train, [report.classes_in(pair) for pair in dataset.splits["train"]])
        if config.recipe.informed_start and not run.begun:
            measure_statistics(state.model, batches.batch(0, 0).images)
        names = [c.name for c in contract.classes]
        if config.public_weights and not run.begun:
            copy_weights(state.model, shipped)
            write_bytes(run.start, archive_of(shipped, run.root))
        Trainer(config, state, shipped, batches, val, run, watch, names).run()
    if config.public_weights:
        with state.averaged():
            copy_weights(state.model, shipped)
        interpolate_weights(run, shipped, val, progress.note, on_progress)
    if config.recipe.adjust_logits:
        adjust_logits(run, val, names, progress.note)
    for cache in (train, val):
        cache.remove()
    context = ReportContext(
        report=report, dataset=dataset, split_by=validated.split_by, contract=contract, command=command
    )
    return finish(run, context, on_progress)


def _stopping(on_progress: OnProgress, should_stop: Callable[[], bool]) -> OnProgress:
    """Return ``on_progress`` that also raises ``TrainingStopped`` once ``should_stop`` returns True."""

    def report(what: str, done: int, total: int) -> None:
        on_progress(what, done, total)
        if done and should_stop():
            raise TrainingStopped(f"stopped while {what}")

    return report
