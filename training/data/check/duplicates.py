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

from edge_runtime.progress import OnProgress, silent

THUMBNAIL_PX = 64
_BLOCK_PX = 8
_DESCRIPTOR_PX = 16
_NEIGHBOURS = 8
"""Largest number of references with which a picture is compared in detail."""
_MAX_SCORES = 1 << 23
"""Maximum number of correlations in memory at a time: 32 MB."""

# Measured on CamVid, whole and worst blocks: frames 1/15 s apart have at most 0.99 and 0.85; copies as JPEG of quality 20,
# halved, doubled, squeezed to 224x224, 15 % brighter or with noise of 10 grey levels have at least 0.98 and 0.92.
_CERTAIN = (0.97, 0.90)
"""Least correlation of the whole and of the worst blocks of copies."""
# Measured on plates photographed again in other light, up to 2 pixels beside: 80 % of them reach it, and no other plates.
_ALIKE = (0.85, 0.60)
"""The same for pictures of one scene: the next frame of a video, the same object photographed again."""
_CANDIDATE = 0.80
_CERTAIN_CANDIDATE = 0.90
"""Least correlation of descriptors."""
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
        variant: Orientation in which the query is the reference, see ``turn``.
        correlation: Correlation of the two thumbnails without slow changes of light, 0–1.
        certain: Whether they are copies; otherwise they are pictures of one scene.
    """

    query: int
    reference: int
    variant: int
    correlation: float
    certain: bool

    @property
    def change(self) -> str:
        """Change of the picture: "", "mirrored", "turned by 90°", "mirrored and turned by 90°" and so on."""
        parts = ["mirrored"] if self.variant >= 4 else []
        parts += [_TURNS[self.variant % 4]] if self.variant % 4 else []
        return " and ".join(parts)


def thumbnail(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (64, 64) uint8 grey levels of an image of any size and shape, (H, W, 3) uint8 BGR."""
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicates(
    queries: Sequence[NDArray[np.uint8]],
    references: Sequence[NDArray[np.uint8]] | None = None,
    *,
    scenes: bool = False,
    on_progress: OnProgress = silent,
) -> list[Match]:
    """Find the most certain copies of each picture.

    Args:
        queries: (64, 64) uint8 thumbnails.
        references: Thumbnails to compare with; None compares each query with the queries before it.
        scenes: Find pictures of one scene, too.
        on_progress: Called with "comparing" and the number of queries done and in all.

    Returns:
        Matches in the order of the queries, at most ``_NEIGHBOURS`` per query, the most certain first.
    """
    others = queries if references is None else references
    if not queries or not others:
        return []
    known = _descriptors(others)
    asked = known if references is None else _descriptors(queries)
    least = _CANDIDATE if scenes else _CERTAIN_CANDIDATE
    matches: list[Match] = []
    start = 0
    while start < len(queries):
        stop = start + max(1, _MAX_SCORES // (8 * len(others)))
        turned = np.stack([turn(descriptor, v) for descriptor in asked[start:stop] for v in range(8)])
        before = known if references is not None else known[: start + len(turned) // 8]
        scores = (turned.reshape(len(turned), -1) @ before.reshape(len(before), -1).T).reshape(-1, 8, len(before))
        for place in np.flatnonzero(scores.max(axis=(1, 2)) >= least):
            query, found = start + int(place), scores[place]
            usable = found if references is not None else found[:, :query]
            matches += _judge(query, queries[query], others, usable, least)
        start = min(stop, len(queries))
        on_progress("comparing", start, len(queries))
    return matches


def turn(picture: NDArray[_Pixel], variant: int) -> NDArray[_Pixel]:
    """Return a picture, (H, W) or (H, W, C), in one of its eight orientations; variant 0 leaves it unchanged."""
    return np.rot90(picture[:, ::-1] if variant >= 4 else picture, variant % 4)


def correlations(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the correlations of two thumbnails without slow changes of light: of the whole, and of the worst blocks.

    The second is the mean of the three worst blocks. Blocks without texture are left out; if too few others remain, both
    are 0. Overexposed blocks are left out if enough others remain, because a copy that was made brighter has lost their
    content.
    """
    a, b = (_blocks(_texture(thumb)) for thumb in (one, other))
    energy_a, energy_b = (a**2).mean(axis=1), (b**2).mean(axis=1)
    textured = np.maximum(energy_a, energy_b) > _TEXTURE**2
    dark_enough = textured & (np.maximum(_blocks(one).max(axis=1), _blocks(other).max(axis=1)) <= _WHITE)
    used = dark_enough if 4 * dark_enough.sum() >= max(textured.sum(), 4 * _MIN_BLOCKS) else textured
    if used.sum() < _MIN_BLOCKS:
        return 0.0, 0.0
    products = (a * b).mean(axis=1)
    whole = float(products[used].sum() / np.sqrt(energy_a[used].sum() * energy_b[used].sum()))
    worst = float(np.sort(products[used] / np.sqrt(energy_a[used] * energy_b[used] + 1e-9))[:3].mean())
    return whole, worst


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
    query: int,
    thumb: NDArray[np.uint8],
    references: Sequence[NDArray[np.uint8]],
    scores: NDArray[np.float32],
    least: float,
) -> list[Match]:
    """Compare a query with its few most similar references; ``scores`` is (8, references), a row per orientation."""
    best = scores.max(axis=0, initial=0)
    alike = np.flatnonzero(best >= least)
    found = []
    for reference in alike[np.argsort(-best[alike], kind="stable")[:_NEIGHBOURS]].tolist():
        tried = [
            (*correlations(turn(thumb, variant), references[reference]), variant)
            for variant in np.flatnonzero(scores[:, reference] >= least).tolist()
        ]
        # Unchanged orientations come first, and win if a picture is symmetrical.
        whole, worst, variant = max(tried, key=lambda c: (round(c[0], 3), -c[2]))
        certain = whole >= _CERTAIN[0] and worst >= _CERTAIN[1]
        if certain or (least == _CANDIDATE and whole >= _ALIKE[0] and worst >= _ALIKE[1]):
            found.append(Match(query=query, reference=reference, variant=variant, correlation=whole, certain=certain))
    return sorted(found, key=lambda match: (not match.certain, -match.correlation))


def _blocks(pixels: NDArray[_Pixel]) -> NDArray[_Pixel]:
    """Return (64, 64), the 64 pixels of each of the 64 blocks of a (64, 64) picture."""
    count = THUMBNAIL_PX // _BLOCK_PX
    return pixels.reshape(count, _BLOCK_PX, count, _BLOCK_PX).swapaxes(1, 2).reshape(count**2, -1)
