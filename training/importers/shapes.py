"""Convert polygons, ellipses and run lengths to pixels.

Coordinates are those of all annotation tools: (0, 0) is the corner of the first pixel, its centre is (0.5, 0.5). A
pixel belongs to a shape if its centre is inside, so that shapes neither grow nor shrink and neighbours share no pixel.
OpenCV's ``fillPoly`` would add half a pixel all around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
Extent: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom."""
_MAX_DIGITS = 7
"""Maximum number of digits of a compressed run length, 5 bits each: enough for every readable picture."""
_FLAT_PX = 0.01
"""Mean width below which a polygon is a line: its corners lie on one, but for a rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Pixels of a shape, cropped to the picture.

    Attributes:
        top: First row.
        left: First column.
        inside: (h, w) bool, True inside the shape.
        extent: Extent of the whole shape, before it was cropped; None if it has no area.
    """

    top: int
    left: int
    inside: NDArray[np.bool_]
    extent: Extent | None = None

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.inside))

    def covered_px(self, mask: NDArray[np.uint8]) -> int:
        """Return the number of the region's pixels that are no background in an (H, W) uint8 mask."""
        height, width = self.inside.shape
        return int(np.count_nonzero(mask[self.top : self.top + height, self.left : self.left + width][self.inside]))

    def paint(self, mask: NDArray[np.uint8], class_id: int) -> None:
        """Set the region's pixels of an (H, W) uint8 mask to a class id."""
        height, width = self.inside.shape
        mask[self.top : self.top + height, self.left : self.left + width][self.inside] = class_id


_EMPTY = Region(top=0, left=0, inside=np.zeros((0, 0), np.bool_))


def polygon(points: NDArray[np.float64], size: Size) -> Region:
    """Return the pixels whose centres are inside a polygon, by the even-odd rule where it crosses itself.

    A wire or a crack may be so thin that no centre is inside. If it is at least a pixel long, the pixels under its
    outline are returned, so that it does not vanish.

    Args:
        points: (N, 2) finite x and y of the corners; the last one joins the first.
        size: (height, width) of the picture, to which the polygon is cropped.
    """
    if len(points) < 3:
        return _EMPTY
    filled = _filled(points, size)
    if filled.area_px:
        return filled
    x, y = (points - points[0]).T  # the rounding of a product grows with the distance from (0, 0)
    steps = np.roll(points, -1, axis=0) - points
    area = abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2
    mean_width_px = 2 * area / max(float(np.hypot(*steps.T).sum()), 1e-9)
    if mean_width_px < _FLAT_PX:
        return _EMPTY
    left, top, right, bottom = _extent(points)
    if mean_width_px > 1 or max(right - left, bottom - top) < 1:
        return filled
    # A corner on the right or lower border of a pixel lies in that pixel, not in the next.
    inwards = points + (np.array([left + right, top + bottom]) / 2 - points) * 1e-6
    return replace(_line(np.concatenate([inwards, inwards[:1]]), 1, size), extent=(left, top, right, bottom))


def _filled(points: NDArray[np.float64], size: Size) -> Region:
    height, width = size
    ends = np.stack([points, np.roll(points, -1, axis=0)])
    # Edges run from the upper end down, so that two polygons with a common edge round it alike.
    ends = np.where(ends[:1, :, 1:] <= ends[1:, :, 1:], ends, ends[::-1])
    (x, y), (next_x, next_y) = ends[0].T, ends[1].T
    # Each edge crosses the rows whose centres lie between its ends; every crossing flips the pixels to its right.
    first = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    count = np.clip(np.ceil(next_y - 0.5), 0, height).astype(np.int64) - first
    if not count.any():
        return Region(top=0, left=0, inside=_EMPTY.inside, extent=_extent(points))
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (row + 0.5 - y[edge]) / (next_y - y)[edge]
    column = np.clip(np.ceil(x[edge] + share * (next_x - x)[edge] - 0.5), 0, width).astype(np.int64)
    top, left = int(row.min()), int(column.min())
    shape = int(row.max()) - top + 1, int(column.max()) - left + 1
    flips = np.bincount((row - top) * shape[1] + column - left, minlength=shape[0] * shape[1]).reshape(shape)
    inside = (np.cumsum(flips, axis=1) % 2).astype(np.bool_)[:, :-1]
    return Region(top=top, left=left, inside=inside, extent=_extent(points))


def holed(outline: NDArray[np.float64], holes: Sequence[NDArray[np.float64]], size: Size) -> Region:
    """Return the pixels of a polygon without those of its holes, which are polygons, too."""
    whole = polygon(outline, size)
    if not holes:
        return whole
    canvas = np.zeros(size, np.uint8)
    whole.paint(canvas, 1)
    for hole in holes:
        polygon(hole, size).paint(canvas, 0)
    height, width = whole.inside.shape
    inside = canvas[whole.top : whole.top + height, whole.left : whole.left + width] > 0
    return replace(whole, inside=inside)


def box(left: float, top: float, right: float, bottom: float, size: Size, *, degrees: float = 0) -> Region:
    """Return the pixels of a box that is rotated clockwise about its centre."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    centre = corners.mean(axis=0)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = (corners - centre) @ np.array([(cosine, sine), (-sine, cosine)]) + centre
    return polygon(turned if degrees else corners, size)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, size: Size, *, degrees: float = 0) -> Region:
    """Return the pixels of an ellipse with centre (x, y) that is rotated clockwise."""
    if not (radius_x and radius_y):
        return _EMPTY
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    reach_x, reach_y = math.hypot(radius_x * cosine, radius_y * sine), math.hypot(radius_x * sine, radius_y * cosine)
    extent = (x - reach_x, y - reach_y, x + reach_x, y + reach_y)
    left, top, right, bottom = _pixels(extent, size)
    across = np.arange(left, right)[None, :] + 0.5 - x
    down = np.arange(top, bottom)[:, None] + 0.5 - y
    along = (across * cosine + down * sine) / radius_x
    beside = (down * cosine - across * sine) / radius_y
    return Region(top=top, left=left, inside=along**2 + beside**2 <= 1, extent=extent)


def strip(points: NDArray[np.float64], width_px: int, size: Size) -> Region:
    """Return the pixels of a line through points that is ``width_px`` wide."""
    return _line(points, width_px, size) if len(points) > 1 and np.ptp(points, axis=0).any() else _EMPTY


def pixels(inside: NDArray[np.bool_], size: Size, *, top: int = 0, left: int = 0) -> Region:
    """Return the pixels of a mask whose upper left corner is at (top, left), cropped to the picture.

    Args:
        inside: (h, w) bool, True inside the shape.
        size: (height, width) of the picture.
        top: Row of the mask's first row.
        left: Column of the mask's first column.
    """
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return _EMPTY
    # Only what is inside is kept: objects given as pixels of whole pictures would fill the memory.
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = top + int(rows[0]), left + int(columns[0])
    extent = (float(left), float(top), float(left + inside.shape[1]), float(top + inside.shape[0]))
    inside = inside[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)].copy()
    return Region(top=max(0, top), left=max(0, left), inside=inside, extent=extent)


def _line(points: NDArray[np.float64], width_px: int, size: Size) -> Region:
    left, top, right, bottom = extent = _extent(points)
    around = (left - width_px, top - width_px, right + width_px, bottom + width_px)
    first_x, first_y, last_x, last_y = _pixels(around, size)
    canvas = np.zeros((last_y - first_y, last_x - first_x), np.uint8)
    if canvas.size:
        limit = 4 * max(size)  # OpenCV's fixed-point coordinates overflow far outside
        corners = np.clip(np.floor(points), -limit, limit).astype(np.int32) - np.array([first_x, first_y], np.int32)
        cv2.polylines(canvas, [corners.reshape(-1, 1, 2)], False, (1,), thickness=width_px)
    return Region(top=first_y, left=first_x, inside=canvas.astype(np.bool_), extent=extent)


def _extent(points: NDArray[np.float64]) -> Extent:
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def _pixels(extent: Extent, size: Size) -> tuple[int, int, int, int]:
    """Return the first column and row in the picture, and those behind the last."""
    left, right = (int(np.clip(edge, 0, size[1])) for edge in (math.floor(extent[0]), math.ceil(extent[2])))
    top, bottom = (int(np.clip(edge, 0, size[0])) for edge in (math.floor(extent[1]), math.ceil(extent[3])))
    return left, top, right, bottom


def runs(
    counts: Sequence[Any] | NDArray[np.int64], size: Size, order: Literal["C", "F"], where: str
) -> NDArray[np.bool_]:
    """Return the (height, width) mask of run lengths, whose first run is outside the shape.

    Args:
        counts: Run lengths in pixels.
        size: (height, width) of the mask.
        order: "F" runs down the columns (COCO), "C" along the rows (CVAT).
        where: The annotation, for messages.

    Raises:
        DataError: The lengths are not whole numbers, are negative, or do not add up to the pixels of the mask.
    """
    try:
        lengths = np.asarray(counts, np.float64)
    except (TypeError, ValueError, OverflowError):
        lengths = np.full(1, -1.0)
    total = size[0] * size[1]
    if (
        lengths.ndim != 1
        or not ((lengths >= 0) & (lengths <= total)).all()
        or (lengths % 1).any()
        or lengths.sum() != total
    ):
        raise DataError(
            f"{where} — run lengths of {lengths.sum():.0f} pixels — expected {total} ({size[1]}x{size[0]}) in whole numbers — "
            "export it again"
        )
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths.astype(np.int64))
    return inside.reshape(size) if order == "C" else inside.reshape(size[::-1]).T


def coco_counts(text: str, where: str) -> NDArray[np.int64]:
    """Decode COCO's compressed run lengths.

    A character holds six bits, counted from "0": five bits of a number, the lowest first, and one bit that says whether
    more follow. The highest bit of a number is its sign. From the fourth number on, the difference to the number two
    places before is stored.

    Raises:
        DataError: The text has other characters, or ends in the middle of a number.

    Reference: rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64) - ord("0")
    if not codes.size:
        return np.zeros(0, np.int64)
    is_last = (codes & 32) == 0
    starts = np.flatnonzero(np.concatenate(([True], is_last[:-1])))
    digits = np.diff(np.append(starts, codes.size))
    if ((codes < 0) | (codes > 63)).any() or not is_last[-1] or digits.max() > _MAX_DIGITS:
        raise DataError(
            f"{where} — run lengths that cannot be decoded — expected COCO's compressed form — export it again"
        )
    place = np.arange(codes.size) - np.repeat(starts, digits)
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    values -= np.where(codes[is_last] & 16, 1 << (5 * digits), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return np.asarray(values, np.int64)
