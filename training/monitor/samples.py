"""Validation images to judge by eye: the picture, its true mask, the prediction and the wrong pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import SegmentFrame
from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import Pair
from edge_runtime.effects import marked_pixels, overlay_of_mask
from edge_runtime.image import read_image
from edge_runtime.model.contract import ClassInfo
from edge_runtime.segment.preprocess import resize_mask

ReadTruth = Callable[[Pair], NDArray[np.uint8]]
"""Function that reads the mask of a pair as (H, W) uint8 class ids, or ``IGNORE``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Image with its true mask and a prediction, all of one size.

    Attributes:
        name: Stem of the file.
        image_bgr: (H, W, 3) uint8.
        truth: (H, W) uint8 class ids, or ``IGNORE``.
        prediction: (H, W) uint8 class ids.
    """

    name: str
    image_bgr: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]

    def painted_truth(self, classes: tuple[ClassInfo, ...]) -> NDArray[np.uint8]:
        """Return the image with its true classes drawn over it; ignored pixels are dark."""
        return overlay_of_mask(self.image_bgr, self.truth, classes)

    def painted_prediction(self, classes: tuple[ClassInfo, ...]) -> NDArray[np.uint8]:
        """Return the image with the predicted classes drawn over it."""
        return overlay_of_mask(self.image_bgr, self.prediction, classes)

    def errors(self) -> NDArray[np.uint8]:
        """Return the darkened image with wrong pixels in red, (H, W, 3) uint8 BGR."""
        return marked_pixels(self.image_bgr, (self.prediction != self.truth) & (self.truth != IGNORE))


def read_samples(
    pairs: Iterable[Pair], read_truth: ReadTruth, segment: SegmentFrame, *, longest_px: int | None = None
) -> Iterator[Sample]:
    """Read pairs one by one and segment them at their own size.

    Args:
        pairs: Pairs to read.
        read_truth: Function that reads the mask of a pair.
        segment: Function of (H, W, 3) uint8 BGR that returns (H, W) uint8 class ids.
        longest_px: Maximum of a sample's longer side in pixels; larger samples are scaled down. None keeps their size.

    Raises:
        InputError: A file cannot be read.
    """
    for pair in pairs:
        image_bgr = read_image(pair.image)
        sample = Sample(name=pair.stem, image_bgr=image_bgr, truth=read_truth(pair), prediction=segment(image_bgr))
        yield sample if longest_px is None else _shrunk(sample, longest_px)


def _shrunk(sample: Sample, longest_px: int) -> Sample:
    height_px, width_px = sample.truth.shape
    scale = longest_px / max(height_px, width_px)
    if scale >= 1:
        return sample
    height_px, width_px = max(1, round(height_px * scale)), max(1, round(width_px * scale))
    return Sample(
        name=sample.name,
        image_bgr=np.asarray(
            cv2.resize(sample.image_bgr, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8
        ),
        truth=resize_mask(sample.truth, height_px, width_px),
        prediction=resize_mask(sample.prediction, height_px, width_px),
    )
