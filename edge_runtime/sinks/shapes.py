"""Convert the class areas of a mask to polygons or to COCO's run-length encoding."""

from __future__ import annotations

from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import ClassInfo


class Rle(TypedDict):
    """Area of a class as COCO's compressed run-length encoding; ``size`` is [height, width]."""

    size: list[int]
    counts: str


def polygons(mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]) -> dict[str, list[list[int]]]:
    """Return the outlines of each class in a mask except class 0, as rings by class name.

    A ring is a flat list [x, y, x, y, …] in pixels of the frame: x to the right, y down, (0, 0) at the centre of the
    first pixel. Its corners are pixels of the class, and its last corner is joined to its first. Outer rings and rings
    of holes are in one list: filling all rings of a class together, even-odd and with their edges as ``cv2.fillPoly``
    does, gives its area. A single pixel is a ring with one corner, a line is a ring with two.

    Args:
        mask: (H, W) uint8 class ids.
        classes: Classes of the ids.
    """
    found: dict[str, list[list[int]]] = {}
    for info in _present(mask, classes):
        area = cv2.inRange(mask, info.id, info.id)
        rings, _ = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        found[info.name] = [np.asarray(ring, np.int32).reshape(-1).tolist() for ring in rings]
    return found


def run_lengths(mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]) -> dict[str, Rle]:
    """Return the area of each class in a mask except class 0, encoded as by ``pycocotools.mask.encode``.

    Runs go down the columns; the first run is outside the class.

    Args:
        mask: (H, W) uint8 class ids.
        classes: Classes of the ids.

    Reference: ``rleEncode`` and ``rleToString``, https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    columns = cv2.transpose(mask).reshape(-1)
    # One pass for all classes finds the runs of equal ids; each class uses its own runs.
    starts = np.concatenate(([0], np.flatnonzero(columns[1:] != columns[:-1]) + 1))
    ends = np.append(starts[1:], columns.size)
    ids = columns[starts]
    found: dict[str, Rle] = {}
    for info in _present(mask, classes):
        own = ids == info.id
        borders = np.column_stack((starts[own], ends[own])).reshape(-1)
        if borders[-1] != columns.size:
            borders = np.append(borders, columns.size)
        counts = _compressed(np.diff(borders, prepend=0))
        found[info.name] = {"size": [mask.shape[0], mask.shape[1]], "counts": counts}
    return found


def _present(mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]) -> list[ClassInfo]:
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).reshape(-1)
    return [info for info in classes if info.id != 0 and counts[info.id]]


def _compressed(counts: NDArray[np.int64]) -> str:
    """Return run lengths as text, five bits per character; from the fourth on, differences to the last but one."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    characters = np.zeros((values.size, 7), np.uint8)  # 7 * 5 bits are enough for any difference of 32-bit lengths
    used = np.zeros((values.size, 7), np.bool_)
    more = np.ones(values.size, np.bool_)
    for position in range(7):
        low = values & 0x1F
        values >>= 5
        used[:, position] = more
        more = more & np.where(low & 0x10, values != -1, values != 0)
        characters[:, position] = low + np.where(more, 0x20, 0) + 48
    return characters[used].tobytes().decode("ascii")
