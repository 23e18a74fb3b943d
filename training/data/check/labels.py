"""Check each mask's values against the dataset's label key."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey, all_near_known, class_counts, fits
from edge_runtime.dataset.mask_files import MaskContents
from edge_runtime.dataset.pairs import Pair, Problem
from edge_runtime.errors import InputError
from edge_runtime.storage import printable
from training.data.check.files import problem
from training.data.dataset import DatasetInfo

_STRAY = 8
"""Number of unknown values in one mask above which they are not forgotten classes."""


def judge_labels(
    pair: Pair, contents: MaskContents, key: LabelKey, *, allow_lossy: bool
) -> tuple[NDArray[np.int64] | None, list[Problem]]:
    """Return the (classes,) pixels of each class in a mask, None if it cannot be used, and its problems."""
    where = printable(pair.mask)
    if contents.lossy and not allow_lossy:
        message = f"{where} — a mask in a lossy format, as JPEG is: compression changes values at the borders — expected PNG — save masks as PNG"
        return None, [problem("error", "lossy_mask", pair.mask, message)]
    try:
        counts = class_counts(contents, key, where)
    except InputError as error:
        return None, [problem("error", refused_labels(contents, key), pair.mask, str(error))]
    found = []
    if contents.lossy:
        message = f"{where} — a mask in a lossy format, as JPEG is: compression changes values at the borders — each is taken for the nearest known one — save masks as PNG"
        found.append(problem("warning", "lossy_mask", pair.mask, message))
    if not counts.any():
        message = (
            f"{where} — no pixel that counts in the whole mask — nothing can be learnt from it — label it or remove it"
        )
        found.append(problem("warning", "empty_mask", pair.mask, message))
    return counts, found


def refused_labels(contents: MaskContents, key: LabelKey) -> str:
    """Return the problem code of a mask whose values do not fit the dataset's label key."""
    if not fits(contents.form, key.encoding):
        return "mixed_encoding"
    if contents.lossy:
        return "lossy_mask"
    known = {value for value, _ in key.meanings}
    as_known = {contents.color_of(v) if key.encoding == "color" else v for v in contents.counts}
    unknown = as_known - known
    if key.encoding == "color":
        return "smeared_mask" if all_near_known(unknown, key) else "unknown_id"
    if max(unknown, default=0) > 255:
        return "sixteen_bit_mask"
    return "smeared_mask" if len(unknown) > _STRAY else "unknown_id"


def smeared_binary(masks: Mapping[Pair, MaskContents], info: DatasetInfo, key: LabelKey) -> list[Problem]:
    """Warn about masks with grey levels if most are black and white: they were compressed or resized."""
    if key.encoding != "soft" or info.encoding == "soft":
        return []
    between = {
        pair: sum(n for value, n in contents.counts.items() if 0 < value < 255 and value != info.ignore_id)
        for pair, contents in masks.items()
        if contents.form == "grey" and not contents.lossy
    }
    smeared = {pair: n for pair, n in between.items() if n}
    if 2 * len(smeared) > len(between):
        return []
    return [
        problem(
            "warning",
            "smeared_mask",
            pair.mask,
            f"{printable(pair.mask)} — {n} px between 0 and 255, where most masks have none — as in a JPEG-compressed or "
            "resized mask: levels from 128 are taken for the foreground — make it again with nearest neighbour and PNG",
        )
        for pair, n in smeared.items()
    ]
