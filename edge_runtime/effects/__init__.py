"""Draw a frame with its mask: overlay, mask colours, blurred or replaced background, cutout."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.effects.background import Blur, LoopedVideo, Replace, cover, parse_background
from edge_runtime.effects.cutout import cutout
from edge_runtime.effects.overlay import MARK_BGR, Overlay, color_mask, marked_pixels, overlay_of_mask
from edge_runtime.errors import UsageError
from edge_runtime.segment.segmentation import Segmentation

__all__ = [
    "EFFECTS",
    "MARK_BGR",
    "Blur",
    "Effect",
    "LoopedVideo",
    "Overlay",
    "Replace",
    "color_mask",
    "cover",
    "cutout",
    "marked_pixels",
    "overlay_of_mask",
    "parse_effect",
]

Effect = Callable[[NDArray[np.uint8], Segmentation], NDArray[np.uint8]]
"""``(image_bgr, segmentation) -> picture``: (H, W, 3) uint8 BGR in and out; ``cutout`` returns (H, W, 4) BGRA.

The image is not changed, and the picture belongs to the caller. Several threads may call an effect at once.
"""

EFFECTS = ("overlay", "mask", "blur", "replace=IMAGE|VIDEO|COLOR", "cutout")


def parse_effect(text: str, *, opacity: float = 0.5, legend: bool = False) -> Effect:
    """Return the effect with the name ``overlay``, ``mask``, ``blur``, ``replace=…`` or ``cutout``.

    Args:
        text: Name of the effect; ``replace`` takes an image, a video, a colour name or a colour as ``#rrggbb``.
        opacity: Opacity of ``overlay``, 0–1.
        legend: Whether ``overlay`` writes the names of the classes in the frame.

    Raises:
        UsageError: An unknown effect, a value of ``replace`` that names no background, or an opacity out of range.
        InputError: The image or video of ``replace`` cannot be read.

    Example:
        >>> from edge_runtime import Segmenter, parse_effect
        >>> green_screen = parse_effect("replace=#00ff00")
        >>> picture = green_screen(image_bgr, Segmenter.load(package)(image_bgr))
        >>> picture[0, 0].tolist()
        [0, 255, 0]
    """
    name, equals, value = text.partition("=")
    if name == "replace":
        return Replace(parse_background(value))
    simple: dict[str, Callable[[], Effect]] = {
        "overlay": lambda: Overlay(opacity, legend=legend),
        "mask": lambda: color_mask,
        "blur": Blur,
        "cutout": lambda: cutout,
    }
    if name in simple and not equals:
        return simple[name]()
    known = ", ".join(EFFECTS)
    if name in simple:
        raise UsageError(f"--effect {text!r} — '{name}' takes no value — expected {known}")
    close = difflib.get_close_matches(name.lower(), [*simple, "replace"], n=1, cutoff=0.5)
    hint = f" — did you mean '{close[0]}'?" if close else ""
    raise UsageError(f"--effect {text!r} — no such effect — expected {known}{hint}")
