"""Prepare pictures for a window: scale them, show transparency as a checkerboard, write a line of text."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LARGEST, _SMALLEST = (720, 1280), (240, 320)
_SQUARE_PX = 12
_LIGHT, _DARK = 204, 153
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE, _SMALLEST_FONT_SCALE = 0.5, 0.3
_MARGIN_PX = 6


def window_size(height_px: int, width_px: int) -> tuple[int, int]:
    """Return the (height, width) in pixels of a window for pictures of a size, neither too large nor too small."""
    down = min(_LARGEST[0] / height_px, _LARGEST[1] / width_px)
    up = max(_SMALLEST[0] / height_px, _SMALLEST[1] / width_px)
    return fitted(height_px, width_px, scale=min(down, max(1.0, up)))


def fitted(height_px: int, width_px: int, *, scale: float) -> tuple[int, int]:
    """Return (height, width) times ``scale``, each at least 1 pixel."""
    return max(1, round(height_px * scale)), max(1, round(width_px * scale))


def display_picture(picture: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return a copy of a picture for display, (H, W, 3) uint8 BGR.

    Args:
        picture: (H, W, 3) BGR, or (H, W, 4) BGRA, which is blended with a checkerboard; uint8.
        height_px: Largest height in pixels; the aspect ratio is kept.
        width_px: Largest width in pixels.
    """
    height, width = picture.shape[:2]
    scale = min(height_px / height, width_px / width)
    size = fitted(height, width, scale=scale)
    # A small picture is enlarged to sharp squares, because a viewer wants to see its pixels.
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 4 else cv2.INTER_LINEAR
    shown = np.asarray(cv2.resize(picture, size[::-1], interpolation=how), np.uint8)
    if picture.shape[2] == 3:
        return shown.copy() if shown is picture else shown
    alpha = cv2.merge([shown[:, :, 3]] * 3)
    board = cv2.merge([_checkerboard(*size)] * 3)
    ground = cv2.multiply(board, cv2.bitwise_not(alpha), None, 1 / 255)
    return np.asarray(
        cv2.add(cv2.multiply(cv2.cvtColor(shown, cv2.COLOR_BGRA2BGR), alpha, None, 1 / 255), ground), np.uint8
    )


def draw_text(picture_bgr: NDArray[np.uint8], text: str, *, at_bottom: bool = False) -> None:
    """Write a line of ASCII text into the upper or lower left corner, white on a darkened strip, legible on any picture.

    The text has the same size in every window, unless it has to be smaller to fit.
    """
    (width, _), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    room = picture_bgr.shape[1] - 4 * _MARGIN_PX
    scale = max(_SMALLEST_FONT_SCALE, _FONT_SCALE * min(1.0, room / max(1, width)))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    strip_px = height + below + 2 * _MARGIN_PX
    top = max(0, picture_bgr.shape[0] - strip_px) if at_bottom else 0
    strip = picture_bgr[top : top + strip_px, : width + 2 * _MARGIN_PX]
    strip[:] = strip // 4
    place = _MARGIN_PX, top + _MARGIN_PX + height
    cv2.putText(picture_bgr, text, place, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _checkerboard(height_px: int, width_px: int) -> NDArray[np.uint8]:
    rows, columns = np.arange(height_px) // _SQUARE_PX, np.arange(width_px) // _SQUARE_PX
    return np.where((rows[:, np.newaxis] + columns) % 2 == 0, _LIGHT, _DARK).astype(np.uint8)
