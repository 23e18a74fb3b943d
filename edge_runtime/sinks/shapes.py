"""Class areas of a mask as polygons and as COCO run-length encoding."""

from __future__ import annotations

from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import ClassInfo


class Rle(TypedDict):
    """The area of a class as COCO's compressed run-length encoding; ``size`` is [height, width]."""

    size: list[int]
    counts: str


def polygons(mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]) -> dict[str, list[list[int]]]:
    """Return the outlines of each class that is in a mask, class 0 left out.

    A ring is flat, [x, y, x, y, …], in pixels of the frame, x to the right and y down, (0, 0) the centre of the first
    pixel; its corners are pixels of the class itself, and its last corner is joined to its first. Outer rings and the
    rings of holes stand side by side: filling all rings of a class together, even-odd and with their edges, gives its
    area again, as ``cv2.fillPoly`` does. A single pixel is a ring of one corner, a line one of two.

    Args:
        mask: (H, W) uint8 class ids.
        classes: What the ids mean.
    """
    found: dict[str, list[list[int]]] = {}
    for info in _present(mask, classes):
        area = cv2.inRange(mask, info.id, info.id)
        rings, _ = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        found[info.name] = [np.asarray(ring, np.int32).reshape(-1).tolist() for ring in rings]
    return found


def run_lengths(mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]) -> dict[str, Rle]:
    """Return each class that is in a mask, class 0 left out, as ``pycocotools.mask.encode`` does.

    Runs go down the columns, the first one outside the class.

    Args:
        mask: (H, W) uint8 class ids.
        classes: What the ids mean.

    Reference: ``rleEncode`` and ``rleToString``, https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    columns = cv2.transpose(mask).reshape(-1)
    # One pass for all classes: the runs of equal ids, of which each class takes its own.
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
    """Return run lengths as text: from the fourth on the difference to the last but one, five bits a character."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    characters = np.zeros((values.size, 7), np.uint8)  # 7 * 5 bits hold every difference of 32-bit lengths
    used = np.zeros((values.size, 7), np.bool_)
    more = np.ones(values.size, np.bool_)
    for position in range(7):
        low = values & 0x1F
        values >>= 5
        used[:, position] = more
        more = more & np.where(low & 0x10, values != -1, values != 0)
        characters[:, position] = low + np.where(more, 0x20, 0) + 48
    return characters[used].tobytes().decode("ascii")
