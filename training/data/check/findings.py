"""Result of a dataset check, as an object and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey, MaskEncoding
from edge_runtime.dataset.pairs import Pair, Problem, Split
from edge_runtime.segment.preprocess import Channels
from training.data.check.balance import shows_background_only
from training.data.dataset import Dataset, DatasetInfo
from training.data.splits import Copy
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetReport:
    """Result of a dataset check.

    Attributes:
        dataset: Pairs by split, without those that are left out.
        info: Classes and ignored values, from ``dataset.yaml`` or inferred from the masks.
        key: Label key: the class of each stored mask value.
        channels: 1 if every image is grey, else 3.
        counts: (classes,) pixels of each class in each mask that can be used.
        shapes: (height, width) of each image that can be read.
        digests: SHA-256 of the image and of the mask of each pair whose image can be read; "" for an unreadable mask.
        forms: Number of image files by format and samples.
        groups: Group of each pair; None if the dataset has no groups.
        copies: Pairs whose pictures look the same, across splits, and within a ``train`` that has no ``val`` beside it.
        fingerprint: SHA-256 over the names and contents of all files that are used.
        ignored_files: Number of files in the image and mask folders that are not images, or are hidden.
        quarantined: Pairs that were left out because of their errors.
        problems: Errors and warnings, errors first.

    Example:
        >>> from training import check_dataset
        >>> report = check_dataset(data)
        >>> len(report.info.classes) >= 2
        True
        >>> report.to_dict()["images"] == len(report.dataset.pairs())
        True
    """

    dataset: Dataset
    info: DatasetInfo
    key: LabelKey
    channels: Channels
    counts: Mapping[Pair, NDArray[np.int64]]
    shapes: Mapping[Pair, tuple[int, int]]
    digests: Mapping[Pair, tuple[str, str]]
    forms: Mapping[str, int]
    groups: Mapping[Pair, str] | None
    copies: tuple[Copy, ...]
    fingerprint: str
    ignored_files: int
    quarantined: tuple[Pair, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem is an error."""
        return not any(problem.severity == "error" for problem in self.problems)

    @property
    def encoding(self) -> MaskEncoding:
        """Encoding of the masks."""
        return self.key.encoding

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(classes,) pixels of each class."""
        return sum(self.counts.values(), np.zeros(len(self.info.classes), np.int64))

    @property
    def images_with(self) -> NDArray[np.int64]:
        """(classes,) number of images that show each class."""
        return sum(((c > 0).astype(np.int64) for c in self.counts.values()), np.zeros(len(self.info.classes), np.int64))

    @property
    def background_only(self) -> list[Pair]:
        """Pairs whose masks show class 0 alone."""
        return [pair for pair, pixels in self.counts.items() if pair.mask is not None and shows_background_only(pixels)]

    def classes_in(self, pair: Pair) -> tuple[int, ...]:
        """Return the ids of the classes that a pair's mask shows."""
        return tuple(np.flatnonzero(self.counts[pair]).tolist()) if pair in self.counts else ()

    def split_pixels(self) -> dict[Split, NDArray[np.int64]]:
        """Return (classes,) pixels of each class by split, for the splits that have usable masks."""
        found = {s: [self.counts[p] for p in pairs if p in self.counts] for s, pairs in self.dataset.splits.items()}
        return {split: np.sum(counts, axis=0) for split, counts in found.items() if counts}

    def pixels_of(self, pairs: Iterable[Pair]) -> NDArray[np.int64]:
        """Return (classes,) pixels of each class in some pairs, which must have usable masks."""
        return np.sum([self.counts[pair] for pair in pairs], axis=0)

    def size_range(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
        """Return the smallest, the median and the largest (height, width) by area; None if no image can be read."""
        ordered = sorted(self.shapes.values(), key=lambda shape: (shape[0] * shape[1], shape))
        return (ordered[0], ordered[len(ordered) // 2], ordered[-1]) if ordered else None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object, keys as documented for ``data check --json``."""
        pixels, images_with, by_split = self.pixels, self.images_with, self.split_pixels()
        sizes = self.size_range()
        return {
            "ok": self.ok,
            "images": len(self.dataset.pairs()),
            "splits": {split: len(pairs) for split, pairs in self.dataset.splits.items()},
            "classes": [
                {
                    "id": c.id,
                    "name": c.name,
                    "color": list(c.color),
                    "images": int(images_with[c.id]),
                    "pixel_share": share(pixels, c.id),
                    "split_share": {split: share(counts, c.id) for split, counts in by_split.items()},
                }
                for c in self.info.classes
            ],
            "ignore_id": self.info.ignore_id,
            "mask_encoding": self.encoding,
            "channels": self.channels,
            "image_forms": dict(self.forms),
            "image_sizes": None
            if sizes is None
            else dict(zip(("min", "median", "max"), map(list, sizes), strict=True)),
            "groups": None if self.groups is None else len(set(self.groups.values())),
            "ignored_files": self.ignored_files,
            "fingerprint": self.fingerprint,
            "without_mask": sum(pair.mask is None for pair in self.dataset.pairs()),
            "background_only": [str(pair.mask) for pair in self.background_only],
            "quarantined": [
                {"image": str(pair.image), "mask": None if pair.mask is None else str(pair.mask)}
                for pair in self.quarantined
            ],
            "notes": list(self.dataset.notes),
            "problem_counts": dict(Counter(problem.code for problem in self.problems)),
            "problems": [
                {"severity": p.severity, "code": p.code, "file": p.file, "message": p.message} for p in self.problems
            ],
        }

    def require_ok(self) -> None:
        """Raise if there are errors.

        Raises:
            DataError: There are errors; the message names the first one and counts the others.
        """
        errors = [p for p in self.problems if p.severity == "error"]
        if errors:
            rest = f" (and {len(errors) - 1} more: `edge-unet data check` lists all)" if len(errors) > 1 else ""
            raise DataError(f"{errors[0].message}{rest}")


def share(pixels: NDArray[np.int64], class_id: int) -> float:
    """Return the share of a class in the labelled pixels, 0–1."""
    return float(pixels[class_id] / max(1, int(pixels.sum())))
