"""Convert polygons, ellipses and run lengths to pixels.

Coordinates are those of all annotation tools: (0, 0) is the corner of the first pixel, its centre is (0.5, 0.5). A
pixel belongs to a shape if its centre is inside, so that shapes neither grow nor shrink and neighbours share no pixel.
OpenCV's ``fillPoly`` would add half a pixel all around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from training.errors import DataError
from training.importers.plan import Size

_MAX_DIGITS = 7
"""Maximum number of digits of a compressed run length, 5 bits each: enough for every readable picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Pixels of a shape, cropped to the picture.

    Attributes:
        top: First row.
        left: First column.
        inside: (h, w) bool, True inside the shape.
    """

    top: int
    left: int
    inside: NDArray[np.bool_]

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.inside))

    def paint(self, mask: NDArray[np.uint8], class_id: int) -> None:
        """Set the region's pixels of an (H, W) uint8 mask to a class id."""
        height, width = self.inside.shape
        mask[self.top : self.top + height, self.left : self.left + width][self.inside] = class_id


def polygon(points: NDArray[np.float64], size: Size) -> Region:
    """Return the pixels whose centres are inside a polygon, by the even-odd rule where it crosses itself.

    Args:
        points: (N, 2) finite x and y of the corners; the last one joins the first.
        size: (height, width) of the picture, to which the polygon is cropped.
    """
    height, width = size
    ends = np.stack([points, np.roll(points, -1, axis=0)])
    # Edges run from the upper end down, so that two polygons with a common edge round it alike.
    ends = np.where(ends[:1, :, 1:] <= ends[1:, :, 1:], ends, ends[::-1])
    (x, y), (next_x, next_y) = ends[0].T, ends[1].T
    # Each edge crosses the rows whose centres lie between its ends; every crossing flips the pixels to its right.
    first = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    count = np.clip(np.ceil(next_y - 0.5), 0, height).astype(np.int64) - first
    if not count.any():
        return Region(top=0, left=0, inside=np.zeros((0, 0), np.bool_))
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (row + 0.5 - y[edge]) / (next_y - y)[edge]
    column = np.clip(np.ceil(x[edge] + share * (next_x - x)[edge] - 0.5), 0, width).astype(np.int64)
    top, left = int(row.min()), int(column.min())
    shape = int(row.max()) - top + 1, int(column.max()) - left + 1
    flips = np.bincount((row - top) * shape[1] + column - left, minlength=shape[0] * shape[1]).reshape(shape)
    return Region(top=top, left=left, inside=(np.cumsum(flips, axis=1) % 2).astype(np.bool_)[:, :-1])


def box(left: float, top: float, right: float, bottom: float, size: Size, *, degrees: float = 0) -> Region:
    """Return the pixels of a box that is rotated clockwise about its centre."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    centre = corners.mean(axis=0)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = (corners - centre) @ np.array([(cosine, sine), (-sine, cosine)]) + centre
    return polygon(turned if degrees else corners, size)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, size: Size, *, degrees: float = 0) -> Region:
    """Return the pixels of an ellipse with centre (x, y) that is rotated clockwise."""
    reach = max(abs(radius_x), abs(radius_y))
    top, bottom = (int(np.clip(edge, 0, size[0])) for edge in (math.floor(y - reach), math.ceil(y + reach)))
    left, right = (int(np.clip(edge, 0, size[1])) for edge in (math.floor(x - reach), math.ceil(x + reach)))
    if not (radius_x and radius_y):
        return Region(top=0, left=0, inside=np.zeros((0, 0), np.bool_))
    across = np.arange(left, right)[None, :] + 0.5 - x
    down = np.arange(top, bottom)[:, None] + 0.5 - y
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along = (across * cosine + down * sine) / radius_x
    beside = (down * cosine - across * sine) / radius_y
    return Region(top=top, left=left, inside=along**2 + beside**2 <= 1)


def strip(points: NDArray[np.float64], width_px: int, size: Size) -> Region:
    """Return the pixels of a line through points that is ``width_px`` wide."""
    limit = 4 * max(size)  # OpenCV's fixed-point coordinates overflow far outside
    corners = np.clip(np.floor(points), -limit, limit).astype(np.int32)
    canvas = np.zeros(size, np.uint8)
    cv2.polylines(canvas, [corners.reshape(-1, 1, 2)], False, (1,), thickness=width_px)
    return Region(top=0, left=0, inside=canvas.astype(np.bool_))


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
