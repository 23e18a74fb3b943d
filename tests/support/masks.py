"""One truth as mask files of every form."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLORS = ((0, 0, 0), (128, 64, 128), (70, 70, 70), (0, 0, 142))
"""RGB, one a class."""


def encoded(array: NDArray[np.generic], ending: str = ".png", *parameters: int) -> bytes:
    done, data = cv2.imencode(ending, np.ascontiguousarray(array), parameters)
    assert done
    return data.tobytes()


def colored(ids: NDArray[np.integer], colors: object = COLORS, ending: str = ".png", *parameters: int) -> bytes:
    """Encode ids as a picture in RGB colours."""
    return encoded(np.array(colors, np.uint8)[ids][..., ::-1], ending, *parameters)


def paletted(ids: NDArray[np.integer], colors: object = COLORS, bits: int = 8) -> bytes:
    """Encode ids as a palette PNG of RGB colours, 1, 2, 4 or 8 bits a pixel."""
    image = Image.new("P", ids.shape[::-1])
    image.putdata(ids.reshape(-1).tolist())
    image.putpalette(np.array(colors, np.uint8).reshape(-1).tolist())
    data = io.BytesIO()
    image.save(data, "PNG", bits=bits)
    return data.getvalue()


def blobs(seed: int, classes: int = 4, height_px: int = 40, width_px: int = 56) -> NDArray[np.uint8]:
    """Return (H, W) uint8 class ids in patches of eight pixels, every class at least once."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (height_px // 8, width_px // 8), dtype=np.uint8)
    coarse.reshape(-1)[:classes] = np.arange(classes)
    return np.kron(coarse, np.ones((8, 8), np.uint8))
