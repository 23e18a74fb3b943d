"""Find classes that are absent, rare or alone in a dataset or a split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import Pair, Problem, Split
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable
from training.data.check.files import problem

FEW = 0.05
"""Share of masks of background alone up to which they may have been forgotten."""
RARE = 200
"""A class is rare if the largest class has more than this many times its pixels."""


def background_only(counts: Mapping[Pair, NDArray[np.int64]], name: str) -> list[Problem]:
    """Warn about masks that show class 0 alone if they are few: where many are, empty scenes belong to the dataset.

    Args:
        counts: (classes,) pixels of each class in each mask.
        name: Name of class 0.
    """
    masks = {pair.mask: pixels for pair, pixels in counts.items() if pair.mask is not None}
    empty = [path for path, pixels in masks.items() if shows_background_only(pixels)]
    if len(empty) > max(1, FEW * len(masks)):
        return []
    return [
        problem(
            "warning",
            "background_only",
            path,
            f"{printable(path)} — only '{printable(name)}' — right where nothing is to be found — look at it, and draw what was "
            "forgotten",
        )
        for path in empty
    ]


def shows_background_only(pixels: NDArray[np.int64]) -> bool:
    """Tell whether (classes,) pixels are of class 0 alone."""
    return bool(pixels[0] and not pixels[1:].any())


def uncounted_splits(pixels: Mapping[Split, NDArray[np.int64]]) -> list[Problem]:
    """Find splits to train or validate on whose masks have no pixel that counts: nothing can be learnt or measured.

    Args:
        pixels: (classes,) pixels of each class, for the splits that have readable masks.
    """
    return [
        problem(
            "error",
            "uncounted_split",
            split,
            f"split {split} — every pixel of its masks is ignored — expected pixels of a class — correct ignore_id, ids or "
            "ignore_colors in dataset.yaml, or label its images",
        )
        for split, counts in pixels.items()
        if split != "test" and not counts.any()
    ]


def one_class(classes: tuple[ClassInfo, ...], pixels: Mapping[Split, NDArray[np.int64]]) -> list[Problem]:
    """Find a single class in all pixels to train on: nothing can be learnt.

    Args:
        classes: Classes in order of their ids.
        pixels: (classes,) pixels of each class, for the splits that have readable masks.
    """
    shown = [c.name for c in classes if "train" in pixels and pixels["train"][c.id]]
    if len(shown) != 1 or len(classes) == 1:
        return []
    message = (
        f"split train — all pixels that count are of class '{printable(shown[0])}' — expected those of another one, too — "
        "label objects, or correct ignore_id and ids in dataset.yaml"
    )
    return [problem("error", "one_class", "train", message)]


def absent_classes(classes: tuple[ClassInfo, ...], pixels: Mapping[Split, NDArray[np.int64]]) -> list[Problem]:
    """Warn about classes without a pixel in a split, where they can be neither learnt nor measured.

    Args:
        classes: Classes in order of their ids.
        pixels: (classes,) pixels of each class, for the splits that have readable masks.
    """
    return [
        problem(
            "warning",
            "absent_class",
            split,
            f"split {split} — no pixel of class '{printable(c.name)}' — expected some — add images that show it",
            f"'{printable(c.name)}'",
        )
        for split, counts in pixels.items()
        if split != "test" and counts.any()
        for c in classes
        if not counts[c.id]
    ]


def rare_classes(classes: tuple[ClassInfo, ...], pixels: NDArray[np.int64]) -> list[Problem]:
    """Warn about classes that are so rare that pixel accuracy hardly depends on them."""
    largest = int(pixels.argmax())
    return [
        problem(
            "warning",
            "rare_class",
            c.name,
            f"class '{printable(c.name)}' — {pixels[c.id] / pixels.sum():.2%} of the pixels, {pixels[largest] // pixels[c.id]} times "
            f"fewer than '{printable(classes[largest].name)}' — judge it by its own IoU — add images that show it or weight the loss",
            f"{pixels[c.id] / pixels.sum():.2%} of the pixels",
        )
        for c in classes
        if 0 < pixels[c.id] * RARE < pixels[largest]
    ]
