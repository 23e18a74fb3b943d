"""Plan of an import: classes, and images with what their masks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import Split
from edge_runtime.model.contract import ClassInfo
from training.data.dataset import default_color
from training.errors import DataError
from training.importers.painting import Drawing
from training.importers.shapes import Size

Color: TypeAlias = tuple[int, int, int]
"""Red, green, blue."""
Draw: TypeAlias = Callable[[Size], NDArray[np.uint8]]
"""Function that reads the mask of an image, (H, W) uint8 class ids or 255; raises InputError."""
BACKGROUND = "background"
BACKGROUND_NAMES = (BACKGROUND, "_background_", "__background__", "bg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image to import.

    Attributes:
        name: Path in the source, from which the new file name is made.
        image: Path of the image file, or its bytes if an annotation holds them.
        draw: Function that reads the mask from a file, or the shapes from which it is painted.
        split: Split of the image; None in a dataset without splits.
        size: Size for which the annotation was made; None if it does not say.
        group: Video, sequence or place; images of one group belong in one split.
    """

    name: str
    image: Path | bytes
    draw: Draw | Drawing
    split: Split | None = None
    size: Size | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Dataset of another format, read except for its pixels.

    Attributes:
        classes: Classes in order of their ids.
        items: Images to import.
        problems: Faulty files and shapes, one line each. Nothing is imported if there are any, unless the user leaves
            them out; ``items`` are without them.
        left_out: Images and annotations that are not imported, one line each.
        undrawn: Lines of a ``Tally`` of shapes that cannot be painted, such as points.
        notes: Remarks for the user, one line each.
        keeps_unused: Whether classes without a shape are kept. They are left out otherwise, if all masks are painted.
    """

    classes: tuple[ClassInfo, ...]
    items: tuple[Item, ...]
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    undrawn: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    keeps_unused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """Summary of an import.

    Attributes:
        root: Folder of the new dataset.
        classes: Classes in order of their ids. The ignored id is always 255.
        images: Number of images by split, under "all" in a dataset without splits.
        left_out: Images and annotations that were not imported, one line each.
        notes: Remarks for the user, one line each.
        kind: Name of the format.
        evidence: What showed the format; None if it was named.
    """

    root: Path
    classes: tuple[ClassInfo, ...]
    images: dict[str, int]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    kind: str = ""
    evidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Classes, and the class id of each name in the source."""

    classes: tuple[ClassInfo, ...]
    ids: dict[str, int] = field(default_factory=dict)


def label_classes(names: Iterable[str], colors: Mapping[str, Color] | None = None, *, where: str) -> Labels:
    """Number names from 1 in their order; class 0 is the background, named in the source or added.

    Args:
        names: Class names in the source; repeated names count once.
        colors: RGB by name, if the source has colours.
        where: File with the names, for messages.

    Raises:
        DataError: A class has no name.
    """
    ids: dict[str, int] = {}
    ordered = [BACKGROUND]
    chosen = [(colors or {}).get(BACKGROUND, default_color(0))]
    for name in names:
        if name in ids:
            continue
        if not name.strip():
            raise DataError(f"{where} — a class without a name — expected a name for every class")
        if name.strip().casefold() in BACKGROUND_NAMES:
            ids[name] = 0
            chosen[0] = (colors or {}).get(name, chosen[0])
            continue
        ids[name] = len(ordered)
        chosen.append((colors or {}).get(name, default_color(len(ordered))))
        ordered.append(name)
    return Labels(classes=named_classes(ordered, chosen), ids=ids)


def named_classes(names: Sequence[str], colors: Sequence[Color]) -> tuple[ClassInfo, ...]:
    """Return classes numbered in order, with their RGB colours."""
    pairs = zip(names, colors, strict=True)
    return tuple(ClassInfo(id=i, name=name, color=color) for i, (name, color) in enumerate(pairs))


class Tally:
    """Counts by kind, each with the place of its first case, so that a thousand cases are one line."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, what: str, where: str = "", *, count: int = 1) -> None:
        """Count cases of a kind, of which the first is at ``where``."""
        if count:
            self._counts[what] = self._counts.get(what, 0) + count
            self._first.setdefault(what, where)

    def lines(self) -> tuple[str, ...]:
        """Return a line per kind: "3 point shapes: they have no area (first: a.json: shape 0)"."""
        return tuple(
            f"{count} {what} (first: {self._first[what]})" if self._first[what] else f"{count} {what}"
            for what, count in self._counts.items()
        )


@dataclass(slots=True, kw_only=True)
class Findings:
    """Problems and counts beside the images, collected while a source is read; the attributes are those of ``Plan``."""

    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    undrawn: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)

    def plan(self, classes: tuple[ClassInfo, ...], items: Iterable[Item]) -> Plan:
        """Return the plan of these classes and images, with what was found beside them."""
        return Plan(
            classes=classes,
            items=tuple(items),
            problems=tuple(self.problems),
            left_out=tuple(self.left_out),
            undrawn=self.undrawn.lines(),
            notes=self.notes.lines(),
        )
