"""Count the flicker of a video's masks: class changes where the image itself does not change."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_STILL_LEVELS = 3.0
"""Change of a pixel's surroundings, in grey levels, below which the pixel stands still."""
_SIGMA_PX = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlickerCounts:
    """Pixels that stood still from one frame to the next, and those whose class changed; add them up over a video.

    Attributes:
        still: Pixels that stood still between two frames.
        changed: Still pixels whose class changed.
        still_twice: Pixels that stood still over three frames.
        returned: Pixels of ``still_twice`` whose class changed and changed back (A-B-A).
    """

    still: int = 0
    changed: int = 0
    still_twice: int = 0
    returned: int = 0

    def __add__(self, other: FlickerCounts) -> FlickerCounts:
        return FlickerCounts(
            still=self.still + other.still,
            changed=self.changed + other.changed,
            still_twice=self.still_twice + other.still_twice,
            returned=self.returned + other.returned,
        )

    @property
    def changed_per_mille(self) -> float:
        """Class changes per 1,000 still pixels; 0 if nothing stood still."""
        return 1000 * self.changed / self.still if self.still else 0.0

    @property
    def returned_per_mille(self) -> float:
        """Changes and changes back per 1,000 still pixels; 0 if nothing stood still."""
        return 1000 * self.returned / self.still_twice if self.still_twice else 0.0


class FlickerMeter:
    """Counter of the flicker of one video, frame by frame."""

    def __init__(self) -> None:
        self.counts = FlickerCounts()
        self._images: deque[NDArray[np.uint8]] = deque(maxlen=1)
        self._masks: deque[NDArray[np.uint8]] = deque(maxlen=2)
        self._still: NDArray[np.bool_] | None = None

    def add(self, mask: NDArray[np.uint8], image_bgr: NDArray[np.uint8]) -> None:
        """Add the class ids, (H, W) uint8, and the image, (H, W, 3) uint8 BGR, of the next frame; all have one size."""
        if self._images:
            still = picture_change(self._images[-1], image_bgr) < _STILL_LEVELS
            changed = (self._masks[-1] != mask) & still
            self.counts += FlickerCounts(still=int(still.sum()), changed=int(changed.sum()))
            if self._still is not None:
                twice = still & self._still
                returned = changed & twice & (self._masks[-2] == mask)
                self.counts += FlickerCounts(still_twice=int(twice.sum()), returned=int(returned.sum()))
            self._still = still
        self._images.append(image_bgr)
        self._masks.append(mask)


def picture_change(before_bgr: NDArray[np.uint8], now_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the change around each pixel in grey levels, (H, W) float32.

    Both (H, W, 3) uint8 frames are blurred first, which averages noise out. A change of the whole image, such as a
    camera's exposure, is subtracted.
    """
    before, now = (
        cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32), (0, 0), _SIGMA_PX)
        for image in (before_bgr, now_bgr)
    )
    change = now - before
    change -= np.median(change)
    return np.asarray(np.abs(change), np.float32)
