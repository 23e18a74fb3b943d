"""Write the class names into the lower left corner of a picture; a window uses the upper left corner."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects.lettering import FONT, label_of
from edge_runtime.model.contract import ClassInfo
from edge_runtime.segment.segmentation import Segmentation

_ROW_PX = 22  # all sizes here are for a picture of 480 rows
_SWATCH_PX = 14
_PADDING_PX = 8
_LEAST_SHARE = 0.0005
"""Smallest share of the picture at which a class is named; below it, names would flicker with single pixels."""
_LEAST_SIZE_PX = 64
"""Smallest height and width at which names are written; on smaller pictures they would be illegible."""


class Legend:
    """Legend of white class names on a dark, half transparent plate, legible on any picture."""

    def __init__(self) -> None:
        # Keep the last plate, because classes rarely change and drawing text takes longer than painting the classes.
        self._plate: tuple[object, NDArray[np.uint8]] = (None, np.empty((0, 0, 3), np.uint8))

    def draw(self, picture_bgr: NDArray[np.uint8], segmentation: Segmentation) -> None:
        """Draw the legend of the classes in ``segmentation``, except class 0, into (H, W, 3) uint8 BGR pixels."""
        height, width = picture_bgr.shape[:2]
        if min(height, width) < _LEAST_SIZE_PX:
            return
        shares = segmentation.fractions()
        present = tuple(c for c in segmentation.classes if c.id and shares[c.name] >= _LEAST_SHARE)
        if not present:
            return
        key, plate = self._plate  # read once, because another thread may be drawing other classes
        if key != (present, height, width):
            plate = _plate(present, height, width)
            self._plate = ((present, height, width), plate)
        edge = round(_PADDING_PX * _scale(height, width))
        top = max(0, height - edge - plate.shape[0])
        corner = picture_bgr[top : top + plate.shape[0], edge : edge + plate.shape[1]]
        cv2.addWeighted(corner, 0.2, plate[: corner.shape[0], : corner.shape[1]], 0.8, 0, dst=corner)


def _scale(height_px: int, width_px: int) -> float:
    return min(height_px, width_px) / 480


def _plate(classes: tuple[ClassInfo, ...], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return the plate, (h, w, 3) uint8 BGR, in as many columns as needed and no larger than the picture."""
    # Draw at twice the final size, then average, because strokes of OpenCV's fonts are whole pixels wide.
    scale = 2 * _scale(height_px, width_px)
    row, swatch, padding = (max(2, round(px * scale)) for px in (_ROW_PX, _SWATCH_PX, _PADDING_PX))
    font, stroke = 0.5 * scale, max(1, round(scale))
    rows = max(1, (2 * height_px - 4 * padding) // row)
    columns = [classes[i : i + rows] for i in range(0, len(classes), rows)]
    names = {c: label_of(c) for c in classes}
    widths = [max(cv2.getTextSize(names[c], FONT, font, stroke)[0][0] for c in column) for column in columns]
    offsets = np.cumsum([padding, *(w + swatch + 3 * padding for w in widths)])
    plate = np.full((len(columns[0]) * row + padding, int(offsets[-1]) - padding, 3), 24, np.uint8)
    for column, left in zip(columns, offsets, strict=False):
        for index, info in enumerate(column):
            top = padding // 2 + index * row + (row - swatch) // 2
            x = int(left)
            cv2.rectangle(plate, (x, top), (x + swatch, top + swatch), info.color[::-1], -1)
            cv2.rectangle(plate, (x, top), (x + swatch, top + swatch), (200, 200, 200), max(1, stroke // 2))
            start = (x + swatch + padding, top + round(0.87 * swatch))
            cv2.putText(plate, names[info], start, FONT, font, (255, 255, 255), stroke, cv2.LINE_AA)
    shrink = min(0.5, (height_px - 2 * padding) / plate.shape[0], (width_px - 2 * padding) / plate.shape[1])
    size = max(1, round(plate.shape[1] * shrink)), max(1, round(plate.shape[0] * shrink))
    return np.asarray(cv2.resize(plate, size, interpolation=cv2.INTER_AREA), np.uint8)
