"""Tell copies of one picture from pictures of one place: a camera that does not move, or woven cloth.

Thumbnails cannot see a small defect. Where two pictures look alike, their files are therefore read again and compared
where their masks differ: an object that only one of the pictures shows makes them two pictures.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE, LabelKey
from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError
from edge_runtime.image import read_image
from training.data.check.duplicates import turn
from training.data.dataset import read_class_ids

Likeness: TypeAlias = Literal["copy", "no object", "other masks", "one place"]
"""What two pictures that look alike are: copies with the same objects; of one class alone, both; alike, with masks of other
objects; or pictures of one place, one of which shows an object that the other does not."""

_LONGEST_PX = 1024
"""Longest side at which pictures are compared."""
_NEAR_PX = 2
"""Distance in pixels within which the borders of an object differ by resampling alone."""
_SHARED = 0.5
"""Share of each class's pixels that masks of the same objects have in common."""
_DETAIL_PX = 8
"""Standard deviation in pixels of the blur that is subtracted to compare details."""
# Measured on photographs saved again at JPEG qualities from 20, scaled, in other light or moved by a pixel: objects whose
# outlines were drawn anew differ at most 1.3 times as much as the rest; a spot 5 grey levels above noise 2.7 times.
_OUTSIDE = 2.0
_LEVEL = 0.5
"""Difference in grey levels below which pictures do not differ."""
_RELATIVE = 0.2
"""Difference in shares of the details themselves below which pictures do not differ: compression changes strong ones more."""
_SMALLEST = 8
"""Number of pixels below which a difference of two masks is no object."""
_CACHED = 64

_Scene: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Comparison:
    """Compares pairs of a dataset; the last files that were read are kept."""

    def __init__(self, key: LabelKey) -> None:
        self._key = key
        self._read = lru_cache(maxsize=_CACHED)(self._scene)

    def likeness(self, one: Pair, other: Pair, variant: int) -> Likeness:
        """Return what two pictures that look alike are.

        Args:
            one: A pair, which is turned.
            other: The pair with which it is compared.
            variant: Orientation in which the first is the other, see ``turn``.
        """
        try:
            (image, ids), (other_image, other_ids) = self._read(one), self._read(other)
        except InputError:  # it is among the problems of the file
            return "copy"
        image, ids = turn(image, variant), turn(ids, variant)
        size = min(ids.shape, other_ids.shape, key=lambda shape: shape[0] * shape[1])
        mask, other_mask = _mask_at(size, ids), _mask_at(size, other_ids)
        classes = [set(np.unique(x[x != IGNORE]).tolist()) for x in (mask, other_mask)]
        if classes[0] == classes[1] and len(classes[0]) < 2:
            return "no object"
        unequal = (mask != other_mask) & (mask != IGNORE) & (other_mask != IGNORE)
        if unequal.any() and _differ(_details_at(size, image), _details_at(size, other_image), unequal):
            return "one place"
        return "copy" if _share_objects(mask, other_mask) else "other masks"

    def _scene(self, pair: Pair) -> _Scene:
        """Return an image as (H, W) uint8 grey levels, and its mask as (H, W) uint8 class ids, made smaller if large."""
        grey = cv2.cvtColor(read_image(pair.image), cv2.COLOR_BGR2GRAY)
        ids = read_class_ids(pair, self._key)
        scale = min(1.0, _LONGEST_PX / max(ids.shape))
        size = max(1, round(scale * ids.shape[0])), max(1, round(scale * ids.shape[1]))
        return _resized(size, np.asarray(grey, np.uint8), cv2.INTER_AREA), _mask_at(size, ids)


def _resized(size: tuple[int, ...], picture: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    """Return a picture at a size, (height, width)."""
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=interpolation), np.uint8)


def _mask_at(size: tuple[int, ...], ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _resized(size, ids, cv2.INTER_NEAREST)


def _details_at(size: tuple[int, ...], grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the details of grey levels at a size, (H, W) float32: without noise and without slow changes of light."""
    smooth = cv2.GaussianBlur(_resized(size, grey, cv2.INTER_AREA).astype(np.float32), (0, 0), 1)
    return np.asarray(smooth - cv2.GaussianBlur(smooth, (0, 0), _DETAIL_PX), np.float32)


def _alone(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (H, W) where a mask has a class that the other has nowhere near; ignored pixels are left out."""
    square = np.ones((2 * _NEAR_PX + 1,) * 2, np.uint8)
    found = np.zeros(one.shape, np.bool_)
    for a, b in ((one, other), (other, one)):
        for value in np.unique(a[(a != b) & (a != IGNORE)]):
            near = cv2.dilate(np.isin(b, (value, IGNORE)).astype(np.uint8), square).astype(np.bool_)
            found |= (a == value) & ~near
    return found


def _share_objects(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Tell whether each mask shows the classes of the other, mostly in the same places."""
    alone = _alone(one, other)
    return all(
        (alone & (mask == value)).sum() <= (1 - _SHARED) * (mask == value).sum()
        for mask in (one, other)
        for value in np.unique(mask[alone])
    )


def _differ(one: NDArray[np.float32], other: NDArray[np.float32], where: NDArray[np.bool_]) -> bool:
    """Tell whether the details of two pictures, (H, W), differ in a place of ``where`` more than elsewhere, whatever the light."""
    square = np.ones((4 * _NEAR_PX + 1,) * 2, np.uint8)
    far = cv2.dilate(where.astype(np.uint8), square) == 0
    if not far.any():
        return False
    gain = (one[far] * other[far]).sum() / max(1e-6, float((other[far] ** 2).sum()))
    difference = np.abs(one - gain * other)
    strength = np.maximum(np.abs(one), np.abs(gain * other))
    usual = np.maximum(_OUTSIDE * np.percentile(difference[far], 99) + _LEVEL, _RELATIVE * strength)
    _, places = cv2.connectedComponents(where.astype(np.uint8))
    sizes = np.bincount(places.reshape(-1))
    unusual = np.bincount(places[difference > usual], minlength=len(sizes))
    return bool(((2 * unusual > sizes) & (sizes >= _SMALLEST))[1:].any())
