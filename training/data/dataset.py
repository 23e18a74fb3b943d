"""Hold what is known of a dataset: its classes, its image and mask pairs by split, the class ids of a mask."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey, MaskEncoding, to_class_ids
from edge_runtime.dataset.layout import Layout, find_layout
from edge_runtime.dataset.mask_files import RGB, read_mask
from edge_runtime.dataset.pairs import Pair, Problem, Split, find_pairs
from edge_runtime.image import read_image
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable

CONFIG = "dataset.yaml"
"""Usual name of the file that states the classes."""


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
        empty_without_mask: Images without a mask are all background (class 0).
    """

    classes: tuple[ClassInfo, ...]
    ignore_id: int | None = None
    encoding: MaskEncoding | Literal["auto"] = "auto"
    colors_known: bool = False
    ignore_colors: tuple[RGB, ...] = ()
    ids: tuple[tuple[int, int], ...] | None = None
    groups: str | None = None
    empty_without_mask: bool = False

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
    """Pairs of a dataset by split, and the problems of pairing images and masks.

    Attributes:
        root: Folder of the dataset.
        splits: Pairs by split.
        problems: Problems of pairing images and masks.
        layout: Folders of the images and masks.
        unread: Visible files in the folders of images and masks that are not read.
        notes: Phrases for a summary: how folders and files are named if not as usual.
    """

    root: Path
    splits: dict[Split, tuple[Pair, ...]]
    problems: tuple[Problem, ...]
    layout: Layout = field(default_factory=Layout)
    unread: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[Pair]:
        """Return all pairs, split by split."""
        return [pair for pairs in self.splits.values() for pair in pairs]

    def without(self, pairs: Iterable[Pair]) -> Dataset:
        """Return the dataset without some pairs; the problems stay."""
        gone = set(pairs)
        return replace(self, splits={s: tuple(p for p in kept if p not in gone) for s, kept in self.splits.items()})


def find_dataset(root: Path, *, empty_without_mask: bool = False) -> Dataset:
    """Find the pairs of every split; a dataset without split folders is all ``train``.

    Args:
        root: Folder of the dataset.
        empty_without_mask: Take images that have no mask as all background.

    Raises:
        InputError: The folder does not have the layout of a dataset.
    """
    layout = find_layout(root)
    found = {
        split: find_pairs(folders, empty_without_mask=empty_without_mask) for split, folders in layout.folders.items()
    }
    return Dataset(
        root=root,
        layout=layout,
        splits={split: pairing.pairs for split, pairing in found.items()},
        problems=tuple(problem for pairing in found.values() for problem in pairing.problems),
        unread=tuple(path for pairing in found.values() for path in pairing.unread),
        notes=(*layout.notes, *(note for pairing in found.values() for note in pairing.notes)),
    )


def read_class_ids(pair: Pair, key: LabelKey) -> NDArray[np.uint8]:
    """Read a pair's mask as (H, W) uint8 class ids, or ``IGNORE``; without a mask, all pixels are of class 0."""
    if pair.mask is None:
        return np.zeros(read_image(pair.image).shape[:2], np.uint8)
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
