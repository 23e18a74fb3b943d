"""Define the result for one frame: a mask and its classes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.contract import ClassInfo

_FEW_CLASSES = 16
"""Most classes that are counted one by one: two take a sixth of the time of a histogram, sixteen the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmentation:
    """Segmentation of one frame.

    Attributes:
        mask: (H, W) uint8 class ids at the frame's size.
        classes: Classes of the ids.
        alpha: (H, W) uint8 opacity, 0–255, of all classes but 0; None without soft edges.

    Example:
        >>> from edge_runtime import Segmenter
        >>> result = Segmenter.load(package)(image_bgr)
        >>> result.mask.shape, result.mask.dtype
        ((48, 64), dtype('uint8'))
        >>> print(", ".join(f"{name} {share:.0%}" for name, share in result.fractions().items()))
        background 77%, red 8%, blue 16%
        >>> picture = image_bgr.copy()
        >>> picture[result.where("red")] = 255  # paint it white
    """

    mask: NDArray[np.uint8]
    classes: tuple[ClassInfo, ...]
    alpha: NDArray[np.uint8] | None = None

    def fractions(self) -> dict[str, float]:
        """Return the share of the frame's pixels per class name, 0–1."""
        if len(self.classes) <= _FEW_CLASSES:
            return {c.name: int(np.count_nonzero(self.mask == c.id)) / self.mask.size for c in self.classes}
        counts = cv2.calcHist([self.mask], [0], None, [256], [0, 256]).reshape(-1)
        return {c.name: float(counts[c.id]) / self.mask.size for c in self.classes}

    def where(self, name: str) -> NDArray[np.bool_]:
        """Return the pixels of a class.

        Args:
            name: Name of the class.

        Returns:
            (H, W) bool, True where the mask has the class.

        Raises:
            KeyError: No class has this name.
        """
        ids = {c.name: c.id for c in self.classes}
        if name not in ids:
            raise KeyError(f"no class '{name}' — the model has {', '.join(ids)}")
        return self.mask == ids[name]
