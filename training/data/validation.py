"""Make the validation split of a configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_runtime.dataset.pairs import SPLITS, Pair, Split
from edge_runtime.errors import UsageError
from edge_runtime.storage import printable
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import Dataset
from training.data.splits import find_groups, hold_out_by_seed, hold_out_groups, keep_together
from training.errors import DataError

Recorded = Mapping[str, Sequence[tuple[str, str | None]]]
"""Image and mask of each pair by split, relative to the dataset's folder; None for an image without a mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Dataset with a validation split, and the origin of the split as a phrase."""

    dataset: Dataset
    split_by: str


def with_validation(config: TrainConfig, report: DatasetReport, recorded: Recorded | None = None) -> Validated:
    """Return the dataset with the configured validation split.

    Args:
        config: Configuration of the run.
        report: The checked dataset.
        recorded: Splits of the run that is resumed; used if the dataset still has these pairs, so that no image that was
            trained on is validated on, whichever version made the split.

    Raises:
        DataError: There is nothing to train on, the split cannot be made, or all pixels of a split are ignored.
        UsageError: ``val_groups`` is set and the dataset has no groups.
    """
    validated = _split(config, report)
    before = None if recorded is None else _as_recorded(report.dataset, recorded)
    if before is not None and set(before.splits["val"]) != set(validated.dataset.splits["val"]):
        validated = Validated(dataset=before, split_by="as recorded when the run began")
    splits: tuple[tuple[Split, str], ...] = (("train", "to learn"), ("val", "to measure"))
    for split, purpose in splits:
        pairs = validated.dataset.splits[split]
        if not report.pixels_of(pairs).any():
            raise DataError(
                f"dataset {printable(report.dataset.root)} — all pixels of the {len(pairs)} masks in {split} are ignored "
                f"(validation: {validated.split_by}) — nothing is left {purpose} — label some, or correct what "
                "dataset.yaml ignores"
            )
    copied = _copied(validated.dataset, report)
    if not copied:
        return validated
    flattered = (
        f"{copied} of its {len(validated.dataset.splits['val'])} images have a copy in train: mean IoU is too good"
    )
    return replace(validated, split_by=f"{validated.split_by}; {flattered}")


def _split(config: TrainConfig, report: DatasetReport) -> Validated:
    train = report.dataset.splits.get("train")
    if not train:
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
    together = keep_together(train, groups, report.copies)
    classes_in = {pair: report.classes_in(pair) for pair in train}
    held_out = hold_out_by_seed(
        report.dataset, config.validation_fraction, config.seed, groups=together.groups, classes_in=classes_in
    )
    how = "held out by seed" if groups is None else "held out by seed, in whole groups"
    return Validated(dataset=held_out, split_by="; ".join(filter(None, [how, together.in_words()])))


def _copied(dataset: Dataset, report: DatasetReport) -> int:
    """Return the number of validation images that have a copy in ``train``."""
    val, train = (set(dataset.splits[split]) for split in ("val", "train"))
    return len(
        {
            one
            for copy in report.copies
            if copy.kind == "copy"
            for one, other in ((copy.earlier, copy.later), (copy.later, copy.earlier))
            if one in val and other in train
        }
    )


def _as_recorded(dataset: Dataset, recorded: Recorded) -> Dataset | None:
    """Return the dataset in the splits of a run; None if it has other pairs by now."""
    known = {_names(dataset, pair): pair for pair in dataset.pairs()}
    if Counter(known.keys()) != Counter(names for pairs in recorded.values() for names in pairs):
        return None
    return replace(dataset, splits={s: tuple(known[names] for names in recorded[s]) for s in SPLITS if s in recorded})


def _names(dataset: Dataset, pair: Pair) -> tuple[str, str | None]:
    mask = None if pair.mask is None else str(pair.mask.relative_to(dataset.root))
    return str(pair.image.relative_to(dataset.root)), mask
