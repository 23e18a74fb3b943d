"""What every trainer is given and gives back: the pictures of a split, and a card that says how to run the network.

Imported in the environments of all trainers, so it needs nothing beyond numpy, OpenCV and PyYAML.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

IGNORE = 255
"""Mask value of pixels that do not count, whatever it is in the dataset."""
LONGEST_PX, MULTIPLE_PX = 320, 32


def arguments(description: str) -> argparse.ArgumentParser:
    """Return the command line that every trainer has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="dataset folder with train/ and val/")
    parser.add_argument("out", type=Path, help="folder for the network and its card")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser


def read_config(data: Path) -> tuple[list[str], int | None]:
    """Return the names of the classes and the mask value of pixels that do not count, if there is one."""
    config = yaml.safe_load((data / "dataset.yaml").read_text(encoding="utf-8"))
    return config["classes"], config.get("ignore_id")


def common_size(data: Path, longest_px: int = LONGEST_PX) -> tuple[int, int]:
    """Return the height and width for a network: the median training image, at most so long, in multiples of 32."""
    shapes = [cv2.imread(str(path)).shape[:2] for path in sorted((data / "train/images").iterdir())]
    height, width = np.median(shapes, axis=0)
    scale = min(1, longest_px / max(height, width))
    height, width = (max(1, round(side * scale / MULTIPLE_PX)) * MULTIPLE_PX for side in (height, width))
    return height, width


def read_split(data: Path, split: str, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images, (N, H, W, 3) RGB, and class ids or ``IGNORE``, (N, H, W), stretched to the size."""
    ignore_id = read_config(data)[1]
    images, masks = [], []
    for path in sorted((data / split / "images").iterdir()):
        image_bgr = cv2.resize(cv2.imread(str(path)), size[::-1], interpolation=cv2.INTER_LINEAR)
        stored = cv2.imread(str(data / split / "masks" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        mask = cv2.resize(stored, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        images.append(image_bgr[..., ::-1])
        masks.append(mask if ignore_id is None else np.where(mask == ignore_id, IGNORE, mask).astype(np.uint8))
    return np.stack(images), np.stack(masks)


def write_card(out: Path, **card: Any) -> None:
    """Write ``card.json``, which ``accuracy_score`` reads.

    Keys:
        model: Name of the ONNX file in the folder.
        output: Name of the output, None for the first: logits per class, or one logit, or integers, which are class ids.
        size: Height and width of the input.
        color: "bgr", "rgb" or "grey".
        layout: "nhwc" or "nchw", of input and scores.
        divisor: By which the bytes of the image are divided.
        fit: "stretch" to the size, or "letterbox": keep the aspect ratio and fill up with grey.
        parameters: Number of weights.
        epochs: How often the training images were seen.
        train_s: Seconds from the first read of an image to the end of training.
    """
    (out / "card.json").write_text(json.dumps(card), encoding="utf-8")
