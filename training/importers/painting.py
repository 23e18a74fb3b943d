"""Paint the shapes of an image, and say which of them cover nothing or lie outside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.errors import InputError
from training.importers.shapes import Extent, Region, Size

_SLACK = 0.02
"""Share of a side by which shapes may reach out of the picture they were made for: hands are not steady."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Shape of an object, to be painted once the size of its image is known.

    Attributes:
        where: File and shape, for messages.
        kind: Kind of the shape, such as "polygon", for counts.
        class_id: Class id in the source's order, of any size; None if the shape's pixels are ignored.
        regions: Function that returns the shape's parts for an image of this size; raises InputError.
    """

    where: str
    kind: str
    class_id: int | None
    regions: Callable[[Size], Sequence[Region]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Shapes of an image, from the lowest to the one on top.

    Attributes:
        shapes: Shapes in order.
        largest_first: Whether their sizes decide instead: ignored shapes are the lowest, the smallest is on top.
        are_apart: Whether they should not overlap, so that pixels of several shapes are counted.
    """

    shapes: Sequence[Shape]
    largest_first: bool = False
    are_apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Painted:
    """Mask of a drawing, and what became of its shapes.

    Attributes:
        mask: (H, W) uint8 class ids, or 255.
        problems: Shapes that are faulty and not painted, one line each.
        without_area: Kind and place of each shape that has no area.
        misplaced: Finding and place of each shape that has an area but none in the image, or little of it.
        shapes: Number of shapes that have an area.
        extent: Extent of all shapes together; None if none has an area.
        overlaps: Place of each shape that covers pixels of those before it, and their number, if they are counted.
    """

    mask: NDArray[np.uint8]
    problems: tuple[str, ...]
    without_area: tuple[tuple[str, str], ...]
    misplaced: tuple[tuple[str, str], ...]
    shapes: int
    extent: Extent | None
    overlaps: tuple[tuple[str, int], ...] = ()

    def fits(self, size: Size) -> bool:
        """Tell whether the shapes can be meant for an image of this size."""
        if self.extent is None:
            return not self.problems
        left, top, right, bottom = self.extent
        slack_x, slack_y = (max(2, _SLACK * side) for side in (size[1], size[0]))
        inside = left >= -slack_x and top >= -slack_y and right <= size[1] + slack_x and bottom <= size[0] + slack_y
        return inside and not self.problems


def paint(drawing: Drawing, size: Size) -> Painted:
    """Paint a drawing for an image of this size. A shape that is faulty is left out and named."""
    mask = np.zeros(size, np.uint8)
    problems: list[str] = []
    without_area, misplaced = [], []
    extents: list[Extent] = []
    overlaps: list[tuple[str, int]] = []
    waiting: list[tuple[Shape, Sequence[Region]]] = []
    for shape in drawing.shapes:
        try:
            regions = shape.regions(size)
        except InputError as error:
            problems.append(str(error))
            continue
        own = [region.extent for region in regions if region.extent]
        extents += own
        if not own:
            without_area.append((shape.kind, shape.where))
        elif finding := _misplaced(regions, own, size):
            misplaced.append((f"{shape.kind} shapes {finding}", shape.where))
        if drawing.are_apart and (covered := sum(region.covered_px(mask) for region in regions)):
            overlaps.append((shape.where, covered))
        waiting.append((shape, regions))
        if not drawing.largest_first:
            _paint_all(waiting, mask)  # at once: the pixels of all shapes together may fill the memory
            waiting.clear()
    waiting.sort(key=lambda pair: (pair[0].class_id is not None, -sum(region.area_px for region in pair[1])))
    _paint_all(waiting, mask)
    return Painted(
        mask=mask,
        problems=tuple(problems),
        without_area=tuple(without_area),
        misplaced=tuple(misplaced),
        shapes=len(drawing.shapes) - len(problems) - len(without_area),
        extent=_together(extents) if extents else None,
        overlaps=tuple(overlaps),
    )


def _together(extents: Sequence[Extent]) -> Extent:
    low, high = np.min(extents, axis=0), np.max(extents, axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def _paint_all(shapes: Sequence[tuple[Shape, Sequence[Region]]], mask: NDArray[np.uint8]) -> None:
    for shape, regions in shapes:
        for region in regions:
            region.paint(mask, IGNORE if shape.class_id is None else shape.class_id)


def _misplaced(regions: Sequence[Region], extents: Sequence[Extent], size: Size) -> str | None:
    """Return what is wrong with the place of a shape in its image, or None."""
    if all(min(extent) >= -0.01 and max(extent) <= 1.01 for extent in extents) and any(
        e != (0, 0, 1, 1) for e in extents
    ):
        return "lie in the first pixel, as shares of 1 would"
    if all(_share_inside(extent, size) < 0.5 for extent in extents):
        return "lie mostly outside their image"
    return None if any(region.area_px for region in regions) else "are too small to cover a pixel"


def _share_inside(extent: Extent, size: Size) -> float:
    """Return the share of an extent that lies in the image."""
    left, top, right, bottom = extent
    sides = ((left, right, size[1]), (top, bottom, size[0]))
    share = 1.0
    for low, high, length in sides:
        inside = max(0.0, min(high, length) - max(low, 0.0))
        share *= inside / (high - low) if high > low else float(0 <= low <= length)
    return share
