"""Record configuration, data and versions of a run, and refuse to resume it with others."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version

from edge_runtime.model.contract import Contract
from edge_runtime.storage import printable
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import Dataset
from training.data.validation import Recorded
from training.errors import ResumeError
from training.loop.changes import changes, misfit
from training.loop.run_folder import RunFolder
from training.loop.run_record import DIGEST_CHARS, DataRecord, RunSetup

SPLIT_SETTINGS = ("validation_fraction", "group_by", "val_groups", "seed")
_PACKAGES = ("edge-unet", "keras", "tensorflow", "numpy", "opencv-python")


def contract_for(config: TrainConfig, report: DatasetReport, name: str) -> Contract:
    """Return the contract of the model: its input and its classes."""
    return Contract(
        name=name,
        height_px=config.height_px,
        width_px=config.width_px,
        channels=report.channels,
        binary=len(report.info.classes) == 2,
        classes=report.info.classes,
        ignore_id=report.info.ignore_id,
    )


def setup_of(config: TrainConfig, report: DatasetReport, dataset: Dataset, contract: Contract) -> RunSetup:
    """Return the configuration, data and versions of a run.

    Args:
        config: Configuration of the run.
        report: The checked dataset.
        dataset: The dataset with its validation split.
        contract: Input and classes of the model.
    """
    return RunSetup(
        config=config.to_dict(),
        contract=contract,
        data=DataRecord(
            root=str(dataset.root.resolve()),
            fingerprint=report.fingerprint,
            mask_encoding=report.encoding,
            labels=report.key,
            splits={
                split: tuple(
                    (
                        str(pair.image.relative_to(dataset.root)),
                        None if pair.mask is None else str(pair.mask.relative_to(dataset.root)),
                    )
                    for pair in pairs
                )
                for split, pairs in dataset.splits.items()
            },
            digests={
                split: tuple("".join(digest[:DIGEST_CHARS] for digest in report.digests[pair]) for pair in pairs)
                for split, pairs in dataset.splits.items()
            },
        ),
        versions={**{name: version(name) for name in _PACKAGES}, "python": platform.python_version()},
        seed=config.seed,
    )


def recorded_splits(run: RunFolder, config: TrainConfig) -> Recorded | None:
    """Return the splits of the run that is resumed; None if it is new, or another split is wanted."""
    setup = run.record.setup
    if setup is None or any(line.split(":")[0] in SPLIT_SETTINGS for line in config.differences(setup.config)):
        return None
    return setup.data.splits


def begin(run: RunFolder, config: TrainConfig, setup: RunSetup, *, force: bool, note: Callable[[str], None]) -> None:
    """Write a run's setup into its folder, after comparing it with the setup that is recorded there.

    Args:
        run: Open run folder, new or with an earlier part of the run.
        config: Configuration of the run.
        setup: Setup of the run in this process.
        force: Continue even if the setup has changed.
        note: Called with one line per change that is accepted.

    Raises:
        ResumeError: A setting, the data or Keras has changed, and ``force`` is not set; or the weights do not fit any
            more, because the number of classes, their order, the channels or the network has changed.
    """
    if run.record.setup is not None:
        found = changes(run.record.setup, config, setup)
        reason = misfit(run.record.setup, config, setup)
        if reason is not None or (found and not force):
            option = "--force-resume" if force else "--resume"
            why, way = (f"{reason} — ", "") if reason else ("", ", or pass --force-resume")
            raise ResumeError(
                f"{option} {printable(run.root)} — changed: {'; '.join(found)} — {why}start a new run with another --out{way}"
            )
        for line in found:
            note(f"changed since this run began: {line}")
    run.begin(setup)
