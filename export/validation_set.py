"""Hold validation images and their true masks in memory, so that many graphs can be compared on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import read_pair
from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.metrics import confusion_matrix
from edge_runtime.dataset.pairs import Pair
from edge_runtime.dataset.sampling import spread
from edge_runtime.errors import InputError
from edge_runtime.model.contract import Contract
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask

MAX_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSet:
    """Images and true masks of a validation split.

    Attributes:
        images: Inputs of the model, (height_px, width_px, channels) uint8 each.
        truths: (H, W) uint8 class ids or ``IGNORE`` each, at the size of the original image.
        classes: Number of classes.
    """

    images: tuple[NDArray[np.uint8], ...]
    truths: tuple[NDArray[np.uint8], ...]
    classes: int

    @classmethod
    def read(cls, pairs: Sequence[Pair], key: LabelKey, contract: Contract) -> ValidationSet:
        """Read a split, or as many of its images, spread evenly, as fit into ``MAX_BYTES``.

        Raises:
            InputError: The split is empty, or a file cannot be read.
        """
        if not pairs:
            raise InputError("validation split — no images in it — export compares on them — train with some")

        def read(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            image_bgr, truth = read_pair(pair, key)
            frame = checked_frame(image_bgr)
            return model_input(frame, contract.height_px, contract.width_px, contract.channels), truth

        number = MAX_BYTES // sum(array.nbytes for array in read(pairs[0]))
        examples = [read(pair) for pair in spread(pairs, max(1, number))]
        images, truths = zip(*examples, strict=True)
        return cls(images=images, truths=truths, classes=len(contract.classes))

    def matrix(self, masks: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
        """Return the confusion matrix, (classes, classes) int64, of one mask per image, class ids at the model's size."""
        total = np.zeros((self.classes, self.classes), np.int64)
        for mask, truth in zip(masks, self.truths, strict=True):
            total += confusion_matrix(truth, resize_mask(mask, *truth.shape), self.classes)
        return total

    def thinned(self, number: int) -> ValidationSet:
        """Return at most ``number`` of the images, spread evenly."""
        return ValidationSet(
            images=tuple(spread(self.images, number)),
            truths=tuple(spread(self.truths, number)),
            classes=self.classes,
        )
