"""Convert mask files of other datasets to class ids, by value or by colour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE, UNKNOWN
from edge_runtime.dataset.mask_files import decode_mask
from edge_runtime.headers import read_header
from edge_runtime.image import decode
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable, read_bytes
from training.errors import DataError
from training.importers.plan import BACKGROUND_NAMES, Color, Draw, label_classes
from training.importers.shapes import Size

_MAX_UNKNOWN_SHARE = 0.01
"""Largest share of unknown colours in a mask. The original CamVid has a few; a wrong colour table makes it large."""


def draw_by_value(path: Path, ids: Mapping[int, int]) -> Draw:
    """Return a function that reads a mask file when its image is written; see ``ids_of_values``."""
    return lambda _size: ids_of_values(path, ids)


def draw_by_color(path: Path, ids: Mapping[Color, int]) -> Draw:
    """Return a function that reads a mask file when its image is written; see ``ids_of_colors``."""
    return lambda _size: ids_of_colors(path, ids)


def draw_by_value_or_color(path: Path, values: Mapping[int, int], colors: Mapping[Color, int]) -> Draw:
    """Return a function that reads a mask by its values, or by its colours if an image program saved it as RGB."""

    def draw(_size: Size) -> NDArray[np.uint8]:
        data = read_bytes(path, DataError)
        header, stored = read_header(data, printable(path)), decode_mask(data, printable(path))
        is_color = not header.palette and (header.channels or 1) >= 3
        if stored.form == "color" or (is_color and not np.isin(stored.values, list(values)).all()):
            return ids_of_colors(path, colors)
        return ids_of_values(path, values)

    return draw


def classes_by_value(
    names: Mapping[int, str], colors: Mapping[str, Color] | None = None, *, where: str
) -> tuple[tuple[ClassInfo, ...], dict[int, int]]:
    """Number classes whose stored values are known, without gaps, in the order of the values.

    If no class is called background, the class of value 0 takes its place under its own name.

    Args:
        names: Class name by stored value.
        colors: RGB by name, if the source has colours.
        where: File with the names, for messages.

    Returns:
        The classes, and the class id of each stored value.

    Raises:
        DataError: There is no class besides the background, there are too many, or one has no name.
    """
    ordered = [names[value] for value in sorted(names)]
    first = names.get(0, "")
    if not first.strip() or any(name.strip().casefold() in BACKGROUND_NAMES for name in ordered):
        labels = label_classes(ordered, colors, where=where)
        return labels.classes, {0: 0} | {value: labels.ids[name] for value, name in names.items()}
    labels = label_classes((name for name in ordered if name != first), colors, where=where)
    background = replace(labels.classes[0], name=first, color=(colors or {}).get(first, labels.classes[0].color))
    ids = labels.ids | {first: 0}
    return (background, *labels.classes[1:]), {value: ids[name] for value, name in names.items()}


def ids_of_values(path: Path, ids: Mapping[int, int]) -> NDArray[np.uint8]:
    """Read a mask of palette indices or grey levels.

    Args:
        path: Path of the mask.
        ids: Class id, or 255, by stored value.

    Returns:
        (H, W) uint8 class ids, or 255.

    Raises:
        InputError: The file cannot be read, or has an unknown value.
    """
    values = decode_mask(read_bytes(path, DataError), printable(path)).values
    if values.dtype != np.uint8:
        raise DataError(f"{printable(path)} — a colour or 16-bit mask — expected grey levels or a palette, 8 bits deep")
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(ids)] = list(ids.values())
    mask = table[values]
    if (unknown := mask == UNKNOWN).any():
        value, count = np.unique(values[unknown], return_counts=True)
        found = ", ".join(f"{v} ({n} px)" for v, n in list(zip(value, count, strict=True))[:5])
        raise DataError(
            f"{printable(path)} — unknown value {found} — expected {_ranges(ids)} — add the class or correct the mask"
        )
    return mask


def ids_of_colors(path: Path, ids: Mapping[Color, int]) -> NDArray[np.uint8]:
    """Read a colour mask; a few pixels of unknown colours are ignored.

    Args:
        path: Path of the mask.
        ids: Class id, or 255, by RGB.

    Returns:
        (H, W) uint8 class ids, or 255.

    Raises:
        InputError: The file cannot be read, is a JPEG, or more than 1 % of its pixels have an unknown colour.
    """
    data, where = read_bytes(path, DataError), printable(path)
    if data.startswith(b"\xff\xd8"):
        raise DataError(f"{where} — a JPEG mask: compression changes colours — expected PNG")
    image_bgr = decode(data, where).astype(np.uint32)
    codes = image_bgr[..., 2] << 16 | image_bgr[..., 1] << 8 | image_bgr[..., 0]
    known = np.array(sorted((red << 16 | green << 8 | blue, i) for (red, green, blue), i in ids.items()), np.uint32)
    place = np.minimum(np.searchsorted(known[:, 0], codes), len(known) - 1)
    is_known = known[place, 0] == codes
    if (share := 1 - is_known.mean()) > _MAX_UNKNOWN_SHARE:
        code = int(np.bincount(codes[~is_known]).argmax())
        raise DataError(
            f"{where} — {share:.1%} of its pixels have a colour of no class, most {code >> 16},{code >> 8 & 255},{code & 255}"
            " — expected the colours of the classes — correct the colour table or the mask"
        )
    return np.where(is_known, known[place, 1], IGNORE).astype(np.uint8)


def _ranges(ids: Mapping[int, int]) -> str:
    """Return the values as ranges: "0 to 20, 255"."""
    values = np.array(sorted(ids))
    groups = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{group[0]} to {group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups)
