"""Convert pictures of any size, with or without alpha, to BGR of one size, for a stream of pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


class Canvas:
    """Converter of pictures to BGR at the size of the first one; not thread-safe, because it reuses its buffers."""

    def __init__(self, *, even: bool = False) -> None:
        """Prepare; ``even`` reduces an odd size by one pixel, for formats with one colour per two pixels."""
        self._even = even
        self.size = (0, 0)
        self._opaque = np.empty(0, np.uint8)
        self._alpha = np.empty(0, np.uint8)

    def paint(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture as contiguous (H, W, 3) uint8 BGR at the size of the first one, ``size``.

        Args:
            picture: (H, W, 3) BGR, or (H, W, 4) BGRA, which is blended with black; uint8.

        Returns:
            The picture itself if it needed no change; otherwise an array that the next call overwrites.
        """
        height, width = picture.shape[:2]
        if self.size == (0, 0):
            self.size = (max(2, height - height % 2), max(2, width - width % 2)) if self._even else (height, width)
        if (height, width) != self.size:
            picture = np.asarray(cv2.resize(picture, self.size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        return self._on_black(picture) if picture.shape[2] == 4 else np.ascontiguousarray(picture)

    def _on_black(self, picture_bgra: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._opaque.size == 0:
            self._opaque, self._alpha = np.empty((*self.size, 3), np.uint8), np.empty((*self.size, 3), np.uint8)
        cv2.mixChannels([picture_bgra], [self._opaque, self._alpha], [0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 3, 5])
        cv2.multiply(self._opaque, self._alpha, self._opaque, 1 / 255)
        return self._opaque
