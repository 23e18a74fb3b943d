"""Check each mask's values against the dataset's label key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey, all_near_known, class_counts, fits, is_grey_copy, stored_values
from edge_runtime.dataset.mask_files import MaskContents
from edge_runtime.dataset.pairs import Pair, Problem
from edge_runtime.errors import InputError
from edge_runtime.storage import printable
from training.data.check.duplicates import correlations
from training.data.check.files import ImageFacts, MaskFacts, problem
from training.data.dataset import DatasetInfo

_MANY = 3
"""Number of different images with one mask from which it is no coincidence; fewer are if they are the whole dataset."""
_ALIKE, _CORRELATED = 8, 0.85
"""Mean difference of two thumbnails in grey levels up to which they may show one scene, and correlation from which on."""
_BETWEEN = 8
"""Largest number of thumbnails at each step between two of one scene that are compared with the others."""
FEW = 0.05
"""Share of masks with soft edges up to which they are odd."""
_CLOSE = 32
# Measured on masks of people and discs: JPEG from quality 50 leaves 88 % or more close to black and white; resampling with
# any filter at most 84 %, a blur at most 83 %.
_COMPRESSED = 0.85
_MIDDLE, _WINDOW, _LEAST_LEVEL = (40, 216), 16, 0.01
"""Grey levels between black and white, width of a class among them, and its least share of the mask's pixels."""
_STRAY = 8
"""Number of unknown values in one mask above which they are not forgotten classes."""


def judge_labels(
    path: Path, contents: MaskContents, key: LabelKey, *, allow_lossy: bool, remedy: str = ""
) -> tuple[NDArray[np.int64] | None, list[Problem]]:
    """Return the (classes,) pixels of each class in a mask, None if it cannot be used, and its problems.

    Args:
        path: Path of the mask.
        contents: Values of the mask.
        key: Meaning of the values.
        allow_lossy: Accept a lossy mask, with a warning.
        remedy: Remedy for unknown values, if the whole dataset tells one.
    """
    where = printable(path)
    if contents.lossy and not allow_lossy:
        message = f"{where} — a mask in a lossy format, as JPEG is: compression changes values at the borders — expected PNG — save masks as PNG"
        return None, [problem("error", "lossy_mask", path, message)]
    try:
        counts = class_counts(contents, key, where, remedy)
    except InputError as error:
        return None, [problem("error", refused_labels(contents, key), path, str(error))]
    found = []
    level = _third_level(contents, key) if contents.lossy else None
    if level is not None:
        message = (
            f"{where} — a level near {level} beside 0 and 255 — expected two levels, of which each value is the nearest — "
            "save masks as PNG, with an id for each class"
        )
        return None, [problem("error", "unknown_id", path, message)]
    if contents.lossy:
        message = f"{where} — a mask in a lossy format, as JPEG is: compression changes values at the borders — each is taken for the nearest known one — save masks as PNG"
        found.append(problem("warning", "lossy_mask", path, message))
    if not counts.any():
        message = (
            f"{where} — no pixel that counts in the whole mask — nothing can be learnt from it — label it or remove it"
        )
        found.append(problem("warning", "empty_mask", path, message))
    return counts, found


def _third_level(contents: MaskContents, key: LabelKey) -> int | None:
    """Return the grey level of a class between black and white in a lossy mask; None if there is none.

    Compression leaves levels of every kind at the borders, and those of a class within a few of each other.
    """
    if key.encoding not in ("binary", "soft") or contents.form != "grey":
        return None
    pixels = np.zeros(256, np.int64)
    for value, count in contents.counts.items():
        pixels[min(value, 255)] += count
    between = pixels[_MIDDLE[0] : _MIDDLE[1]]
    windows = np.convolve(between, np.ones(_WINDOW, np.int64), "valid")
    place = int(windows.argmax())
    if windows[place] < max(0.5 * between.sum(), _LEAST_LEVEL * pixels.sum()):
        return None
    inside = between[place : place + _WINDOW]
    return round(float(np.average(np.arange(_WINDOW), weights=inside))) + place + _MIDDLE[0]


def refused_labels(contents: MaskContents, key: LabelKey) -> str:
    """Return the problem code of a mask whose values do not fit the dataset's label key."""
    if not fits(contents, key) or is_grey_copy(contents, key):
        return "mixed_encoding"
    if contents.lossy:
        return "lossy_mask"
    known = {value for value, _ in key.meanings}
    unknown = set(stored_values(contents, key).values()) - known
    if key.encoding == "color":
        return "smeared_mask" if all_near_known(unknown, key) else "unknown_id"
    if max(unknown, default=0) > 255:
        return "sixteen_bit_mask"
    return "smeared_mask" if len(unknown) > _STRAY else "unknown_id"


def smeared_binary(masks: Mapping[Pair, MaskContents], info: DatasetInfo, key: LabelKey) -> list[Problem]:
    """Warn about masks with grey levels where others are black and white: they were compressed or resized.

    Levels left by compression are near black and white, those of soft edges are not. Soft edges are an encoding, unless
    hardly a mask has them.
    """
    if key.encoding != "soft" or info.encoding == "soft":
        return []
    between = {
        pair.mask: _between(grey.counts, info.ignore_id)
        for pair, contents in masks.items()
        if (grey := contents.as_grey()) is not None and not contents.lossy and pair.mask is not None
    }
    compressed = {path for path, (pixels, close) in between.items() if close > _COMPRESSED * pixels}
    soft = {path for path, (pixels, _) in between.items() if pixels} - compressed
    odd = compressed if 2 * len(compressed) <= len(between) else set()
    odd |= soft if len(soft) <= max(1, FEW * len(between)) else set()
    return [
        problem(
            "warning",
            "smeared_mask",
            path,
            f"{printable(path)} — {pixels} px between 0 and 255, where most masks have none — as in "
            "a JPEG-compressed or resized mask: levels from 128 are taken for the foreground — make it again with nearest "
            "neighbour and PNG",
        )
        for path, (pixels, _) in between.items()
        if path in odd
    ]


def shared_masks(
    facts: Mapping[Pair, tuple[ImageFacts, MaskFacts]], counts: Mapping[Pair, NDArray[np.int64]]
) -> list[Problem]:
    """Warn about a mask with objects that several different pictures have, as after a slip in a script.

    Pictures that look alike, such as frames of a still scene, and masks of one class alone may share a mask.
    """
    sharing: dict[str, list[Pair]] = defaultdict(list)
    for pair, (image, mask) in facts.items():
        if mask.pixels is not None and image.thumbnail is not None and pair in counts and (counts[pair] > 0).sum() > 1:
            sharing[mask.pixels].append(pair)
    found = []
    for pairs in sharing.values():
        thumbs = [thumb for pair in pairs if (thumb := facts[pair][0].thumbnail) is not None]
        different = _of_other_scenes(thumbs)
        if len(different) + 1 < min(_MANY, len(facts)) or not different:
            continue
        first, other = pairs[0], pairs[different[0]]
        message = (
            f"one mask for {len(different) + 1} different images: {printable(first.mask or first.image)} is identical to "
            f"{printable(other.mask or other.image)} — expected a mask drawn for each image — look at them (`edge-unet data "
            "preview`), and export the masks again"
        )
        found.append(problem("warning", "shared_mask", other.mask or other.image, message))
    return found


def _of_other_scenes(thumbs: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Return the indices of the thumbnails that are not of the first one's scene, directly or by others between them.

    Of a series of exposures, the darkest and the brightest may look different, but each looks like the next one.
    """
    others, newest = list(range(1, len(thumbs))), [0]
    while newest:
        newest = [i for i in others if any(_may_be_one_scene(thumbs[i], thumbs[j]) for j in newest[:_BETWEEN])]
        others = [i for i in others if i not in newest]
    return others


def _may_be_one_scene(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Tell whether two thumbnails may be photographs of one scene, in whatever light."""
    difference = np.abs(one.astype(np.int64) - other).mean()
    return bool(difference <= _ALIKE) or correlations(one, other)[0] >= _CORRELATED


def _between(counts: Mapping[int, int], ignore_id: int | None) -> tuple[int, int]:
    """Return the pixels of grey levels between 0 and 255, and of those close to 0 or 255, where JPEG leaves nearly all."""
    found = {value: n for value, n in counts.items() if 0 < value < 255 and value != ignore_id}
    return sum(found.values()), sum(n for value, n in found.items() if not _CLOSE <= value <= 255 - _CLOSE)
