"""Make the validation split of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.dataset.pairs import Split
from edge_runtime.errors import UsageError
from edge_runtime.storage import printable
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import Dataset
from training.data.splits import find_groups, hold_out_by_seed, hold_out_groups
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Dataset with a validation split, and the origin of the split as a phrase."""

    dataset: Dataset
    split_by: str


def with_validation(config: TrainConfig, report: DatasetReport) -> Validated:
    """Return the dataset with the configured validation split.

    Raises:
        DataError: There is nothing to train on, the split cannot be made, or all pixels of a split are ignored.
        UsageError: ``val_groups`` is set and the dataset has no groups.
    """
    validated = _split(config, report)
    splits: tuple[tuple[Split, str], ...] = (("train", "to learn"), ("val", "to measure"))
    for split, purpose in splits:
        pairs = validated.dataset.splits[split]
        if not report.pixels_of(pairs).any():
            raise DataError(
                f"dataset {printable(report.dataset.root)} — all pixels of the {len(pairs)} masks in {split} are ignored "
                f"(validation: {validated.split_by}) — nothing is left {purpose} — label some, or correct what "
                "dataset.yaml ignores"
            )
    return validated


def _split(config: TrainConfig, report: DatasetReport) -> Validated:
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
        return Validated(dataset=hold_out_groups(report.dataset, config.val_groups, groups), split_by=named)
    if report.dataset.splits.get("val"):
        return Validated(dataset=report.dataset, split_by="the dataset's val folder")
    classes_in = {pair: report.classes_in(pair) for pair in report.dataset.splits["train"]}
    held_out = hold_out_by_seed(
        report.dataset, config.validation_fraction, config.seed, groups=groups, classes_in=classes_in
    )
    return Validated(dataset=held_out, split_by=f"held out by seed{'' if groups is None else ', in whole groups'}")
