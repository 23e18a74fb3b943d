"""Infer the encoding of a dataset's masks and, without a ``dataset.yaml``, its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.dataset.detect import detect_encoding, looks_soft, swapped_colors, two_scales
from edge_runtime.dataset.label_key import SOFT_THRESHOLD, LabelKey, fits, luminances
from edge_runtime.dataset.mask_files import RGB, MaskContents, pack_color, unpack_color
from edge_runtime.model.contract import MAX_CLASSES, ClassInfo
from training.data.color_tables import VOC, ColorTable, recognise
from training.data.dataset import DatasetInfo, default_color, make_classes
from training.errors import DataError

RARE = 1e-3
"""Share of the pixels below which a colour may be a blend of others at a border."""
CLOSE = 16
"""Largest difference per channel at which a rare colour is a damaged common one; those of classes differ by more."""


def resolve_labels(
    stated: DatasetInfo | None, masks: Sequence[MaskContents], *, lossy: bool = False
) -> tuple[DatasetInfo, LabelKey]:
    """Return the classes of a dataset and the label key of its masks.

    Args:
        stated: Content of ``dataset.yaml``; None without the file.
        masks: Contents of each mask that can be read.
        lossy: Accept JPEG masks.

    Raises:
        DataError: Masks are colour-coded and the class of each colour is unknown, or the colours cannot be classes.
    """
    info = stated or infer_info(masks)
    if info.encoding != "auto":
        key = info.key(info.encoding, lossy=lossy)
        of_palettes = sum(mask.form == "palette" and not fits(mask, key) for mask in masks)
        # The indices of palette files are ids, too: who states "index" need not know how the files hold them.
        are_palettes = info.encoding == "index" and 2 * of_palettes > len(masks)
        return info, info.key("palette", lossy=lossy) if are_palettes else key
    colors = [*(c.color for c in info.classes), *info.ignore_colors] if info.colors_known else None
    ids = None if info.ids is None else dict(info.ids)
    encoding = detect_encoding(masks, len(info.classes), ignore_id=info.ignore_id, colors=colors, ids=ids)
    if encoding == "color" and not info.colors_known:
        found = [unpack_color(color) for color, _ in _colors(masks).most_common(5)]
        raise DataError(
            f"masks are colour-coded, with {', '.join(map(str, found))} — expected to know which class each colour is — "
            "add colors to dataset.yaml, one [red, green, blue] a class, and ignore_colors"
        )
    if encoding == "palette" and info.colors_known and ids is None:
        _require_own_colors(info, masks)
    return info, info.key(encoding, lossy=lossy)


def infer_info(masks: Sequence[MaskContents]) -> DatasetInfo:
    """Infer the classes of a dataset without ``dataset.yaml`` from the values in its masks.

    Raises:
        DataError: The masks' colours cannot be classes.
    """
    most = detect_encoding(masks, 0)
    if most == "color":
        return _info_of_colors(_colors(_without_grey_copies(masks)))
    counts: Counter[int] = Counter()
    palette: dict[int, RGB] = {}
    shown = masks if most == "palette" else [grey for mask in masks if (grey := mask.as_grey()) is not None]
    for mask in (m for m in shown if m.form != "color"):
        if mask.lossy:
            counts.update({255 * (value >= SOFT_THRESHOLD): n for value, n in mask.counts.items()})
        else:
            counts.update(mask.counts)
        palette |= {index: unpack_color(color) for index, color in mask.colors.items()}
    scales = two_scales(masks) if most != "palette" else None
    mostly_white = scales is not None and scales[1] > scales[0]
    if most != "palette" and (mostly_white or counts.keys() <= {0, 255} or looks_soft(counts)):
        return DatasetInfo(classes=make_classes(["background", "foreground"]))
    return _info_of_ids(set(counts), palette, two_tools=scales is not None)


def _require_own_colors(info: DatasetInfo, masks: Sequence[MaskContents]) -> None:
    """Refuse palette masks that show a class in the colour of another.

    Raises:
        DataError: An index has the stated colour of another class.
    """
    swapped = swapped_colors(masks, [pack_color(c.color) for c in info.classes], ignore_id=info.ignore_id)
    if swapped:
        index, other = swapped[0]
        raise DataError(
            f"masks are palette files, whose index {index} is shown in the colour of '{info.classes[other].name}' in "
            f"dataset.yaml, and index {index} is '{info.classes[index].name}' there — expected one order of the classes — set "
            "mask_encoding: palette if the indices are right, or color if the colours are, with all of them in colors and "
            "ignore_colors"
        )


def _info_of_ids(values: set[int], palette: Mapping[int, RGB], *, two_tools: bool) -> DatasetInfo:
    """Infer classes from the ids in masks, and from their colours in a palette.

    255 is for ignored pixels, but not in masks of two tools, where it stands for a class, and not among values that are
    no ids.
    """
    ids = values - {255}
    highest = max(ids, default=0)
    are_levels = len(ids) <= highest / 2 and not ids <= palette.keys() and 1 not in ids
    if len(ids) <= highest / 2 and not ids <= palette.keys():
        # Values with many gaps are not class ids. Count up to the first gap; the check then reports the other values.
        highest = next(i for i in range(1, 256) if i not in ids) - 1
    highest = min(max(highest, 1), MAX_CLASSES - 1)
    ignore_id = 255 if 255 in values and not two_tools and not are_levels else None
    used = {i: palette[i] for i in ids & palette.keys()}
    if recognise(set(used.values())) is VOC and all(color == VOC.classes[i][1] for i, color in used.items()):
        return DatasetInfo(classes=_classes_of(VOC), ignore_id=ignore_id)
    names = ["background", *(f"class_{i}" for i in range(1, highest + 1))]
    return DatasetInfo(
        classes=make_classes(names, [palette.get(i, default_color(i)) for i in range(highest + 1)]),
        ignore_id=ignore_id,
    )


def _info_of_colors(pixels: Counter[int]) -> DatasetInfo:
    """Infer classes from the colours in masks: those of a well-known dataset, or one per colour.

    Black is the background, and first; the other colours follow, most pixels first.
    """
    table = recognise({unpack_color(color) for color in pixels})
    if table is not None:
        return DatasetInfo(classes=_classes_of(table), colors_known=True, ignore_colors=table.ignored)
    common = sum(n >= RARE * pixels.total() for n in pixels.values())
    rare = len(pixels) - common
    if len(pixels) > MAX_CLASSES or rare > max(8, 2 * common):
        raise DataError(
            f"masks have {len(pixels)} colours, {common} of them with {RARE:.1%} of the pixels or more — expected at most "
            f"{MAX_CLASSES}, one a class: edges are blended, or the masks were resized or JPEG-compressed — make them "
            "again without, or name the colours of the classes in dataset.yaml"
        )
    pixels = _without_strays(pixels)
    table = recognise({unpack_color(color) for color in pixels})
    if table is not None:
        return DatasetInfo(classes=_classes_of(table), colors_known=True, ignore_colors=table.ignored)
    ordered = sorted(pixels, key=lambda color: (color != 0, -pixels[color], color))
    names = [f"color_{color:06x}" if color else "background" for color in ordered]
    return DatasetInfo(classes=make_classes(names, [unpack_color(c) for c in ordered]), colors_known=True)


def _without_strays(pixels: Counter[int]) -> Counter[int]:
    """Return the colours without rare ones that are almost a common one, as in a mask that was resized."""
    rare = {color for color, n in pixels.items() if n < RARE * pixels.total()}
    common = np.array([unpack_color(color) for color in pixels.keys() - rare], np.int64).reshape(-1, 3)
    strays = {c for c in rare if (np.abs(common - unpack_color(c)).max(axis=1) <= CLOSE).any()}
    return Counter({color: n for color, n in pixels.items() if color not in strays})


def _without_grey_copies(masks: Sequence[MaskContents]) -> list[MaskContents]:
    """Return the masks without those that are grey pictures of the others' colours."""
    colors = set(_colors([mask for mask in masks if mask.form != "grey"]))
    shown = luminances(colors)
    unknown = [{v for v in mask.counts if mask.form == "grey" and mask.color_of(v) not in colors} for mask in masks]
    return [mask for mask, levels in zip(masks, unknown, strict=True) if not levels or not levels <= shown]


def _classes_of(table: ColorTable) -> tuple[ClassInfo, ...]:
    return make_classes([name for name, _ in table.classes], [color for _, color in table.classes])


def _colors(masks: Sequence[MaskContents]) -> Counter[int]:
    """Return the pixels of each packed colour."""
    pixels: Counter[int] = Counter()
    for mask in masks:
        for value, n in mask.counts.items():
            pixels[mask.color_of(value)] += n
    return pixels
