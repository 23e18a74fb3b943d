"""Persons in photographs: trained on street fashion, tested on photographs of another source."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tasks import dataset_folder

VAL = 150
"""Photographs of street fashion that validate; the others train."""


def write(folder: Path, seed: int) -> None:
    fashion, other = dataset_folder.given_folder("ccp_person", "person_vs_val")
    images = sorted(fashion.glob("images/*"))
    validating = set(np.random.default_rng(seed).permutation(len(images))[:VAL].tolist())
    for number, image in enumerate(images):
        _copy(image, folder / ("val" if number in validating else "train"))
    for image in sorted(other.glob("images/*")):
        _copy(image, folder / "test")
    dataset_folder.write_classes(folder, ["background", "person"])


def _copy(image: Path, split: Path) -> None:
    """Write a pair as PNG, the mask's 0 and 255 as class ids."""
    mask = cv2.imread(str(image.parents[1] / "masks" / f"{image.stem}.png"), cv2.IMREAD_GRAYSCALE)
    pixels = cv2.imread(str(image))
    dataset_folder.write_pair(split, f"{image.stem}.png", pixels, (mask > 127).astype(np.uint8))
