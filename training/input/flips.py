"""Choose the directions in which augmentation flips images, from the decoded training images."""

from __future__ import annotations

from edge_runtime.dataset.sampling import spread
from training.config import Flip
from training.data.orientation import up_and_down
from training.input.cache import PixelCache

SAMPLE = 200
"""Number of training images that are measured."""
FEWEST = 40
"""Number of images with an object below which nothing can be told."""
NO_UP = 0.2
"""Agreement on above and below up to which images count as having no up, see ``training.data.orientation``."""


def choose_flip(cache: PixelCache, classes: int) -> tuple[Flip, str | None]:
    """Return the directions in which to flip, and a line with the reason if the classes show no up.

    Args:
        cache: The decoded training split.
        classes: Number of classes.
    """
    sample = spread(range(len(cache.names)), SAMPLE)
    by_class, brightness = up_and_down(((cache.images[i], cache.masks[i]) for i in sample), classes)
    told = [found for found in by_class if found.pictures >= FEWEST]
    if not told or any(found.tells_an_up(NO_UP) for found in told):
        return "horizontal", None
    if brightness.tells_an_up(NO_UP):
        return "horizontal", (
            "flips: left to right; the classes are alike above and below, but the brightness is not (--flip both if only "
            "the light differs, as under a lamp)"
        )
    return "both", (
        "flips: left to right and upside down, because classes and brightness of the images are alike above and below "
        "(--flip horizontal if their objects have an up)"
    )
