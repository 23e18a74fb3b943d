"""Convert stored mask values (index, palette, binary, soft, colour) to class ids by one label key per dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.mask_files import (
    RGB,
    MaskContents,
    MaskForm,
    StoredMask,
    all_contents_of,
    pack_color,
    runs,
    unpack_color,
)
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.contract import MAX_CLASSES, ClassInfo, Fields

MaskEncoding = Literal["index", "binary", "palette", "color", "soft"]
UNKNOWN = 254
"""Id for "no class"; free because a contract has at most 254 classes."""
IGNORE = 255
"""Id of ignored pixels in masks that have been read; they count in no metric and no loss."""
SOFT_THRESHOLD = 128
"""Lowest grey level of the foreground in a soft mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelKey:
    """Meaning of the stored mask values of a dataset, the same for all its masks.

    Attributes:
        encoding: Encoding of the masks: class ids ("index", "palette"), 0 and 255 ("binary"), these with grey edges
            between them ("soft"), or one colour per class ("color").
        classes: Number of classes.
        meanings: (stored value, class id or ``IGNORE``), in order of the values; colours are packed as 0xRRGGBB.
        lossy: JPEG masks are accepted: a value near a known one means the same.
    """

    encoding: MaskEncoding
    classes: int
    meanings: tuple[tuple[int, int], ...]
    lossy: bool = False

    @classmethod
    def of(
        cls,
        encoding: MaskEncoding,
        classes: Sequence[ClassInfo],
        *,
        ignore_id: int | None = None,
        ignore_colors: Sequence[RGB] = (),
        ids: Mapping[int, int] | None = None,
        lossy: bool = False,
    ) -> LabelKey:
        """Return the key of a dataset.

        Args:
            encoding: Encoding of the masks.
            classes: Classes in order of their ids.
            ignore_id: Stored grey level or palette index of ignored pixels.
            ignore_colors: RGB colours of ignored pixels, for "color".
            ids: Class id or ``IGNORE`` by stored value, for "index" and "palette" if these differ.
            lossy: Accept JPEG masks, too.

        Raises:
            InputError: Two classes of a colour-coded dataset have the same colour, or one has an ignored colour.
        """
        if encoding == "color":
            found = [(pack_color(c.color), c.id) for c in classes] + [(pack_color(c), IGNORE) for c in ignore_colors]
            meanings = dict(found)
            if len(meanings) < len(found):
                twice = next(color for color, n in Counter(color for color, _ in found).items() if n > 1)
                raise InputError(f"colours of classes — {unpack_color(twice)} stands twice — expected one a class")
        elif encoding in ("binary", "soft"):
            meanings = {0: 0, 255: 1}
        else:
            meanings = dict(ids) if ids is not None else {c.id: c.id for c in classes}
        if ignore_id is not None and encoding != "color":
            meanings[ignore_id] = IGNORE
        return cls(encoding=encoding, classes=len(classes), meanings=tuple(sorted(meanings.items())), lossy=lossy)

    def to_dict(self) -> dict[str, Any]:
        """Return the key as a JSON object, as written to ``run.json``."""
        return {**asdict(self), "meanings": [list(pair) for pair in self.meanings]}

    @classmethod
    def from_dict(cls, value: object, where: str) -> LabelKey:
        """Read a key from a JSON object.

        Raises:
            ModelError: A key is missing, unknown or of the wrong type.
        """
        fields = Fields(value, where)
        encoding, meanings = fields.take("encoding", str), fields.take("meanings", list)
        if encoding not in get_args(MaskEncoding):
            raise ModelError(f"{where}: encoding is '{encoding}' — expected {', '.join(get_args(MaskEncoding))}")
        classes = fields.take("classes", int)
        ids = {*range(min(classes, MAX_CLASSES)), IGNORE}
        if not all(isinstance(m, list) and len(m) == 2 and type(m[0]) is int and m[1] in ids for m in meanings):
            raise ModelError(f"{where}: meanings is {meanings} — expected pairs of a stored value and a class id")
        key = cls(
            encoding=cast(MaskEncoding, encoding),
            classes=classes,
            meanings=tuple((stored, class_id) for stored, class_id in meanings),
            lossy=fields.take("lossy", bool),
        )
        fields.finish()
        return key


def fits(contents: MaskContents, key: LabelKey) -> bool:
    """Tell whether a file of this form can be a mask of a dataset with this key.

    A palette of greys can be one of grey levels: programs that make PNG files smaller store them so.
    """
    if key.encoding == "color" or contents.form != "palette":
        return key.encoding == "color" or (contents.form == "grey" and key.encoding != "palette")
    grey = contents.as_grey()
    return key.encoding == "palette" or (grey is not None and (key.encoding == "soft" or _are_known(grey.counts, key)))


def stored_values(contents: MaskContents, key: LabelKey) -> dict[int, int]:
    """Return what a key has a meaning for, by stored value: a colour, the grey level of a palette's grey, or itself."""
    if key.encoding == "color":
        return {value: contents.color_of(value) for value in contents.counts}
    if contents.form == "palette" and key.encoding != "palette":
        return {value: contents.colors[value] & 255 for value in contents.counts}
    return {value: value for value in contents.counts}


def to_class_ids(mask: StoredMask, key: LabelKey, where: str) -> NDArray[np.uint8]:
    """Turn stored mask values into class ids.

    Args:
        mask: Stored values of the mask.
        key: Meaning of the values.
        where: Name of the file in error messages.

    Returns:
        (H, W) uint8 in 0 … classes - 1, or ``IGNORE``.

    Raises:
        InputError: A value stands for no class; the message counts the pixels and names the likely cause.
    """
    table = class_table(all_contents_of(mask), key, where)
    stored, ids = np.array(list(table), np.uint32), np.array(list(table.values()), np.uint8)
    values, lengths = runs(mask.values)
    return np.repeat(ids[np.searchsorted(stored, values)], lengths).reshape(mask.values.shape)


def class_counts(contents: MaskContents, key: LabelKey, where: str, remedy: str = "") -> NDArray[np.int64]:
    """Return the number of pixels per class in a mask, (classes,); raises like ``class_table``."""
    counts = np.zeros(IGNORE + 1, np.int64)
    for value, class_id in class_table(contents, key, where, remedy).items():
        counts[class_id] += contents.counts[value]
    return counts[: key.classes]


def class_table(contents: MaskContents, key: LabelKey, where: str, remedy: str = "") -> dict[int, int]:
    """Return the class id, or ``IGNORE``, of each stored value that occurs in a mask, in order of the values.

    A value of a lossy mask is mapped to the nearest known value, a level of a soft mask to black or white. A mask of 0
    and 1 alone is neither: it holds ids.

    Args:
        contents: Values of the mask.
        key: Meaning of the values.
        where: Name of the file in error messages.
        remedy: Remedy for a mask that does not fit, if the whole dataset tells one or ``dataset.yaml`` is not read; by
            default what the mask itself tells.

    Raises:
        InputError: A value stands for no class, the file's form does not fit the encoding, or a lossy file holds ids.
    """
    if not fits(contents, key):
        raise InputError(
            f"{where} — {_FORMS[contents.form]} — expected '{key.encoding}', the encoding of this dataset: the "
            f"same number may mean another class — {remedy or 'save it as the others are, or set mask_encoding in dataset.yaml'}"
        )
    if contents.lossy and key.encoding in ("index", "palette"):
        raise InputError(
            f"{where} — class ids in a lossy file — expected PNG: neighbouring ids cannot be told apart after "
            "compression — save masks as PNG"
        )
    stored = stored_values(contents, key)
    meanings = dict(key.meanings)
    are_levels = contents.lossy or (key.encoding == "soft" and max(stored.values()) <= 255)
    if are_levels and (key.encoding == "color" or max(stored.values()) != 1):
        meanings = _nearest(list(stored.values()), key) | meanings
    unknown = {stored[value]: n for value, n in contents.counts.items() if stored[value] not in meanings}
    if unknown and is_grey_copy(contents, key):
        levels = ", ".join(str(value & 255) for value in list(unknown)[:5])
        raise InputError(
            f"{where} — a grey mask of levels that the colours of the others become ({levels}) — expected these colours — "
            f"{remedy or 'save it in colour, as the others are'}"
        )
    if unknown:
        found = ", ".join(f"{_shown(value, key)} ({n} px)" for value, n in list(unknown.items())[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        what = "colour" if key.encoding == "color" else "label id"
        raise InputError(
            f"{where} — unknown {what} {found}{more} — expected {_expected(key)} — {remedy or _remedy(unknown, key)}"
        )
    return {value: meanings[meaning] for value, meaning in stored.items()}


def is_grey_copy(contents: MaskContents, key: LabelKey) -> bool:
    """Tell whether a mask is a grey picture of a dataset's colours: its unknown levels are their luminances."""
    if contents.form != "grey" or key.encoding != "color":
        return False
    known = {value for value, _ in key.meanings}
    levels = {value for value in contents.counts if contents.color_of(value) not in known}
    return bool(levels) and levels <= luminances(known)


def luminances(colors: Iterable[int]) -> set[int]:
    """Return the grey levels that packed colours become in a grey picture, however they are rounded; greys stay."""
    packed = np.array(list(colors), np.int64)
    channels = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    levels = channels[np.ptp(channels, axis=-1) > 0] @ (0.299, 0.587, 0.114)
    return {*np.floor(levels).astype(int).tolist(), *np.ceil(levels).astype(int).tolist()}


def all_near_known(colors: Iterable[int], key: LabelKey) -> bool:
    """Tell whether all these packed colours are near known ones, as in a compressed or resized mask."""
    known = np.array([_channels(value) for value, _ in key.meanings])
    return all(np.abs(known - _channels(color)).max(axis=1).min() <= _NEAR for color in colors)


_NEAR = 40
"""Largest difference per channel at which a colour is taken for a damaged known colour."""
_FORMS: dict[MaskForm, str] = {"grey": "one channel of values", "palette": "a palette PNG", "color": "a colour mask"}
VOC_GREYS = frozenset({38, 75, 113, 14, 52, 89, 128})
"""Grey levels that the colours of the usual mask palette become."""


def _are_known(levels: Iterable[int], key: LabelKey) -> bool:
    """Tell whether grey levels of a palette all have a meaning, and are more than pixels to ignore.

    White is the usual level of ignored pixels, and the usual colour in which id 1 is shown.
    """
    meanings = dict(key.meanings)
    found = [meanings.get(level) for level in levels if level]
    return None not in found and (not found or any(class_id != IGNORE for class_id in found))


def _nearest(values: list[int], key: LabelKey) -> dict[int, int]:
    """Return the meaning of the known value nearest to each value; ignored values are known ones only among colours."""
    meanings = [m for m in key.meanings if m[1] != IGNORE or key.encoding == "color"]
    known = np.array([_channels(value) for value, _ in meanings])
    nearest = [int(((known - _channels(value)) ** 2).sum(axis=1).argmin()) for value in values]
    return {value: meanings[place][1] for value, place in zip(values, nearest, strict=True)}


def _channels(value: int) -> NDArray[np.int64]:
    return np.array(unpack_color(value), np.int64)


def _shown(value: int, key: LabelKey) -> str:
    return str(unpack_color(value)) if key.encoding == "color" else str(value)


def _expected(key: LabelKey) -> str:
    """Return the values that stand for classes, as text for a message."""
    values = [value for value, class_id in key.meanings if class_id != IGNORE]
    if key.encoding == "color":
        rest = f" and {len(values) - 4} more" if len(values) > 4 else ""
        return ", ".join(str(unpack_color(value)) for value in values[:4]) + rest
    if values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return " and ".join(map(str, values)) if len(values) < 3 else "one of " + ", ".join(map(str, values[:20]))


def _remedy(unknown: Mapping[int, int], key: LabelKey) -> str:
    """Return the likely cause of values that stand for no class, as text for a message."""
    if key.encoding == "color":
        if all_near_known(list(unknown)[:1000], key):
            return "a little off known colours, as in a JPEG-compressed or resized mask: make it again with nearest neighbour and PNG"
    elif set(unknown) <= VOC_GREYS - {128} and key.encoding != "binary":
        return "these are grey levels of the usual mask palette: save the indices, not the picture"
    elif set(unknown) == {255}:
        return "set ignore_id: 255 in dataset.yaml if these pixels count nowhere"
    elif max(unknown) > 255:
        return "16-bit ids are never scaled: say which class each stands for with ids in dataset.yaml"
    if len(unknown) > 8:
        return "many stray values look like a resized or JPEG-compressed mask: make it again with nearest neighbour and PNG"
    if key.encoding == "binary":
        return "set mask_encoding: soft in dataset.yaml for grey edges, or ignore_id if these pixels count nowhere"
    if key.encoding == "color":
        return "add the class or ignore_colors in dataset.yaml (eval: --ignore-color), or correct the mask"
    return "add the class or set ignore_id in dataset.yaml, or correct the mask"
