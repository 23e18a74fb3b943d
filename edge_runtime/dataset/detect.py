"""How the masks of a dataset are stored, told from what occurs in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edge_runtime.dataset.label_key import SOFT_THRESHOLD, LabelKey, MaskEncoding, class_table
from edge_runtime.dataset.mask_files import RGB, MaskContents, contents_of, pack_color, read_mask
from edge_runtime.dataset.pairs import Pair
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable


def detect_encoding(
    masks: Sequence[MaskContents],
    classes: int,
    *,
    ignore_id: int | None = None,
    colors: Sequence[RGB] | None = None,
    ids: Mapping[int, int] | None = None,
) -> MaskEncoding:
    """Tell how the masks of a dataset are stored, from all of them: an all-black one alone could be anything.

    Args:
        masks: What occurs in each.
        classes: Number of classes.
        ignore_id: The stored value that counts nowhere. Where that is 255, it cannot stand for a class.
        colors: The colours of the classes and those that are ignored, where they are known.
        ids: Stored values that are known to stand for classes, if not 0 to ``classes`` - 1.

    Returns:
        What most masks are; ``class_table`` refuses the others.
    """
    forms = Counter(m.form for m in masks)
    known_colors = {pack_color(color) for color in colors or ()}
    greys = known_colors | {0, 0xFFFFFF}
    with_ids = sum(m.form == "grey" and not {m.color_of(value) for value in m.counts} <= greys for m in masks)
    if forms["color"] and forms["color"] + forms["palette"] > with_ids:
        return "color"
    if 2 * forms["palette"] > len(masks):
        known_ids = {*(ids if ids is not None else range(classes)), ignore_id}
        return "color" if _palettes_mean_colors(masks, known_ids, known_colors) else "palette"
    counts: Counter[int] = Counter()
    for mask in masks:
        if mask.form == "grey":
            counts.update(_at_ends(mask.counts) if mask.lossy and classes == 2 else mask.counts)
    if classes != 2 or ignore_id == 255 or ids is not None or not counts[255]:
        return "index"
    if looks_soft(counts):
        return "soft"
    return "index" if counts[1] else "binary"


def looks_soft(counts: Mapping[int, int]) -> bool:
    """Whether grey values are those of one thing with soft edges: mostly black and white, and levels of all kinds between.

    Args:
        counts: Pixels by stored value, over all masks.
    """
    between = [value for value in counts if 0 < value < 255]
    ends = counts.get(0, 0) + counts.get(255, 0)
    return (
        max(counts, default=0) == 255
        and len(between) >= 8
        and min(between) < SOFT_THRESHOLD <= max(between)
        and 2 * ends >= sum(counts.values())
    )


def dataset_key(
    pairs: Sequence[Pair],
    classes: Sequence[ClassInfo],
    *,
    ignore_id: int | None = None,
    ignore_colors: Sequence[RGB] = (),
) -> LabelKey:
    """Read all masks of a dataset and return what their values mean, where only the classes are known.

    Args:
        pairs: Images with masks.
        classes: In order of their ids, with their colours.
        ignore_id: The stored value that counts nowhere.
        ignore_colors: The colours that count nowhere.

    Raises:
        InputError: A mask cannot be read, or has values that mean nothing.
    """
    masks = [contents_of(read_mask(pair.mask)) for pair in pairs]
    colors = [*(c.color for c in classes), *ignore_colors]
    encoding = detect_encoding(masks, len(classes), ignore_id=ignore_id, colors=colors)
    key = LabelKey.of(encoding, classes, ignore_id=ignore_id, ignore_colors=ignore_colors)
    for pair, mask in zip(pairs, masks, strict=True):
        class_table(mask, key, printable(pair.mask))
    return key


def _at_ends(counts: Mapping[int, int]) -> dict[int, int]:
    """Return the pixels of a lossy black and white mask as they were saved."""
    white = sum(n for value, n in counts.items() if value >= SOFT_THRESHOLD)
    return {0: sum(counts.values()) - white, 255: white}


def _palettes_mean_colors(masks: Sequence[MaskContents], known_ids: set[int | None], known_colors: set[int]) -> bool:
    """Whether palette files number their colours each in its own way, or only their colours are known."""
    colors: dict[int, set[int]] = {}
    for mask in masks:
        for index, color in mask.colors.items():
            colors.setdefault(index, set()).add(color)
    return any(len(different) > 1 for different in colors.values()) or (
        not colors.keys() <= known_ids and {c for different in colors.values() for c in different} <= known_colors
    )
