"""Compute the metrics of a segmenter on a dataset, for the runtime and for Keras models in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE, LabelKey, to_class_ids
from edge_runtime.dataset.layout import find_layout
from edge_runtime.dataset.mask_files import read_mask
from edge_runtime.dataset.metrics import (
    BoundaryCounts,
    boundary_counts,
    class_dice,
    class_iou,
    confusion_matrix,
    mean_iou,
    mean_of_present,
    pixel_accuracy,
)
from edge_runtime.dataset.pairs import UNPAIRED, Pair, Problem, Split, find_pairs
from edge_runtime.errors import InputError, ModelError
from edge_runtime.image import read_first_picture
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable

MAX_LISTED = 20
"""Largest number of problems of a dataset that a message lists; the others are only counted."""

SegmentFrame = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Function from (H, W, 3) uint8 BGR to (H, W) uint8 class ids of the same size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of predicted masks on a dataset.

    Attributes:
        images: Number of images.
        class_names: Names of the classes, in order of their ids.
        matrix: (C, C) int64 confusion matrix in pixels; rows are the truth, columns the prediction.
        boundary: Counts of matched boundary pixels.
        image_accuracies: Pixel accuracy of each image, in their order; 1 if all its pixels are ignored.
        image_ious: Mean IoU of each image, in their order; None if all its pixels are ignored.
        trained_on: Number of these images that the model was trained on; None if its package does not say.
        without_mask: Number of these images that have no mask and count as all background.
        several_pages: Number of these images whose file has more pages or frames, which were not measured.
        white_class: Class that 255 was read as although the model's own masks ignore it, see ``dataset_key``; None for none.
        left_out: Images that were not measured, by reason: messages for "bad" and "unpaired", paths for "trained_on".

    Example:
        >>> from edge_runtime import Segmenter, evaluate_dataset
        >>> evaluation = evaluate_dataset(Segmenter.load(package), data)
        >>> evaluation.images, evaluation.mean_iou > 0.9
        (3, True)
        >>> sorted(evaluation.per_class_iou)
        ['background', 'blue', 'red']
    """

    images: int
    class_names: tuple[str, ...]
    matrix: NDArray[np.int64]
    boundary: BoundaryCounts
    image_accuracies: tuple[float, ...]
    image_ious: tuple[float | None, ...]
    trained_on: int | None = None
    without_mask: int = 0
    several_pages: int = 0
    white_class: str | None = None
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur, from the confusion matrix of the dataset, 0–1."""
        return mean_iou(self.matrix)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels with the correct class, 0–1; ignored pixels are not counted."""
        return pixel_accuracy(self.matrix)

    @property
    def mean_image_iou(self) -> float:
        """Average over the images of the mean IoU of each image, 0–1."""
        return float(np.mean([iou for iou in self.image_ious if iou is not None]))

    @property
    def mean_dice(self) -> float:
        """Mean Dice coefficient over the classes that occur, 0–1."""
        return mean_of_present(class_dice(self.matrix))

    @property
    def boundary_f(self) -> float:
        """Boundary F score over the dataset, 0–1."""
        return self.boundary.f_score

    @property
    def per_class_iou(self) -> dict[str, float | None]:
        """IoU by class name, 0–1; None for a class in neither truth nor prediction."""
        return self._by_name(class_iou(self.matrix))

    @property
    def per_class_dice(self) -> dict[str, float | None]:
        """Dice coefficient by class name, 0–1; None for a class in neither truth nor prediction."""
        return self._by_name(class_dice(self.matrix))

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as a JSON object; an absent class is null, because JSON has no NaN."""
        return {
            "images": self.images,
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "per_class_iou": self.per_class_iou,
            "mean_dice": self.mean_dice,
            "per_class_dice": self.per_class_dice,
            "boundary_f": self.boundary_f,
            "mean_image_iou": self.mean_image_iou,
        }

    def _by_name(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(self.class_names, values, strict=True)
        }


def evaluate(
    segment: SegmentFrame,
    pairs: Sequence[Pair],
    *,
    key: LabelKey,
    classes: Sequence[str],
    on_bad: Callable[[Pair, InputError], None] | None = None,
    on_progress: OnProgress = silent,
) -> Evaluation:
    """Segment the images of a dataset and compare the results with its masks, at the images' own sizes.

    Args:
        segment: Function from (H, W, 3) uint8 BGR to (H, W) uint8 class ids.
        pairs: Images and masks on disk.
        key: Meaning of the masks' values; see ``dataset_key``.
        classes: Class names in order of their ids.
        on_bad: Called for each pair that cannot be read or whose sizes differ, in place of raising.
        on_progress: Called with "measuring" and the number of images done and of all, at the start and after each.

    Raises:
        InputError: No images, a file that cannot be read, an image and mask of different size, or only ignored pixels.
        ModelError: ``segment`` returned something other than class ids at the image's size.
    """
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    boundary = BoundaryCounts()
    image_ious: list[float | None] = []
    image_accuracies: list[float] = []
    several_pages = 0
    on_progress("measuring", 0, len(pairs))
    for done, pair in enumerate(pairs, start=1):
        try:
            image_bgr, truth, pages = _read(pair, key)
        except InputError as error:
            if on_bad is None:
                raise
            on_bad(pair, error)
            on_progress("measuring", done, len(pairs))
            continue
        prediction = segment(image_bgr)
        _check_prediction(prediction, truth, len(classes), pair)
        counts = confusion_matrix(truth, prediction, len(classes))
        matrix += counts
        several_pages += pages > 1
        boundary += boundary_counts(truth, prediction, len(classes))
        image_accuracies.append(pixel_accuracy(counts) if counts.any() else 1.0)
        image_ious.append(mean_iou(counts) if counts.any() else None)
        on_progress("measuring", done, len(pairs))
    if not matrix.any():
        found = f"all pixels of {len(pairs)} masks are ignored" if pairs else "no images"
        raise InputError(f"evaluation — {found} — expected at least one labelled pixel — check the dataset")
    return Evaluation(
        images=len(image_ious),
        class_names=tuple(classes),
        matrix=matrix,
        boundary=boundary,
        image_accuracies=tuple(image_accuracies),
        image_ious=tuple(image_ious),
        several_pages=several_pages,
    )


def read_pair(pair: Pair, key: LabelKey) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read an image as (H, W, 3) uint8 BGR and its mask as (H, W) uint8 class ids or ``IGNORE``.

    Without a mask, all pixels are of class 0.

    Raises:
        InputError: One of them cannot be read, or their sizes differ.
    """
    return _read(pair, key)[:2]


def _read(pair: Pair, key: LabelKey) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    """Return what ``read_pair`` returns, and the number of pages or frames in the image's file."""
    image_bgr, pages = read_first_picture(pair.image)
    if pair.mask is None:
        return image_bgr, np.zeros(image_bgr.shape[:2], np.uint8), pages
    mask = read_mask(pair.mask, allow_lossy=key.lossy)
    if mask.values.shape != image_bgr.shape[:2]:
        (ih, iw), (mh, mw) = image_bgr.shape[:2], mask.values.shape
        hint = " (turned: the image has an EXIF orientation, the mask not?)" if (ih, iw) == (mw, mh) else ""
        raise InputError(
            f"{printable(pair.mask)} — {mw}x{mh} pixels, its image {printable(pair.image)} {iw}x{ih}{hint} — "
            "expected the same size — export the mask again at the image's size"
        )
    return image_bgr, to_class_ids(mask, key, printable(pair.mask)), pages


def dataset_pairs(
    root: Path,
    split: Split | Literal["all"] | None = None,
    *,
    empty_without_mask: bool = False,
    on_unpaired: Callable[[Problem], None] | None = None,
) -> tuple[Pair, ...]:
    """Return the pairs of one split of a dataset, or of all: by default test, else val, else all pairs.

    Args:
        root: Folder of the dataset.
        split: Split to return.
        empty_without_mask: Take images that have no mask as all background.
        on_unpaired: Called for each image without a mask and mask without an image, in place of raising.

    Raises:
        InputError: No such dataset or split, no pairs, or images and masks that do not pair; all problems are listed.
    """
    layout = find_layout(root)
    folders = layout.folders
    if split not in (None, "all") and not (layout.has_splits and split in folders):
        found = f"it has {', '.join(folders)}" if layout.has_splits else "it has no splits, only images/ and masks/"
        raise InputError(
            f"dataset {printable(root)} — no split '{split}' — {found} — choose another --split or leave it out"
        )
    chosen = usual_split(root) if split is None else None if split == "all" else split
    parts = [folders[chosen]] if chosen else list(folders.values())
    pairings = [find_pairs(part, empty_without_mask=empty_without_mask) for part in parts]
    problems = []
    for problem in (problem for pairing in pairings for problem in pairing.problems):
        if on_unpaired is not None and problem.code in UNPAIRED:
            on_unpaired(problem)
        else:
            problems.append(problem.message)
    if problems:
        rest = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
        listing = "\n  ".join(problems[:MAX_LISTED] + rest)
        raise InputError(f"dataset {printable(root)} — {len(problems)} problems:\n  {listing}")
    pairs = tuple(pair for pairing in pairings for pair in pairing.pairs)
    if not pairs:
        raise InputError(
            f"dataset {printable(root)} — no images in {', '.join(printable(part.images) for part in parts)}"
        )
    return pairs


def usual_split(root: Path) -> Split | None:
    """Return the split that is measured if none is named: test, else val; None if a dataset has neither.

    Raises:
        InputError: No such dataset.
    """
    folders = find_layout(root).folders
    return "test" if "test" in folders else "val" if "val" in folders else None


def _check_prediction(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int, pair: Pair) -> None:
    if prediction.shape != truth.shape or prediction.dtype != np.uint8:
        raise ModelError(
            f"mask for {printable(pair.image)} — {prediction.dtype} of shape {prediction.shape} — "
            f"expected uint8 of shape {truth.shape}"
        )
    highest = int(prediction[truth != IGNORE].max(initial=0))
    if highest >= classes:
        raise ModelError(
            f"mask for {printable(pair.image)} — holds class id {highest} — expected 0 to {classes - 1} — export the model again"
        )
