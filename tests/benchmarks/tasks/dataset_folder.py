"""Write a task's dataset folder: train/, val/ and test/, each with images/ and masks/, and dataset.yaml."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")

Draw = Callable[[np.random.Generator, int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Function from random numbers and the index of the picture to the picture, BGR or grey, and its (H, W) class ids."""


class AbsentError(Exception):
    """The data of a task are not on this machine; the message says where they were looked for."""


def write_drawn(folder: Path, seed: int, images: Mapping[str, int], classes: list[str], draw: Draw) -> None:
    """Draw so many images per split; picture i of split s comes from ``default_rng([seed, s, i])`` alone."""
    for number, split in enumerate(SPLITS):
        for index in range(images[split]):
            image, ids = draw(np.random.default_rng([seed, number, index]), index)
            write_pair(folder / split, f"{index:04d}.png", image, ids)
    write_classes(folder, classes)


def write_pair(split: Path, name: str, image: NDArray[np.uint8], ids: NDArray[np.uint8]) -> None:
    """Write an image and its mask of class ids as PNG files of the same name."""
    for kind, pixels in (("images", image), ("masks", ids)):
        (split / kind).mkdir(parents=True, exist_ok=True)
        (split / kind / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_classes(folder: Path, classes: list[str], ignore_id: int | None = None) -> None:
    """Write dataset.yaml; written last, so that a folder that has it is complete."""
    ignored = "" if ignore_id is None else f"ignore_id: {ignore_id}\n"
    (folder / "dataset.yaml").write_text(f"classes: [{', '.join(classes)}]\n{ignored}", encoding="utf-8")


def given_folder(*names: str) -> list[Path]:
    """Return these folders of ``$EDGE_UNET_DATA``.

    Raises:
        AbsentError: The variable is not set, or a folder is not there.
    """
    if "EDGE_UNET_DATA" not in os.environ:
        raise AbsentError(f"EDGE_UNET_DATA is not set to a folder that has {' and '.join(names)}")
    folders = [Path(os.environ["EDGE_UNET_DATA"]) / name for name in names]
    for path in folders:
        if not path.is_dir():
            raise AbsentError(f"{path} is not a folder")
    return folders
