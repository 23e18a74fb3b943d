"""Make the validation split of a configuration."""

from __future__ import annotations

from edge_runtime.errors import UsageError
from edge_runtime.storage import printable
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import Dataset
from training.data.splits import find_groups, hold_out_by_seed, hold_out_groups
from training.errors import DataError


def with_validation(config: TrainConfig, report: DatasetReport) -> tuple[Dataset, str]:
    """Return the dataset with the configured validation split, and a phrase for the origin of the split.

    Raises:
        DataError: There is nothing to train on, or the split cannot be made.
        UsageError: ``val_groups`` is set and the dataset has no groups.
    """
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
    return held_out, f"held out by seed{'' if groups is None else ', in whole groups'}"
