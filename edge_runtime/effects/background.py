"""Blur the background of a frame (class 0), or replace it by a colour, an image or a video."""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects.blend import Scratch, foreground_opacity, mix
from edge_runtime.errors import InputError, UsageError
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.image import is_animation, read_image
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.sources.video import VideoSource
from edge_runtime.storage import printable, translated

_HALVINGS = 3
"""Halvings before blurring: at an eighth of the size, blurring looks the same and takes a thirtieth of the time."""
_TRACE = 12
"""Largest foreground opacity, 0–255, at which a pixel at an eighth of the size counts as background."""
_COLORS_RGB = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "white": (255, 255, 255),
}


class Blur:
    """Effect that blurs class 0 and keeps the rest sharp."""

    def __init__(self) -> None:
        self._scratch = Scratch()

    def __call__(self, image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        """Return the picture, (H, W, 3) uint8 BGR."""
        opacity = foreground_opacity(segmentation, self._scratch)
        small = _halved(image_bgr).astype(np.float32)
        # Average over pure background only; otherwise the colours of the foreground would leak out as a halo.
        weight = (_halved(opacity) <= _TRACE).astype(np.float32)[..., np.newaxis]
        sigma = max(0.8, min(small.shape[:2]) / 25)
        total = cv2.GaussianBlur(small * weight, (0, 0), sigma)
        share = cv2.GaussianBlur(weight, (0, 0), sigma)[..., np.newaxis]
        blurred = np.where(share > 1e-3, total / np.maximum(share, 1e-3), small).astype(np.uint8)
        height, width = image_bgr.shape[:2]
        picture = np.empty_like(image_bgr, order="C")
        cv2.resize(blurred, (width, height), dst=picture, interpolation=cv2.INTER_LINEAR)
        return mix(image_bgr, picture, opacity, picture, self._scratch)


class Background(Protocol):
    """Source of background pictures, one per frame."""

    def next_frame(self, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return the next background, (height_px, width_px, 3) uint8 BGR; the caller must not write to it."""


class Replace:
    """Effect that shows a background picture in place of class 0."""

    def __init__(self, background: Background) -> None:
        """Use this background; see ``parse_background``."""
        self._background = background
        self._scratch = Scratch()

    def __call__(self, image_bgr: NDArray[np.uint8], segmentation: Segmentation) -> NDArray[np.uint8]:
        """Return the picture, (H, W, 3) uint8 BGR."""
        back = self._background.next_frame(*image_bgr.shape[:2])
        opacity = foreground_opacity(segmentation, self._scratch)
        return mix(image_bgr, back, opacity, np.empty_like(image_bgr, order="C"), self._scratch)


class StillPicture:
    """Background of one picture, scaled to cover the frame and cropped at its centre; one pixel is a plain colour."""

    def __init__(self, picture_bgr: NDArray[np.uint8]) -> None:
        """Use this picture, (H, W, 3) uint8 BGR of any size."""
        self._original = picture_bgr
        self._fitted = picture_bgr

    def next_frame(self, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return the picture at this size."""
        fitted = self._fitted  # local, because another thread may be drawing frames of another size
        if fitted.shape[:2] != (height_px, width_px):
            self._fitted = fitted = cover(self._original, height_px, width_px)
        return fitted


class LoopedVideo:
    """Background of the frames of a video file, one per call, repeated after the last."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            InputError: The file cannot be read, or has no frame.
        """
        with translated("read", path, InputError):
            path.stat()
        self._frames = _looped(path)
        self._lock = threading.Lock()
        self._next = next(self._frames)

    def next_frame(self, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return the next frame, scaled to cover this size and cropped at its centre.

        Raises:
            InputError: The file no longer exists.
        """
        with self._lock:
            frame, self._next = self._next, next(self._frames)
        return cover(frame, height_px, width_px)


def _looped(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield frames for ever; the file is opened again for each round, because seeking is inexact in many containers."""
    while True:
        source = VideoSource(path)
        try:
            with source:
                for frame in source:
                    yield frame.image_bgr
        except InputError:
            if not source.captured:  # a truncated file is shown up to its end
                raise


def parse_background(value: str) -> Background:
    """Return the background for the value of ``replace=VALUE``.

    Args:
        value: A colour name, ``#rrggbb``, an image or a video; with a path separator, as in ``./white``, always a file.

    Raises:
        UsageError: The value is empty or an unknown colour.
        InputError: The file cannot be read.
    """
    if not value:
        raise UsageError(
            "--effect replace — by what — expected an image, a video or a color, as in --effect replace=beach.jpg or "
            "replace=#00ff00"
        )
    color = _COLORS_RGB.get(value.lower())
    if value.startswith("#"):
        if not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise UsageError(f"--effect replace={value} — no color — expected #rrggbb, as in replace=#00ff00")
        color = int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    if color is not None:
        return StillPicture(np.array([[color[::-1]]], np.uint8))
    path = Path(value)
    if path.suffix.lower() in IMAGE_SUFFIXES and not is_animation(path):
        return StillPicture(read_image(path))
    with translated("read", path, InputError):
        missing = not path.suffix and not path.exists()
    if missing:
        close = difflib.get_close_matches(value.lower(), _COLORS_RGB, n=1)
        hint = f" — did you mean '{close[0]}'?" if close else ""
        raise UsageError(
            f"--effect replace={printable(path)} — no such file or color — expected an image, a video, #rrggbb or "
            f"{', '.join(_COLORS_RGB)}{hint}"
        )
    return LoopedVideo(path)


def cover(image_bgr: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) picture to cover a size, keeping its aspect ratio, and crop it at its centre."""
    height, width = image_bgr.shape[:2]
    scale = max(height_px / height, width_px / width)
    size = max(width_px, round(width * scale)), max(height_px, round(height * scale))
    scaled = cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (size[1] - height_px) // 2, (size[0] - width_px) // 2
    return np.ascontiguousarray(scaled[top : top + height_px, left : left + width_px], np.uint8)


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) or (H, W, 3) pixels averaged to an eighth of their size; halving three times is fastest."""
    for _ in range(_HALVINGS):
        height, width = image.shape[:2]
        size = max(1, width // 2), max(1, height // 2)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image
