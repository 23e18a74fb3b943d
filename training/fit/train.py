"""Train on a folder of images and masks; TensorFlow is loaded only after the data has passed its check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from training.config import TrainConfig
from training.data.check import check_dataset, warnings_in_short
from training.data.validation import with_validation
from training.loop.run_folder import open_run
from training.loop.run_setup import recorded_splits
from training.monitor.progress import Progress, Silent

if TYPE_CHECKING:
    from edge_runtime.dataset.evaluate import Evaluation


def train(
    data: str | Path,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    resume: bool = False,
    force_resume: bool = False,
    skip_bad: bool = False,
    allow_unpaired: bool = False,
    allow_lossy_mask: bool = False,
    empty_without_mask: bool = False,
    allow_copies: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Check a dataset, train on it, and write a run folder, as ``edge-unet train`` does.

    No signal handler is installed. After an exception, ``KeyboardInterrupt`` included, ``resume=True`` continues from
    the last saved state. Keras' global random seed is set.

    Args:
        data: Dataset folder with ``images`` and ``masks``, or with both per split (``train/images`` …);
            ``dataset.yaml`` is optional.
        out: Run folder to write.
        config: Configuration of the run; the preset "edge" by default. The settings in its ``from_data`` are chosen
            from the data and the free memory.
        resume: Continue the run in ``out``.
        force_resume: Continue the run even if the configuration or the data have changed, as far as its weights fit.
        skip_bad: Leave out pairs whose files are damaged or do not fit each other or the dataset.
        allow_unpaired: Leave out images without a mask and masks without an image.
        allow_lossy_mask: Accept JPEG masks.
        empty_without_mask: Take images without a mask as all background.
        allow_copies: Accept pictures that are in two splits.
        progress: Display of the progress; nothing is shown by default.
        should_stop: Called after each step; if it returns True, training saves its state and raises
            ``TrainingStopped``.

    Returns:
        Metrics of the best model on the validation split, at the size of its images.

    Raises:
        DataError: The dataset, or a file in it, cannot be used for training.
        DivergedError: The loss or a weight is not finite; earlier checkpoints are untouched.
        ResumeError: The run folder was made with another configuration or other data, or with ones that its weights
            cannot go on with.
        StorageError: A file cannot be written; earlier checkpoints are untouched.
        TrainingStopped: ``should_stop`` returned True.
        UsageError: ``out`` is not empty, or the configuration cannot work with this dataset.

    Example:
        >>> from training import TrainConfig, train
        >>> config = TrainConfig.from_preset("edge-nano", input_size=(32, 32), batch_size=2, epochs=1)
        >>> result = train(data, tmp_path / "run", config)
        >>> 0 <= result.mean_iou <= 1
        True
        >>> (tmp_path / "run" / "best.keras").is_file()
        True
    """
    progress = progress or Silent()
    with open_run(Path(out), resume=resume or force_resume) as run:
        report = check_dataset(
            Path(data),
            on_progress=progress.advance,
            skip_bad=skip_bad,
            allow_unpaired=allow_unpaired,
            allow_lossy_mask=allow_lossy_mask,
            empty_without_mask=empty_without_mask,
            allow_copies=allow_copies,
        )
        report.require_ok()
        for line in warnings_in_short(report):
            progress.note(line)
        config = config or TrainConfig.from_preset("edge")
        validated = with_validation(config, report, recorded_splits(run, config))
        from training.fit.run import fit

        return fit(
            config,
            report,
            validated,
            run,
            progress,
            should_stop=should_stop,
            force_resume=force_resume,
        )
