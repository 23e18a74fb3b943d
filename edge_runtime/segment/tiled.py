"""Segment pictures much larger than the model's input in overlapping tiles, with bounded memory.

Tiles are processed row by row. The logits of a tile are weighted by a window that decreases towards the tile's edges,
where the model sees least of a pixel's surroundings, and added to those of neighbouring tiles. Once no later tile
overlaps a row of pixels, its logits are converted to class ids. Only the strip that two rows of tiles share is kept.
The picture and its mask are the only arrays of the picture's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.image import MAX_PIXELS
from edge_runtime.model.contract import Contract
from edge_runtime.model.package import Package
from edge_runtime.progress import OnProgress, silent
from edge_runtime.segment.postprocess import class_ids_of
from edge_runtime.segment.preprocess import checked_frame, model_input
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.timing import StageTimes

MAX_TILED_PIXELS = 400_000_000
"""Largest number of pixels of a picture: 400 megapixels are 1.2 GB of BGR and 0.4 GB of mask."""
OVERLAP = 0.5
"""Share of a tile's height and width that the next tile overlaps. One half needs four times as many tiles as no
overlap. More comes only slightly closer to a model that sees the whole picture at once."""
_SIGMA = 1 / 8
_STRIDE_PX = 32
_BAND_PIXELS = 500_000
_MARGIN_PX = 32
"""Rows above and below a band that an effect sees too."""


class TiledSegmenter:
    """Segmenter for pictures of up to 400 megapixels, which it cuts into overlapping tiles.

    Every tile is resized to the model's input, so ``tile_size`` sets the scale of the picture. Choose it so that
    objects are about as large in a tile as in the training images. Several threads may call it at once.

    Example:
        >>> from edge_runtime import Segmenter, TiledSegmenter
        >>> tiled = TiledSegmenter(Segmenter.load(package), tile_size=(48, 64))
        >>> aerial_bgr = np.tile(image_bgr, (4, 4, 1))
        >>> tiled(aerial_bgr).mask.shape
        (192, 256)
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        tile_size: tuple[int, int] | None = None,
        overlap: float = OVERLAP,
        on_progress: OnProgress = silent,
    ) -> None:
        """Wrap a segmenter.

        Args:
            segmenter: Segmenter that runs the model.
            tile_size: (height, width) of a tile in pixels of the picture; None: the size of the model's input.
            overlap: Smallest share of a tile that the next one overlaps, 0 to 0.9. Because tiles are spread evenly,
                the actual overlap is often larger.
            on_progress: Called as ``("tiles", done, total)`` before the first tile of a picture and after each tile.
                An exception that it raises stops the call.

        Raises:
            UsageError: A tile without pixels or of more than 64 megapixels, or an overlap outside its range.
        """
        c = segmenter.contract
        height, width = tile_size or (c.height_px, c.width_px)
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise UsageError(f"tile size is {height}x{width} — expected 1x1 to {MAX_PIXELS // 10**6} megapixels")
        if not 0 <= overlap <= 0.9:
            raise UsageError(f"overlap of tiles is {overlap} — expected 0 to 0.9")
        self._segmenter = segmenter
        self._tile_size = height, width
        self._overlap = overlap
        self._on_progress = on_progress
        self._window = window(c.height_px, c.width_px)[..., np.newaxis]

    @property
    def contract(self) -> Contract:
        """Input size and classes of the model."""
        return self._segmenter.contract

    @property
    def package(self) -> Package | None:
        """The verified package of the model; None for a bare ``.onnx`` file."""
        return self._segmenter.package

    def __call__(self, image_bgr: NDArray[np.uint8], times: StageTimes | None = None) -> Segmentation:
        """Segment one picture; if it is no larger than a tile, it is segmented whole, as by a ``Segmenter``.

        Args:
            image_bgr: As for a ``Segmenter``, up to 400 megapixels. It is not copied; do not change it during the call.
            times: Collects the times of the stages "resize", "inference" and "mask", added up over the tiles.

        Returns:
            The mask at the picture's size.

        Raises:
            InputError: As for a ``Segmenter``, but with a limit of 400 megapixels.
            ModelError, UsageError: As for a ``Segmenter``.
        """
        times = StageTimes() if times is None else times
        frame = checked_frame(image_bgr, max_pixels=MAX_TILED_PIXELS)
        (height, width), (tile_height, tile_width) = frame.shape[:2], self._tile_size
        if height <= tile_height and width <= tile_width:
            self._on_progress("tiles", 0, 1)
            result = self._segmenter(frame, times)
            self._on_progress("tiles", 1, 1)
            return result
        c = self.contract
        rows = Axis.spread(height, tile_height, c.height_px, self._overlap)
        columns = Axis.spread(width, tile_width, c.width_px, self._overlap)
        return self._blended(frame, rows, columns, times)

    def _blended(self, frame: NDArray[np.uint8], rows: Axis, columns: Axis, times: StageTimes) -> Segmentation:
        mask = np.empty((rows.picture, columns.picture), np.uint8)
        row_under, column_under = rows.nearest(), columns.nearest()
        # Weighted logits of the current row of tiles. They need no division by the sum of the weights, because neither
        # the sign of a logit nor the order of a pixel's classes depends on it.
        band = np.zeros((rows.tile, columns.scaled, self.contract.logit_channels), np.float32)
        done, total = 0, len(rows.starts) * len(columns.starts)
        self._on_progress("tiles", done, total)
        for top, below in pairwise((*rows.starts, rows.scaled)):
            for left in columns.starts:
                with times.stage("resize"):
                    tile = self._tile(frame, rows, columns, top, left)
                with times.stage("inference"):
                    logits = self._segmenter.logits_of(tile) * self._window
                    height, width = rows.used(top), columns.used(left)
                    band[:height, left : left + width] += logits[:height, :width]
                done += 1
                self._on_progress("tiles", done, total)
            with times.stage("mask"):
                finished = below - top
                ids = class_ids_of(band[:finished], threshold=0)[:, column_under]
                first, last = np.searchsorted(row_under, (top, below))
                np.take(ids, row_under[first:last] - top, axis=0, out=mask[first:last], mode="clip")
                band[: rows.tile - finished] = band[finished:]
                band[rows.tile - finished :] = 0
        return Segmentation(mask=mask, classes=self.contract.classes)

    def _tile(self, frame: NDArray[np.uint8], rows: Axis, columns: Axis, top: int, left: int) -> NDArray[np.uint8]:
        """Return the model's input for one tile; beyond its edge, the picture is reflected."""
        c = self.contract
        part = frame[rows.part(top), columns.part(left)]
        image = model_input(part, rows.used(top), columns.used(left), c.channels)
        missing = c.height_px - rows.used(top), c.width_px - columns.used(left)
        if any(missing):
            image = np.asarray(cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT), np.uint8)
        return image.reshape(c.height_px, c.width_px, c.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Tiles along the height or width of a picture.

    Attributes:
        picture: Size of the picture in pixels.
        scaled: Size of the picture in pixels at the scale of the model's input.
        tile: Size of a tile in scaled pixels, which is that of the model's input.
        starts: Starts of the tiles in scaled pixels; the last tile may reach beyond the picture.
    """

    picture: int
    scaled: int
    tile: int
    starts: tuple[int, ...]

    @classmethod
    def spread(cls, picture_px: int, tile_px: int, model_px: int, overlap: float) -> Axis:
        """Spread tiles evenly from edge to edge, with the smallest number that gives the overlap.

        Tiles start at multiples of the network's stride, because only for shifts by such multiples does a network
        compute the same result. This matters more than the overlap.

        Args:
            picture_px: Size of the picture in its pixels.
            tile_px: Size of a tile in pixels of the picture.
            model_px: Size of the model's input in pixels, a multiple of its stride, which is a power of two up to 32.
            overlap: Smallest share of a tile that the next one overlaps.
        """
        scaled = max(1, round(picture_px * model_px / tile_px))
        furthest = max(1, math.floor(model_px * (1 - overlap)))
        unit = math.gcd(model_px, _STRIDE_PX)
        while unit > furthest:
            unit //= 2
        free = max(0, math.ceil((scaled - model_px) / unit))
        steps = math.ceil(free / (furthest // unit))
        starts = tuple(unit * round(step * free / steps) for step in range(steps + 1)) if steps else (0,)
        return cls(picture=picture_px, scaled=scaled, tile=model_px, starts=starts)

    def used(self, start: int) -> int:
        """Return the number of scaled pixels of the tile at ``start`` that are inside the picture."""
        return min(self.tile, self.scaled - start)

    def part(self, start: int) -> slice:
        """Return the range of the picture's pixels that the tile at ``start`` covers; never empty."""
        first, last = (round(place * self.picture / self.scaled) for place in (start, start + self.used(start)))
        first = min(first, self.picture - 1)  # if one pixel of the picture covers many of the model
        return slice(first, max(first + 1, last))

    def nearest(self) -> NDArray[np.int64]:
        """Return the index of the scaled pixel at the centre of each pixel of the picture, (picture,) int64."""
        return (2 * np.arange(self.picture, dtype=np.int64) + 1) * self.scaled // (2 * self.picture)


def window(height_px: int, width_px: int) -> NDArray[np.float32]:
    """Return the weights of a tile's pixels, (height_px, width_px) float32 in 0–1: a Gaussian, positive everywhere.

    Reference:
        Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, 2021,
        https://arxiv.org/abs/1904.08128: the standard deviation is an eighth of the tile, the overlap half a tile.
    """
    vertical, horizontal = (
        np.exp(-0.5 * (((np.arange(size) + 0.5) / size - 0.5) / _SIGMA) ** 2) for size in (height_px, width_px)
    )
    return np.outer(vertical, horizontal).astype(np.float32)


def draw_in_bands(
    effect: Callable[[NDArray[np.uint8], Segmentation], NDArray[np.uint8]],
    image_bgr: NDArray[np.uint8],
    segmentation: Segmentation,
) -> NDArray[np.uint8]:
    """Draw an effect over a large picture in place, in bands of rows, without a second picture of its size.

    Use it for effects that depend only on the neighbourhood of a pixel, such as an overlay. An effect that depends on
    the size of its frame, as the width of a contour does, gets the size of a band.

    Args:
        effect: ``(image_bgr, segmentation) -> picture_bgr``, both (H, W, 3) uint8 BGR.
        image_bgr: (H, W, 3) uint8 BGR, writeable; overwritten.
        segmentation: Segmentation of the whole picture.

    Returns:
        ``image_bgr`` itself.
    """
    height, width = image_bgr.shape[:2]
    bands = math.ceil(height * width / _BAND_PIXELS)
    edges = [round(band * height / bands) for band in range(bands + 1)]
    above = image_bgr[:0]  # rows above a band, as before they were overwritten
    for top, bottom in pairwise(edges):
        part = slice(top - len(above), min(height, bottom + _MARGIN_PX))
        alpha = segmentation.alpha
        band = replace(segmentation, mask=segmentation.mask[part], alpha=None if alpha is None else alpha[part])
        picture = effect(np.concatenate([above, image_bgr[top : part.stop]]), band)[len(above) :]
        above = image_bgr[max(top, bottom - _MARGIN_PX) : bottom].copy()
        image_bgr[top:bottom] = picture[: bottom - top]
    return image_bgr
