"""Small datasets on disk, written file by file: squares whose colour is their class."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLORS_BGR = np.array([(90, 90, 90), (30, 30, 220), (220, 30, 30)], np.uint8)


def squares(seed: int, height_px: int = 32, width_px: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a noisy grey picture with a red square (class 1) and a blue one (class 2), and its class ids."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((height_px, width_px), np.uint8)
    for class_id, left in ((1, 0), (2, width_px // 2)):
        top, side = int(rng.integers(0, height_px // 2)), int(rng.integers(height_px // 4, height_px // 2))
        ids[top : top + side, left + 1 : left + 1 + side] = class_id
    noise = rng.integers(-25, 26, (height_px, width_px, 3))
    return np.clip(COLORS_BGR[ids].astype(np.int64) + noise, 0, 255).astype(np.uint8), ids


def png(array: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(".png", array)
    assert done
    return data.tobytes()


def jpeg(array: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".jpg", array)
    assert done
    return data.tobytes()


def palette_png(ids: NDArray[np.uint8]) -> bytes:
    """Encode ids as a palette PNG in the PASCAL VOC colours, whose grey levels are 38, 75, 113 …"""
    image = Image.fromarray(ids).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


class DatasetFolder:
    """A dataset that a test writes file by file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str, data: bytes, split: str = "") -> Path:
        return self._write(self.root / split / "images" / name, data)

    def mask(self, name: str, data: bytes, split: str = "") -> Path:
        return self._write(self.root / split / "masks" / name, data)

    def pair(self, stem: str, seed: int, split: str = "") -> tuple[Path, Path]:
        """Add a good pair with an index mask."""
        image_bgr, ids = squares(seed)
        return self.image(f"{stem}.png", png(image_bgr), split), self.mask(f"{stem}.png", png(ids), split)

    def fill(self, count: int, split: str = "", first_seed: int = 0) -> DatasetFolder:
        """Add so many good pairs."""
        for i in range(count):
            self.pair(f"{split}{i}", first_seed + i, split)
        return self

    def yaml(self, text: str) -> Path:
        return self._write(self.root / "dataset.yaml", text.encode())

    @staticmethod
    def _write(path: Path, data: bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path
