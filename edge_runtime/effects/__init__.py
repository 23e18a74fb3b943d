"""What a frame and its mask are drawn as: overlay, mask colours, blurred or replaced background."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import ClassInfo
from edge_runtime.errors import UsageError
from edge_runtime.image import read_image
from edge_runtime.segmenter import Segmentation

Effect = Callable[[NDArray[np.uint8], Segmentation], NDArray[np.uint8]]
"""``(image_bgr, segmentation) -> picture_bgr``, both pictures (H, W, 3) uint8 BGR; the image is left as it was."""

EFFECTS = ("overlay", "mask", "blur", "replace=IMAGE")
_BLUR_SCALE = 4
"""The background is blurred at a quarter of the size: the eye sees no difference and it takes a tenth of the time."""


def parse_effect(text: str) -> Effect:
    """Return the effect that ``overlay``, ``mask``, ``blur`` or ``replace=IMAGE`` names.

    Raises:
        UsageError: There is no such effect, or ``replace`` has no image.
        InputError: The image of ``replace`` cannot be read.
    """
    name, equals, value = text.partition("=")
    if name == "replace":
        if not value:
            raise UsageError("--effect replace — no image — expected replace=IMAGE, as in --effect replace=beach.jpg")
        return Replace(read_image(Path(value)))
    simple: dict[str, Callable[[], Effect]] = {"overlay": Overlay, "mask": lambda: color_mask, "blur": lambda: blur}
    if name in simple and not equals:
        return simple[name]()
    known = ", ".join(EFFECTS)
    if name in simple:
        raise UsageError(f"--effect {text!r} — '{name}' takes no value — expected {known}")
    close = difflib.get_close_matches(name.lower(), [*simple, "replace"], n=1, cutoff=0.5)
    hint = f" — did you mean '{close[0]}'?" if close else ""
    raise UsageError(f"--effect {text!r} — no such effect — expected {known}{hint}")


class Overlay:
    """Classes painted over the frame in their colours, with a solid contour; class 0 stays as it is."""

    def __init__(self, opacity: float = 0.5) -> None:
        """Set how strongly the colours cover the frame, 0–1."""
        self.opacity = opacity

    def __call__(self, image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        """Paint the classes of ``segmentation`` over a copy of ``image_bgr``, (H, W, 3) uint8 BGR."""
        mask = segmentation.mask
        colors = color_mask(image_bgr, segmentation)
        painted = cv2.compare(mask, np.array([0.0]), cv2.CMP_GT)
        # The inner rim of each class: painted pixels that have another class within reach.
        reach = 2 * max(1, round(min(mask.shape) / 240)) + 1
        rim = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((reach, reach), np.uint8))
        rim = cv2.bitwise_and(cv2.compare(rim, np.array([0.0]), cv2.CMP_GT), painted)
        blended = cv2.addWeighted(image_bgr, 1 - self.opacity, colors, self.opacity, 0)
        picture = cv2.copyTo(blended, painted, image_bgr.copy())
        return np.asarray(cv2.copyTo(colors, rim, picture), np.uint8)


def color_mask(image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return the mask as (H, W, 3) uint8 BGR in the colours of its classes; the frame itself is not in it."""
    return np.asarray(cv2.applyColorMap(segmentation.mask, _lut(segmentation.classes)), np.uint8)


def blur(image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return the frame with class 0 blurred and the rest sharp, (H, W, 3) uint8 BGR."""
    height, width = segmentation.mask.shape
    small_size = max(1, width // _BLUR_SCALE), max(1, height // _BLUR_SCALE)
    background = (segmentation.mask == 0).astype(np.float32)
    weight = cv2.resize(background, small_size, interpolation=cv2.INTER_AREA)[..., np.newaxis]
    small = cv2.resize(image_bgr, small_size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # Only background pixels enter the average: otherwise the foreground's colours leak out as a halo.
    sigma = max(1.0, min(small_size) / 25)
    total = cv2.GaussianBlur(small * weight, (0, 0), sigma)
    share = cv2.GaussianBlur(weight, (0, 0), sigma)[..., np.newaxis]
    blurred = np.where(share > 1e-3, total / np.maximum(share, 1e-3), small).astype(np.uint8)
    return _compose(
        image_bgr,
        np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8),
        background,
    )


class Replace:
    """Another picture in place of class 0, scaled to cover the frame and cropped at its centre."""

    def __init__(self, background_bgr: NDArray[np.uint8]) -> None:
        """Take the picture, (H, W, 3) uint8 BGR of any size."""
        self._original = background_bgr
        self._fitted = background_bgr

    def __call__(self, image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        """Return the frame with class 0 replaced, (H, W, 3) uint8 BGR."""
        height, width = segmentation.mask.shape
        fitted = self._fitted  # a local name: another thread may be drawing frames of another size
        if fitted.shape[:2] != (height, width):
            self._fitted = fitted = cover(self._original, height, width)
        return _compose(image_bgr, fitted, (segmentation.mask == 0).astype(np.float32))


def cover(image_bgr: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) picture until it covers the size, keep its aspect ratio, and cut off what stands over."""
    height, width = image_bgr.shape[:2]
    scale = max(height_px / height, width_px / width)
    size = max(width_px, round(width * scale)), max(height_px, round(height * scale))
    scaled = cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (size[1] - height_px) // 2, (size[0] - width_px) // 2
    return np.ascontiguousarray(scaled[top : top + height_px, left : left + width_px], np.uint8)


def _compose(
    image_bgr: NDArray[np.uint8], background_bgr: NDArray[np.uint8], background: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Put a frame over another picture where ``background``, (H, W) float32, is 0; the edge is softened by a pixel or two."""
    reach = 2 * max(1, round(min(background.shape) / 240)) + 1
    weight = cv2.blur(background, (reach, reach))
    return np.asarray(cv2.blendLinear(image_bgr, background_bgr, 1 - weight, weight), np.uint8)


def _lut(classes: tuple[ClassInfo, ...]) -> NDArray[np.uint8]:
    """Return (256, 1, 3) uint8: the BGR colour of each class id."""
    table = np.zeros((256, 1, 3), np.uint8)
    for info in classes:
        table[info.id, 0] = info.color[::-1]
    return table
