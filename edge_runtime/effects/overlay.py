"""Paint classes over a frame, a mask in the colours of its classes, and marked pixels in red."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects.blend import Scratch, line_px, mix
from edge_runtime.effects.legend import Legend
from edge_runtime.errors import UsageError
from edge_runtime.model.contract import ClassInfo
from edge_runtime.segment.segmentation import Segmentation

MARK_BGR = (60, 60, 255)
"""BGR colour of ``marked_pixels``, a red."""


class Overlay:
    """Effect that paints all classes but 0 over the frame in their colours, with a solid contour."""

    def __init__(self, opacity: float = 0.5, *, legend: bool = False) -> None:
        """Set the opacity of the colours, 0–1, and whether to write the names of the classes.

        Raises:
            UsageError: The opacity is not a number from 0 to 1.
        """
        if not 0 <= opacity <= 1:
            raise UsageError(f"opacity is {opacity} — expected 0 (contours alone) to 1 (solid)")
        self.opacity = opacity
        self._legend = Legend() if legend else None
        self._scratch = Scratch()

    def __call__(self, image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        """Paint the classes of ``segmentation`` over a copy of ``image_bgr``, (H, W, 3) uint8 BGR."""
        picture = image_bgr.copy()
        mask, alpha = segmentation.mask, segmentation.alpha
        ids = mask if alpha is None else self._reached(mask)
        left, top, width, height = cv2.boundingRect(ids)
        if width:
            # Work only on the painted region and the margin that its contours need.
            margin = line_px(mask)
            part = (
                slice(max(0, top - margin), top + height + margin),
                slice(max(0, left - margin), left + width + margin),
            )
            if alpha is None:
                self._paint(picture[part], ids[part], segmentation.classes, margin)
            else:
                self._paint_soft(picture[part], ids[part], alpha[part], segmentation.classes, margin)
        if self._legend is not None:
            self._legend.draw(picture, segmentation)
        return picture

    def _paint(
        self, picture: NDArray[np.uint8], ids: NDArray[np.uint8], classes: tuple[ClassInfo, ...], line: int
    ) -> None:
        array = self._scratch.array
        colors = cv2.applyColorMap(ids, _table(classes), dst=array("colors", picture.shape))
        blended = array("blended", picture.shape)
        cv2.addWeighted(picture, 1 - self.opacity, colors, self.opacity, 0, dst=blended)
        painted = array("painted", ids.shape)
        cv2.threshold(ids, 0, 255, cv2.THRESH_BINARY, dst=painted)
        cv2.copyTo(blended, painted, picture)
        cv2.copyTo(colors, self._rim(ids, painted, line), picture)

    def _paint_soft(
        self,
        picture: NDArray[np.uint8],
        ids: NDArray[np.uint8],
        alpha: NDArray[np.uint8],
        classes: tuple[ClassInfo, ...],
        line: int,
    ) -> None:
        array = self._scratch.array
        inside, shown, weight = (array(name, ids.shape) for name in ("inside", "shown", "weight"))
        # Contours follow the opacity of one half, not the steps of the mask.
        cv2.threshold(alpha, 127, 255, cv2.THRESH_BINARY, dst=inside)
        cv2.bitwise_and(ids, inside, dst=shown)
        rim = self._rim(shown, inside, line)
        cv2.convertScaleAbs(alpha, dst=weight, alpha=self.opacity)
        cv2.max(weight, rim, dst=weight)
        cv2.max(weight, cv2.blur(rim, (3, 3), dst=shown), dst=weight)
        # Outside the mask there is no colour to show.
        cv2.threshold(ids, 0, 255, cv2.THRESH_BINARY, dst=inside)
        cv2.bitwise_and(weight, inside, dst=weight)
        colors = array("colors", picture.shape)
        cv2.applyColorMap(ids, _table(classes), dst=colors)
        mix(colors, picture, weight, picture, self._scratch)

    def _reached(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the mask grown into class 0 by the reach of a soft edge, so that the edge has a colour."""
        reach = 2 * max(4, round(min(mask.shape) / 60)) + 1
        array = self._scratch.array
        grown = cv2.dilate(mask, np.ones((reach, reach), np.uint8), dst=array("grown", mask.shape))
        cv2.copyTo(mask, mask, grown)
        return np.asarray(grown, np.uint8)

    def _rim(self, ids: NDArray[np.uint8], painted: NDArray[np.uint8], line: int) -> NDArray[np.uint8]:
        """Return (H, W) uint8, 255 on the inner rim of each class: painted pixels near another class."""
        rim = self._scratch.array("rim", ids.shape)
        cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((2 * line + 1, 2 * line + 1), np.uint8), dst=rim)
        cv2.threshold(rim, 0, 255, cv2.THRESH_BINARY, dst=rim)
        return np.asarray(cv2.bitwise_and(rim, painted, dst=rim), np.uint8)


def color_mask(image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return the mask as (H, W, 3) uint8 BGR in the colours of its classes, without the frame."""
    return np.asarray(cv2.applyColorMap(segmentation.mask, _table(segmentation.classes)), np.uint8)


def overlay_of_mask(
    image_bgr: NDArray[np.uint8], mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]
) -> NDArray[np.uint8]:
    """Paint a bare mask, such as the truth, over a copy of its image, as ``Overlay`` does.

    Args:
        image_bgr: (H, W, 3) uint8 BGR.
        mask: (H, W) uint8 class ids; unknown ids are painted black.
        classes: Classes of the ids.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    return Overlay()(image_bgr, Segmentation(mask=mask, classes=classes))


def marked_pixels(image_bgr: NDArray[np.uint8], marked: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Darken a copy of an image and mark pixels, such as wrong ones, in ``MARK_BGR``.

    Args:
        image_bgr: (H, W, 3) uint8 BGR, not changed.
        marked: (H, W) bool, True for the pixels to mark.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    picture = (image_bgr // 3).astype(np.uint8)
    picture[marked] = MARK_BGR
    return picture


def _table(classes: tuple[ClassInfo, ...]) -> NDArray[np.uint8]:
    """Return the BGR colour of each class id, (256, 1, 3) uint8."""
    table = np.zeros((256, 1, 3), np.uint8)
    for info in classes:
        table[info.id, 0] = info.color[::-1]
    return table
