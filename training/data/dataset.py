"""Read a dataset folder: ``dataset.yaml``, image and mask pairs by split, class ids of a mask."""

from __future__ import annotations

import colorsys
import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE, LabelKey, MaskEncoding, to_class_ids
from edge_runtime.dataset.mask_files import RGB, read_mask
from edge_runtime.dataset.pairs import Pair, Problem, Split, find_pairs, split_folders
from edge_runtime.model.contract import MAX_CLASSES, ClassInfo
from edge_runtime.storage import printable, read_bytes
from training.errors import DataError

CONFIG = "dataset.yaml"
_KEYS = ("classes", "ignore_id", "colors", "ignore_colors", "ids", "mask_encoding", "groups")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """Classes and mask encoding of a dataset, stated in ``dataset.yaml`` or inferred.

    Attributes:
        classes: Classes in order of their ids.
        ignore_id: Stored mask value of ignored pixels.
        encoding: Encoding of the masks, or "auto" to detect it.
        colors_known: Whether the class colours are those of colour-coded masks; otherwise they are for drawing only.
        ignore_colors: RGB colours of ignored pixels in colour-coded masks.
        ids: (stored value, class id or ``IGNORE``) of each mask value, if masks do not store class ids.
        groups: Regular expression on file names whose one group is the name of an image's sequence.
    """

    classes: tuple[ClassInfo, ...]
    ignore_id: int | None = None
    encoding: MaskEncoding | Literal["auto"] = "auto"
    colors_known: bool = False
    ignore_colors: tuple[RGB, ...] = ()
    ids: tuple[tuple[int, int], ...] | None = None
    groups: str | None = None

    def key(self, encoding: MaskEncoding, *, lossy: bool = False) -> LabelKey:
        """Return the label key for masks of an encoding; ``lossy`` accepts JPEG masks, too."""
        return LabelKey.of(
            encoding,
            self.classes,
            ignore_id=self.ignore_id,
            ignore_colors=self.ignore_colors,
            ids=None if self.ids is None else dict(self.ids),
            lossy=lossy,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pairs of a dataset by split, and the problems of pairing images and masks."""

    root: Path
    splits: dict[Split, tuple[Pair, ...]]
    problems: tuple[Problem, ...]

    def pairs(self) -> list[Pair]:
        """Return all pairs, split by split."""
        return [pair for pairs in self.splits.values() for pair in pairs]

    def without(self, pairs: Iterable[Pair]) -> Dataset:
        """Return the dataset without some pairs; the problems stay."""
        gone = set(pairs)
        return replace(self, splits={s: tuple(p for p in kept if p not in gone) for s, kept in self.splits.items()})


def read_info(root: Path) -> DatasetInfo | None:
    """Read ``dataset.yaml``; return None if the dataset has none.

    Raises:
        DataError: The file is not valid YAML, or has an unknown key or a value of the wrong kind.
    """
    path = root / CONFIG
    if not path.is_file():
        return None
    import yaml

    where = printable(path)
    try:
        value = yaml.safe_load(read_bytes(path, DataError))
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise DataError(f"{where} — not valid YAML ({' '.join(str(cause).split())}) — correct it") from cause
    if not isinstance(value, dict):
        raise DataError(f"{where} — found {type(value).__name__} — expected keys: {', '.join(_KEYS)}")
    for key in value:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected {', '.join(_KEYS)}"
            raise DataError(f"{where} — unknown key '{key}' — {hint}")
    return _info(value, where)


def find_dataset(root: Path) -> Dataset:
    """Find the pairs of every split; a dataset without split folders is all ``train``.

    Raises:
        InputError: The folder does not have the layout of a dataset.
    """
    folders = split_folders(root) or {"train": root}
    found = {split: find_pairs(folder) for split, folder in folders.items()}
    return Dataset(
        root=root,
        splits={split: pairing.pairs for split, pairing in found.items()},
        problems=tuple(problem for pairing in found.values() for problem in pairing.problems),
    )


def read_class_ids(pair: Pair, key: LabelKey) -> NDArray[np.uint8]:
    """Read a pair's mask as (H, W) uint8 class ids, or ``IGNORE``."""
    return to_class_ids(read_mask(pair.mask, allow_lossy=key.lossy), key, printable(pair.mask))


def make_classes(names: Sequence[str], colors: Sequence[Sequence[int]] | None = None) -> tuple[ClassInfo, ...]:
    """Return classes with the given RGB colours, or with well-separated ones."""
    chosen = colors or [default_color(i) for i in range(len(names))]
    return tuple(
        ClassInfo(id=i, name=name, color=(int(c[0]), int(c[1]), int(c[2])))
        for i, (name, c) in enumerate(zip(names, chosen, strict=True))
    )


def default_color(class_id: int) -> tuple[int, int, int]:
    """Return an RGB colour for a class: black for 0, else a bright hue that differs from that of its neighbours."""
    if class_id == 0:
        return 0, 0, 0
    value = (1.0, 0.8, 0.6)[class_id // 5 % 3]
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1, 0.8, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _info(value: dict[str, Any], where: str) -> DatasetInfo:
    names = value.get("classes")
    if not isinstance(names, list) or not 2 <= len(names) <= MAX_CLASSES or len({str(n) for n in names}) != len(names):
        raise DataError(f"{where} — classes is {names!r} — expected a list of 2 to {MAX_CLASSES} different names")
    ignore_id = value.get("ignore_id")
    if ignore_id is not None and not (type(ignore_id) is int and 0 <= ignore_id <= 255):
        raise DataError(f"{where} — ignore_id is {ignore_id!r} — expected a mask value from 0 to 255")
    colors, ignore_colors = value.get("colors"), value.get("ignore_colors") or []
    if colors is not None and not (_are_colors(colors) and len(colors) == len(names)):
        raise DataError(
            f"{where} — colors is {colors!r} — expected {len(names)} lists of red, green, blue from 0 to 255"
        )
    if not _are_colors(ignore_colors):
        raise DataError(
            f"{where} — ignore_colors is {ignore_colors!r} — expected lists of red, green, blue from 0 to 255"
        )
    encoding = value.get("mask_encoding", "auto")
    if encoding not in ("auto", *get_args(MaskEncoding)):
        raise DataError(f"{where} — mask_encoding is {encoding!r} — expected auto, {', '.join(get_args(MaskEncoding))}")
    if encoding == "color" and colors is None:
        raise DataError(
            f"{where} — mask_encoding is color and there are no colors — add one [red, green, blue] a class"
        )
    return DatasetInfo(
        classes=make_classes([str(n) for n in names], colors),
        ignore_id=ignore_id,
        encoding=encoding,
        colors_known=colors is not None,
        ignore_colors=tuple((c[0], c[1], c[2]) for c in ignore_colors),
        ids=_ids(value.get("ids"), [str(n) for n in names], where),
        groups=_groups(value.get("groups"), where),
    )


def _are_colors(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(c, list) and len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in value
    )


def _ids(value: object, names: list[str], where: str) -> tuple[tuple[int, int], ...] | None:
    """Read ``ids``: the class name of each stored value, or null for ignored values."""
    if value is None:
        return None
    if not isinstance(value, dict) or not all(type(stored) is int and 0 <= stored < 1 << 16 for stored in value):
        raise DataError(f"{where} — ids is {value!r} — expected class names by mask value, as {{7: {names[0]}}}")
    known: dict[str | None, int] = {None: IGNORE, **{name: i for i, name in enumerate(names)}}
    for stored, name in value.items():
        if (name if name is None else str(name)) not in known:
            raise DataError(f"{where} — ids: {stored} is {name!r} — expected one of classes, or null to ignore it")
    return tuple((stored, known[name if name is None else str(name)]) for stored, name in sorted(value.items()))


def _groups(value: object, where: str) -> str | None:
    try:
        if value is None or (isinstance(value, str) and re.compile(value).groups == 1):
            return value
        cause = "not one group in brackets"
    except re.error as error:
        cause = str(error)
    raise DataError(
        f"{where} — groups is {value!r} ({cause}) — expected a regular expression with one group, as '^(.+)_\\d+$'"
    )
