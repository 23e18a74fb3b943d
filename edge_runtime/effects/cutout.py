"""Cut the foreground out of a frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.segment.segmentation import Segmentation


def cutout(image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return the frame as (H, W, 4) uint8 BGRA with class 0 transparent, and soft edges if the result has them."""
    picture = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2BGRA), np.uint8)
    alpha = segmentation.alpha
    hard = cv2.threshold(segmentation.mask, 0, 255, cv2.THRESH_BINARY)[1] if alpha is None else alpha
    cv2.insertChannel(hard, picture, 3)
    return picture
