"""Find copies of pictures: candidates by a small descriptor, then a comparison of thumbnails block by block.

A copy may have been encoded again, resized, made a little brighter or darker, mirrored or rotated by quarter turns. Two
video frames that differ by a passer-by are not copies, although nearly every pixel agrees. Thumbnails are therefore
compared by their worst blocks and not only as a whole. Slow changes of light are removed first, because vignetting and
white paper make any two pictures of a series alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 64
_BLOCK_PX = 8
_DESCRIPTOR_PX = 16
_NEIGHBOURS = 4
_MAX_SCORES = 1 << 23
"""Maximum number of correlations in memory at a time: 32 MB."""

# Measured on CamVid, whole and worst blocks: frames 1/15 s apart have at most 0.99 and 0.85; copies as JPEG of quality 20,
# halved, doubled, squeezed to 224x224, 15 % brighter or with noise of 10 grey levels have at least 0.98 and 0.92.
_ALIKE = 0.90
_CERTAIN = 0.97
_CERTAIN_BLOCKS = 0.90
_TEXTURE = 2.0
"""Contrast of a block in grey levels (root mean square) below which it cannot tell two pictures apart."""
_MIN_BLOCKS = 4
_WHITE = 250
"""Grey level above which a block may be overexposed."""

_Pixel = TypeVar("_Pixel", np.uint8, np.float32)
_TURNS = ("", "turned by 90°", "turned by 180°", "turned by 270°")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Pair of pictures that are copies.

    Attributes:
        query: Index of the picture among the queries.
        reference: Index of the other picture among the references.
        change: Change of the picture: "", "mirrored", "turned by 90°", "mirrored and turned by 90°", …
        correlation: Correlation of the two thumbnails without slow changes of light, 0–1.
    """

    query: int
    reference: int
    change: str
    correlation: float


def thumbnail(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (64, 64) uint8 grey levels of an image of any size and shape, (H, W, 3) uint8 BGR."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicates(
    queries: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]] | None = None
) -> list[Match]:
    """Find the most certain copy of each picture.

    Args:
        queries: (64, 64) uint8 thumbnails.
        references: Thumbnails to compare with; None compares each query with the queries before it.

    Returns:
        At most one match per query, in their order.
    """
    others = queries if references is None else references
    if not queries or not others:
        return []
    known = _descriptors(others)
    asked = known if references is None else _descriptors(queries)
    chunk = max(1, _MAX_SCORES // (8 * len(others)))
    matches = []
    for start in range(0, len(queries), chunk):
        turned = np.stack([turn(descriptor, v) for descriptor in asked[start : start + chunk] for v in range(8)])
        scores = (turned.reshape(len(turned), -1) @ known.reshape(len(known), -1).T).reshape(-1, 8, len(known))
        for query, found in enumerate(scores, start=start):
            if references is None:
                found[:, query:] = 0
            match = _judge(query, queries[query], others, found)
            if match is not None:
                matches.append(match)
    return matches


def turn(picture: NDArray[_Pixel], variant: int) -> NDArray[_Pixel]:
    """Return a picture, (H, W) or (H, W, C), in one of its eight orientations; variant 0 leaves it unchanged."""
    return np.rot90(picture[:, ::-1] if variant >= 4 else picture, variant % 4)


def correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the correlation of two thumbnails without slow changes of light; 0 unless they are certainly copies.

    Both the whole and the mean of the three worst blocks must agree. Blocks without texture are left out; if too few
    others remain, the result is 0. Overexposed blocks are left out if enough others remain, because a copy that was
    made brighter has lost their content.
    """
    a, b = (_blocks(_texture(thumb)) for thumb in (one, other))
    energy_a, energy_b = (a**2).mean(axis=1), (b**2).mean(axis=1)
    textured = np.maximum(energy_a, energy_b) > _TEXTURE**2
    dark_enough = textured & (np.maximum(_blocks(one).max(axis=1), _blocks(other).max(axis=1)) <= _WHITE)
    used = dark_enough if 4 * dark_enough.sum() >= max(textured.sum(), 4 * _MIN_BLOCKS) else textured
    if used.sum() < _MIN_BLOCKS:
        return 0.0
    products = (a * b).mean(axis=1)
    whole = float(products[used].sum() / np.sqrt(energy_a[used].sum() * energy_b[used].sum()))
    worst = float(np.sort(products[used] / np.sqrt(energy_a[used] * energy_b[used] + 1e-9))[:3].mean())
    return whole if whole >= _CERTAIN and worst >= _CERTAIN_BLOCKS else 0.0


def _texture(thumb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (64, 64) float32: a thumbnail without pixel noise and without slow changes of light."""
    smooth = cv2.GaussianBlur(np.ascontiguousarray(thumb, np.float32), (0, 0), 1)
    return np.asarray(smooth - cv2.GaussianBlur(smooth, (0, 0), 4), np.float32)


def _descriptors(thumbs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return the textures at 16x16, (N, 16, 16) float32, scaled to length 1, or all 0 for a blank picture."""
    side, step = _DESCRIPTOR_PX, THUMBNAIL_PX // _DESCRIPTOR_PX
    found = np.empty((len(thumbs), side, side), np.float32)
    for descriptor, thumb in zip(found, thumbs, strict=True):
        small = _texture(thumb).reshape(side, step, side, step).mean(axis=(1, 3))
        length = np.linalg.norm(small)
        descriptor[:] = small / length if length > 1e-3 else 0
    return found


def _judge(
    query: int, thumb: NDArray[np.uint8], references: Sequence[NDArray[np.uint8]], scores: NDArray[np.float32]
) -> Match | None:
    """Compare a query with its few most similar references; ``scores`` is (8, references), a row per orientation."""
    flat = scores.reshape(-1)
    if flat.max() < _ALIKE:
        return None
    closest = np.argpartition(flat, -min(_NEIGHBOURS, len(flat)))[-_NEIGHBOURS:]
    best: Match | None = None
    for place in sorted(closest.tolist()):  # unchanged orientations come first, and win if a picture is symmetrical
        variant, reference = divmod(place, scores.shape[1])
        found = correlation(turn(thumb, variant), references[reference]) if flat[place] >= _ALIKE else 0.0
        if found > (best.correlation + 1e-3 if best else 0.0):
            best = Match(query=query, reference=reference, change=_change(variant), correlation=found)
    return best


def _change(variant: int) -> str:
    parts = ["mirrored"] if variant >= 4 else []
    parts += [_TURNS[variant % 4]] if variant % 4 else []
    return " and ".join(parts)


def _blocks(pixels: NDArray[_Pixel]) -> NDArray[_Pixel]:
    """Return (64, 64), the 64 pixels of each of the 64 blocks of a (64, 64) picture."""
    count = THUMBNAIL_PX // _BLOCK_PX
    return pixels.reshape(count, _BLOCK_PX, count, _BLOCK_PX).swapaxes(1, 2).reshape(count**2, -1)
