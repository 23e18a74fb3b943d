"""Detect the encoding of a dataset's masks from the values that occur in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edge_runtime.dataset.label_key import (
    IGNORE,
    SOFT_THRESHOLD,
    LabelKey,
    MaskEncoding,
    class_table,
    fits,
    stored_values,
)
from edge_runtime.dataset.mask_files import RGB, MaskContents, contents_of, pack_color, read_mask, unpack_color
from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable

_WHITE = 250
"""Lowest level that may be the white of masks with soft edges."""


def detect_encoding(
    masks: Sequence[MaskContents],
    classes: int,
    *,
    ignore_id: int | None = None,
    colors: Sequence[RGB] | None = None,
    ids: Mapping[int, int] | None = None,
) -> MaskEncoding:
    """Detect the encoding of a dataset's masks.

    All masks are needed, because a single one can be ambiguous: an all-black mask fits every encoding.

    Args:
        masks: Contents of each mask.
        classes: Number of classes.
        ignore_id: Stored value of ignored pixels. If it is 255, then 255 cannot stand for a class.
        colors: Colours of the classes and of ignored pixels, if known.
        ids: Stored values of the classes, if known and other than 0 to ``classes`` - 1.

    Returns:
        The encoding of most masks; ``class_table`` refuses the others.
    """
    forms = Counter(m.form for m in masks)
    known_colors = {pack_color(color) for color in colors or ()}
    greys = known_colors | {0, 0xFFFFFF}
    with_ids = sum(m.form == "grey" and not {m.color_of(value) for value in m.counts} <= greys for m in masks)
    if forms["color"] and forms["color"] + forms["palette"] > with_ids:
        return "color"
    if _palettes_show_levels(masks, classes, ignore_id, known_colors, ids):
        masks = [mask.as_grey() or mask for mask in masks]
    elif 2 * forms["palette"] > len(masks):
        known_ids = {*(ids if ids is not None else range(classes)), ignore_id}
        stated = [pack_color(color) for color in (colors or ())[:classes]] if ids is None else []
        swapped = bool(swapped_colors(masks, stated, ignore_id=ignore_id)) and _palette_colors(masks) <= known_colors
        return "color" if swapped or _palettes_mean_colors(masks, known_ids, known_colors) else "palette"
    counts: Counter[int] = Counter()
    for mask in masks:
        if mask.form == "grey":
            counts.update(_at_ends(mask.counts) if mask.lossy and classes == 2 else mask.counts)
    if classes != 2 or ignore_id == 255 or ids is not None:
        return "index"
    if looks_soft(counts):
        return "soft"
    if not counts[255]:
        return "index"
    scales = two_scales(masks)
    return "index" if counts[1] and (scales is None or scales[0] >= scales[1]) else "binary"


def two_scales(masks: Sequence[MaskContents]) -> tuple[int, int] | None:
    """Return how many masks hold ids such as 1, and how many hold white (255) in their place, if both occur.

    White beside ids in the same masks is usually that of ignored pixels. It is not if more masks have white alone: more
    than the others where some hold ids alone, and far more where none does, because then the ids are stray pixels.
    """
    grey = [shown.counts for mask in masks if not mask.lossy and (shown := mask.as_grey()) is not None]
    ids = sum(255 not in counts and 0 < max(counts) < 255 and not looks_soft(counts) for counts in grey)
    whites = sum(counts.keys() == {0, 255} or looks_soft(counts) for counts in grey)
    together = sum(255 in counts and len(counts.keys() - {0, 255}) > 0 and not looks_soft(counts) for counts in grey)
    in_place = whites > together if ids else whites > 2 * together > 0
    return (ids + together, whites) if in_place and whites else None


def swapped_colors(
    masks: Sequence[MaskContents], stated: Sequence[int], *, ignore_id: int | None = None
) -> list[tuple[int, int]]:
    """Return the palette indices that show the colour of another class, each with that class.

    An index whose colour another index has, too, is left out: it tells nothing.

    Args:
        masks: Contents of all masks.
        stated: Packed colour of each class, in order of their ids.
        ignore_id: Index of ignored pixels, whose colour means nothing.
    """
    color_of = {index: color for mask in masks for index, color in mask.colors.items() if index != ignore_id}
    often = Counter(color_of.values())
    return [
        (index, stated.index(color))
        for index, color in sorted(color_of.items())
        if often[color] == 1 and color in stated and index < len(stated) and stated[index] != color
    ]


def looks_soft(counts: Mapping[int, int]) -> bool:
    """Tell whether grey values are a foreground with soft edges: mostly black and white, with many levels in between.

    After a blur or a resampling, white may be a little less than 255. It is still the most common level beside black.

    Args:
        counts: Number of pixels per stored value, over all masks.
    """
    white = max(counts, default=0)
    between = [value for value in counts if 0 < value < white]
    ends = counts.get(0, 0) + counts.get(white, 0)
    return (
        len(between) >= 8
        and (white == 255 or (_WHITE <= white < 255 and counts[white] > max(counts[value] for value in between)))
        and min(between) < SOFT_THRESHOLD <= max(between)
        and 2 * ends >= sum(counts.values())
    )


def dataset_key(
    pairs: Sequence[Pair],
    classes: Sequence[ClassInfo],
    *,
    ignore_id: int | None = None,
    ignore_colors: Sequence[RGB] = (),
    trained: LabelKey | None = None,
    lossy: bool = False,
    remedy: str = "",
    on_bad: Callable[[Pair, InputError], None] | None = None,
) -> LabelKey:
    """Read all masks of a dataset and return their label key, when only the classes are known.

    Args:
        pairs: Images with masks.
        classes: Classes in order of their ids, with their colours.
        ignore_id: Stored value of ignored pixels. If it is 255, and masks of two classes hold 0 and 255 alone, 255 is the
            second class.
        ignore_colors: RGB colours of ignored pixels.
        trained: Label key of the masks that the model was trained on. It holds for all masks that fit it, and the
            values that it gives to the classes hold for all masks of ids.
        lossy: Accept JPEG masks, as training did if it accepted them.
        remedy: Remedy to name for a mask whose values stand for no class.
        on_bad: Called for each pair whose mask cannot be used, in place of raising.

    Raises:
        InputError: A mask cannot be read, or has values that stand for no class.
    """
    lossy = lossy or (trained is not None and trained.lossy)

    def refuse(pair: Pair, error: InputError) -> None:
        if on_bad is None:
            raise error
        on_bad(pair, error)

    masks: dict[Pair, MaskContents] = {}
    for pair in pairs:
        if pair.mask is None:
            continue
        try:
            masks[pair] = contents_of(read_mask(pair.mask, allow_lossy=lossy))
        except InputError as error:
            refuse(pair, error)
    # Lossy masks would make a black and white dataset look soft.
    exact = [mask for mask in masks.values() if not mask.lossy] or list(masks.values())
    key = _key_of(exact, classes, ignore_id, ignore_colors, trained, lossy)
    scales = two_scales(list(masks.values())) if ignore_id != 255 and key.encoding != "palette" else None
    if scales is not None:
        remedy = f"{scales[0]} masks hold ids as 1 and {scales[1]} white (255): save all in one way"
    for pair, mask in masks.items():
        try:
            class_table(mask, key, printable(pair.mask or pair.image), remedy)
        except InputError as error:
            refuse(pair, error)
    return key


def _key_of(
    masks: Sequence[MaskContents],
    classes: Sequence[ClassInfo],
    ignore_id: int | None,
    ignore_colors: Sequence[RGB],
    trained: LabelKey | None,
    lossy: bool,
) -> LabelKey:
    """Return the label key of training if all masks fit it, else that of the encoding that is detected."""
    if len(classes) == 2 and ignore_id == 255 and _are_black_and_white(masks):
        # The model's own masks ignore 255, but masks without any other value than 0 would have nothing to measure.
        return LabelKey.of("binary", classes, lossy=lossy)
    ids: dict[int, int] | None = None
    if trained is not None:
        if trained.encoding == "color":
            known = dict(trained.meanings) | {pack_color(color): IGNORE for color in ignore_colors}
            trained = replace(trained, meanings=tuple(sorted(known.items())))
            ignored = (unpack_color(color) for color, class_id in trained.meanings if class_id == IGNORE)
            ignore_colors = tuple(ignored)
        elif trained.encoding in ("index", "palette"):
            ids = {value: class_id for value, class_id in trained.meanings if value != ignore_id}
            ids = None if ids == {c.id: c.id for c in classes} else ids
        if _all_fit(masks, trained):
            return replace(trained, lossy=lossy)
    colors = [*(c.color for c in classes), *ignore_colors]
    encoding = detect_encoding(masks, len(classes), ignore_id=ignore_id, colors=colors, ids=ids)
    return LabelKey.of(encoding, classes, ignore_id=ignore_id, ignore_colors=ignore_colors, ids=ids, lossy=lossy)


def _are_black_and_white(masks: Sequence[MaskContents]) -> bool:
    """Tell whether all masks are grey and hold 0 and 255 alone, and not only 0."""
    levels = [None if (shown := mask.as_grey()) is None else shown.counts.keys() for mask in masks]
    found = set().union(*(keys for keys in levels if keys is not None))
    return None not in levels and found <= {0, 255} and 255 in found


def _all_fit(masks: Sequence[MaskContents], key: LabelKey) -> bool:
    """Tell whether all values of all masks have a meaning in a key."""
    known = {value for value, _ in key.meanings}
    for mask in masks:
        are_levels = mask.lossy or key.encoding == "soft"
        if not fits(mask, key) or not (are_levels or known.issuperset(stored_values(mask, key).values())):
            return False
    # Masks of 0 and 1 are ids, although a soft mask may have such levels.
    return key.encoding != "soft" or any(max(stored_values(mask, key).values()) >= _WHITE for mask in masks)


def _palette_colors(masks: Sequence[MaskContents]) -> set[int]:
    return {color for mask in masks for color in mask.colors.values()}


def _at_ends(counts: Mapping[int, int]) -> dict[int, int]:
    """Return the pixel counts of a lossy black-and-white mask as before its compression: 0 and 255 only."""
    white = sum(n for value, n in counts.items() if value >= SOFT_THRESHOLD)
    return {0: sum(counts.values()) - white, 255: white}


def _palettes_show_levels(
    masks: Sequence[MaskContents],
    classes: int,
    ignore_id: int | None,
    known_colors: set[int],
    ids: Mapping[int, int] | None,
) -> bool:
    """Tell whether palettes of greys stand for the grey levels that they show, and not for their indices.

    Levels that are ids, black and white, or soft edges are those of a grey mask that was made smaller. Other levels only
    show the ids, each in a grey of its own.
    """
    greys = [mask.as_grey() for mask in masks if mask.form == "palette"]
    counts: Counter[int] = Counter()
    for grey in greys:
        if grey is None:
            return False
        counts.update(grey.counts)
    if {level * 0x010101 for level in counts} <= known_colors:
        return False
    named = dict(ids if ids is not None else {i: i for i in range(classes)})
    ignored = {ignore_id} | {value for value, class_id in named.items() if class_id == IGNORE}
    if classes and counts.keys() - {0} - ignored and counts.keys() <= named.keys() | ignored:
        return True
    if ids is not None or ignore_id == 255 or classes not in (0, 2):
        return False
    levels = counts.keys() - {255}
    are_ids = not classes and max(levels, default=0) > 0 and 2 * len(levels) > max(levels)
    return are_ids or (255 in counts and counts.keys() <= {0, 255}) or looks_soft(counts)


def _palettes_mean_colors(masks: Sequence[MaskContents], known_ids: set[int | None], known_colors: set[int]) -> bool:
    """Tell whether the colours of palette files identify the classes, because their indices differ or are unknown."""
    colors: dict[int, set[int]] = {}
    for mask in masks:
        for index, color in mask.colors.items():
            colors.setdefault(index, set()).add(color)
    return any(len(different) > 1 for different in colors.values()) or (
        not colors.keys() <= known_ids and _palette_colors(masks) <= known_colors
    )
