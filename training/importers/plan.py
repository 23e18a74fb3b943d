"""What an importer found: classes, and images each with a way to its mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import Split
from edge_runtime.model.contract import MAX_CLASSES, ClassInfo
from training.data.dataset import default_color
from training.errors import DataError

Color: TypeAlias = tuple[int, int, int]
"""Red, green, blue."""
Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
Draw: TypeAlias = Callable[[Size], NDArray[np.uint8]]
"""Returns a mask, (H, W) uint8 class ids or 255, for an image of this size; raises InputError with the annotation's name."""
BACKGROUND = "background"
_BACKGROUND_NAMES = (BACKGROUND, "_background_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image to import.

    Attributes:
        name: Its path in the source, of which the new name is made.
        image: The image file, or its bytes where an annotation holds them.
        draw: Returns its mask.
        split: The folder it belongs to, None in a dataset without splits.
        size: The size that the annotation is for, None where it does not say.
        group: Video, sequence or place; images of one group belong in one split.
    """

    name: str
    image: Path | bytes
    draw: Draw
    split: Split | None = None
    size: Size | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A dataset in another format, read but for its pixels.

    Attributes:
        classes: In order of their ids.
        items: The images.
        problems: What is wrong, one line each; any of them and nothing is imported.
        left_out: Images and annotations that are not imported, one line each.
        notes: What else a person should know, one line each.
    """

    classes: tuple[ClassInfo, ...]
    items: tuple[Item, ...]
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What an import wrote.

    Attributes:
        root: The new dataset.
        classes: In order of their ids. The ignored id is always 255.
        images: Number of images by split, under "all" in a dataset without splits.
        left_out: Images and annotations that were not imported, one line each.
        notes: What else a person should know, one line each.
    """

    root: Path
    classes: tuple[ClassInfo, ...]
    images: dict[str, int]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Classes, and the ids that a source's names for them stand for."""

    classes: tuple[ClassInfo, ...]
    ids: dict[str, int] = field(default_factory=dict)


def label_classes(names: Iterable[str], colors: Mapping[str, Color] | None = None, *, where: str) -> Labels:
    """Number names from 1 in their order; one that means the background, or else a new class of that name, is 0.

    Args:
        names: Of the source; repeated ones count once.
        colors: RGB by name, where the source has them.
        where: The file that has the names, for messages.

    Raises:
        DataError: No class but the background, too many, or one without a name.
    """
    ids: dict[str, int] = {}
    ordered = [BACKGROUND]
    chosen = [(colors or {}).get(BACKGROUND, default_color(0))]
    for name in names:
        if name in ids:
            continue
        if not name.strip():
            raise DataError(f"{where} — a class without a name — expected a name for every class")
        if name.strip().casefold() in _BACKGROUND_NAMES:
            ids[name] = 0
            chosen[0] = (colors or {}).get(name, chosen[0])
            continue
        ids[name] = len(ordered)
        chosen.append((colors or {}).get(name, default_color(len(ordered))))
        ordered.append(name)
    if not 2 <= len(ordered) <= MAX_CLASSES:
        raise DataError(
            f"{where} — {len(ordered) - 1} classes — expected 1 to {MAX_CLASSES - 1} besides the background"
        )
    return Labels(classes=named_classes(ordered, chosen), ids=ids)


def named_classes(names: Sequence[str], colors: Sequence[Color]) -> tuple[ClassInfo, ...]:
    """Return classes numbered in order, with their RGB colours."""
    pairs = zip(names, colors, strict=True)
    return tuple(ClassInfo(id=i, name=name, color=color) for i, (name, color) in enumerate(pairs))


def counted(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return "3 points: they have no area" for {"points: they have no area": 3}, and so on."""
    return tuple(f"{count} {what}" for what, count in counts.items() if count)
