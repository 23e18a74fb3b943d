"""Augment images and masks at random: geometry, light, noise, and CutMix.

A single warp maps a picture from its cached size to the model's, or to a part of it, so that zooming in shows real
detail.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from training.config import Flip

SCALE = (0.8, 1.5)
"""Range of the zoom; above 1 a part of the picture fills the frame, below 1 the picture is smaller than the frame."""
STRETCH = 1.16
"""Largest factor between the zooms of width and height."""
RARE_SHARE = 0.5
"""Share of the pictures that are shifted to show a class that covers less of the picture than another one."""
ROTATION_DEGREES = 5.0
SHEAR = 0.05
"""Largest sideways shift of a row, as a share of its distance from the middle."""
GAMMA = 1.25
CONTRAST = 1.25
"""Largest factors of gamma and contrast; their reciprocals are the smallest."""
BRIGHTNESS = 0.1
"""Largest shift of all pixels, as a share of white."""
COLOR_CAST = 1.16
"""Largest factor on a colour channel, as from another white balance."""
SATURATION = (0.5, 1.4)
BLUR_SHARE, BLUR_PX = 0.1, (0.3, 1.2)
NOISE_SHARE, NOISE_LEVELS = 0.1, (2.0, 10.0)
_GRAIN_LEVELS, _GRAIN_PLACES = 32.0, 128
_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey of the same brightness, ITU-R BT.601."""
MIXED_AREA = (0.1, 0.5)
"""Range of the share of a picture's area that ``mix`` replaces."""


def augment(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    height_px: int,
    width_px: int,
    rng: np.random.Generator,
    input_size: tuple[int, int] | None = None,
    flip: Flip = "horizontal",
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a random variant of a pair, as the model sees it.

    Args:
        image: (h, w, C) uint8 at any size, RGB or grey.
        mask: (h, w) uint8 class ids.
        height_px: Height of the result in pixels.
        width_px: Width of the result in pixels.
        rng: Source of randomness; the same state gives the same variant.
        input_size: (height, width) of the model's input in pixels, of which the result is a part; by default the result
            is the whole.
        flip: Directions in which to flip, each half of the time.

    Returns:
        (height_px, width_px, C) and (height_px, width_px) uint8. Outside the picture the image is mirrored and the mask
        is ``IGNORE``.
    """
    matrix = random_affine(mask, height_px, width_px, rng, input_size, flip)
    size = (width_px, height_px)
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    labels = cv2.warpAffine(
        mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=IGNORE
    )
    lit = relight(np.asarray(moved, np.uint8).reshape(height_px, width_px, image.shape[2]), rng)
    return lit, np.asarray(labels, np.uint8)


def random_affine(
    mask: NDArray[np.uint8],
    height_px: int,
    width_px: int,
    rng: np.random.Generator,
    input_size: tuple[int, int] | None = None,
    flip: Flip = "horizontal",
) -> NDArray[np.float64]:
    """Return a random (2, 3) matrix from picture to frame: flips (each half of the time), rotation, shear, zoom, shift.

    A picture that is larger than the frame covers it except for corners that the rotation uncovers. Half of the pictures
    are shifted to show a pixel of a class that covers less of the picture than another one, anywhere in the frame.

    Args:
        mask: (h, w) uint8 class ids of the picture.
        height_px: Height of the frame in pixels.
        width_px: Width of the frame in pixels.
        rng: Source of randomness.
        input_size: (height, width) to which the picture is resized before all else; the frame's by default.
        flip: Directions in which to flip.
    """
    zoom = _between(SCALE, rng)
    stretch = _around(STRETCH, rng)
    angle = np.deg2rad(rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    left_right = -1 if rng.random() < 0.5 and flip != "none" else 1
    upside_down = -1 if flip == "both" and rng.random() < 0.5 else 1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1, rng.uniform(-SHEAR, SHEAR)], [0, 1]])
    whole_px = np.array((input_size or (height_px, width_px))[::-1])
    fit_x, fit_y = whole_px / mask.shape[::-1]
    linear = turn @ shear @ np.diag([left_right * fit_x * zoom * stretch, upside_down * fit_y * zoom / stretch])
    frame_px = np.array([width_px, height_px])
    room_px = zoom * whole_px - frame_px
    # OpenCV's origin is the centre of the first pixel.
    middle = np.array(mask.shape[::-1]) / 2 - 0.5
    place = rng.uniform(-0.5, 0.5, 2)
    shift_px = place * room_px
    if rng.random() < RARE_SHARE and (pixel := _rare_pixel(mask, rng)):
        limit_px = np.abs(room_px) / 2
        shift_px = np.clip(place * frame_px - linear @ (np.array(pixel) - middle), -limit_px, limit_px)
    return np.hstack([linear, (frame_px / 2 - 0.5 + shift_px - linear @ middle)[:, np.newaxis]])


def _rare_pixel(mask: NDArray[np.uint8], rng: np.random.Generator) -> tuple[int, int] | None:
    """Return the (x, y) of a random pixel of a class that is not the picture's largest; None if there is none."""
    # OpenCV counts faster than NumPy, and this is done for half of the pictures.
    counts = cv2.calcHist([mask], [0], None, [IGNORE], [0, IGNORE]).ravel()
    classes = np.flatnonzero(counts)
    if len(classes) < 2:
        return None
    smaller = classes[classes != counts.argmax()]
    places = np.flatnonzero(mask == smaller[rng.integers(len(smaller))])
    y, x = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
    return x, y


def relight(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture, (H, W, C) uint8, with random gamma, contrast, brightness, colours, blur and noise."""
    levels = np.linspace(0, 1, 256) ** _around(GAMMA, rng)
    lit = cv2.LUT(image, (levels * 255).round().astype(np.uint8))
    lit = cv2.transform(lit, _random_colors(image.shape[2], rng)).reshape(image.shape)
    if rng.random() < BLUR_SHARE:
        lit = cv2.GaussianBlur(lit, (3, 3), rng.uniform(*BLUR_PX)).reshape(image.shape)
    if rng.random() < NOISE_SHARE:
        strength = rng.uniform(*NOISE_LEVELS) / _GRAIN_LEVELS
        lit = cv2.addWeighted(lit, 1, _grain(image.shape, rng), strength, -128 * strength).reshape(image.shape)
    return np.asarray(lit, np.uint8)


def mix(
    images: NDArray[np.uint8], masks: NDArray[np.uint8], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Apply CutMix: replace a rectangle of some pictures and masks by the same rectangle of the next ones in the batch.

    Args:
        images: (N, H, W, C) uint8.
        masks: (N, H, W) uint8.
        share: Share of the pictures that receive a rectangle, 0–1.
        rng: Source of randomness.

    Reference:
        Yun et al.: CutMix, ICCV 2019. https://arxiv.org/abs/1905.04899
    """
    mixed_images, mixed_masks = images.copy(), masks.copy()
    count, height_px, width_px = masks.shape
    for i in range(count):
        if rng.random() >= share:
            continue
        side = np.sqrt(rng.uniform(*MIXED_AREA))
        rows_px, columns_px = round(side * height_px), round(side * width_px)
        top, left = rng.integers(height_px - rows_px + 1), rng.integers(width_px - columns_px + 1)
        place = (slice(top, top + rows_px), slice(left, left + columns_px))
        mixed_images[i][place], mixed_masks[i][place] = images[(i + 1) % count][place], masks[(i + 1) % count][place]
    return mixed_images, mixed_masks


@cache
def _grain_bank(height_px: int, width_px: int, channels: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(128, _GRAIN_LEVELS, (height_px, width_px, channels))
    return np.clip(noise.round(), 0, 255).astype(np.uint8)


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return noise around 128, (H, W, C) uint8, cut from a fixed bank because drawing it takes ten times as long."""
    height_px, width_px, channels = shape
    top, left = rng.integers(_GRAIN_PLACES, size=2)
    bank = _grain_bank(height_px + _GRAIN_PLACES, width_px + _GRAIN_PLACES, channels)
    return bank[top : top + height_px, left : left + width_px]


def _random_colors(channels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a (channels, channels + 1) matrix: contrast around mid-grey, brightness, colour cast and saturation."""
    contrast = _around(CONTRAST, rng)
    matrix = np.eye(channels)
    if channels == 3:
        saturation = rng.uniform(*SATURATION)
        cast = np.exp(rng.uniform(-1, 1, channels) * np.log(COLOR_CAST))
        matrix = (saturation * matrix + (1 - saturation) * np.array(_GREY)) * cast[:, np.newaxis]
    offset = 255 * (0.5 + rng.uniform(-BRIGHTNESS, BRIGHTNESS) - 0.5 * contrast)
    return np.hstack([contrast * matrix, np.full((channels, 1), offset)]).astype(np.float32)


def _around(factor: float, rng: np.random.Generator) -> float:
    """Return a random factor between 1/factor and factor, uniform on a logarithmic scale."""
    return float(np.exp(rng.uniform(-1, 1) * np.log(factor)))


def _between(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
