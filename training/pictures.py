"""Pictures to judge by eye: predictions beside the truth, and contact sheets of a dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import ClassInfo
from edge_runtime.effects import Overlay
from edge_runtime.image import encode_png, read_image
from edge_runtime.pairs import Pair
from edge_runtime.preprocess import resize_image
from edge_runtime.segmenter import Segmentation
from edge_runtime.storage import printable, translated, write_bytes
from training.check import DatasetReport
from training.dataset import read_class_ids
from training.errors import DataError

PICTURES = 6
_CAPTION_PX = 24
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_pictures(
    folder: Path,
    pairs: Sequence[Pair],
    segment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    report: DatasetReport,
) -> None:
    """Write image, truth and prediction side by side for a few validation images, spread over the split."""
    with translated("write", folder):
        folder.mkdir(exist_ok=True)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, PICTURES).round().astype(int))
    for index in chosen:
        pair = pairs[index]
        image_bgr = read_image(pair.image)
        truth = read_class_ids(pair, report.info, report.encoding)
        panels = [
            captioned(image_bgr, pair.stem),
            captioned(painted(image_bgr, truth, report.info.classes), "truth"),
            captioned(painted(image_bgr, segment(image_bgr), report.info.classes), "prediction"),
        ]
        path = folder / f"{pair.stem}.png"
        write_bytes(path, encode_png(np.hstack(panels), printable(path)))


def contact_sheet(
    report: DatasetReport, *, rows: int = 6, columns: int = 5, tile_width_px: int = 300
) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 BGR: images spread over the dataset with masks drawn over them, and a legend of classes.

    Args:
        report: A checked dataset; pairs that cannot be read are left out.
        rows: Rows of pictures, at most.
        columns: Pictures a row, at most.
        tile_width_px: Width of one picture; its height is that of the first image's aspect ratio.

    Raises:
        DataError: Not one pair can be read.
    """
    bad = {problem.file for problem in report.problems if problem.severity == "error"}
    pairs = [p for p in report.dataset.pairs() if str(p.image) not in bad and str(p.mask) not in bad]
    if not pairs:
        raise DataError(
            f"dataset {printable(report.dataset.root)} — no pair that can be drawn — `edge-unet data check` lists why"
        )
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(rows * columns, len(pairs))).round().astype(int))
    tiles = []
    height_px = 0
    for index in chosen:
        pair = pairs[index]
        image_bgr = read_image(pair.image)
        height_px = height_px or max(1, round(tile_width_px * image_bgr.shape[0] / image_bgr.shape[1]))
        truth = read_class_ids(pair, report.info, report.encoding)
        tile = resize_image(painted(image_bgr, truth, report.info.classes), height_px, tile_width_px)
        tiles.append(captioned(tile, pair.stem))
    columns = min(columns, max(1, math.ceil(math.sqrt(len(tiles)))))
    blank = np.full((height_px + _CAPTION_PX, tile_width_px, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    return np.vstack([legend(report.info.classes, sheet.shape[1]), sheet])


def painted(image_bgr: NDArray[np.uint8], mask: NDArray[np.uint8], classes: tuple[ClassInfo, ...]) -> NDArray[np.uint8]:
    """Return the image with the mask's classes drawn over it, (H, W, 3) uint8 BGR."""
    return Overlay()(image_bgr, Segmentation(mask=mask, classes=classes, latency_ms=0.0))


def captioned(image_bgr: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Return the image with a line of text above it."""
    bar = np.full((_CAPTION_PX, image_bgr.shape[1], 3), 255, np.uint8)
    shown = "".join(c if " " <= c <= "~" else "?" for c in text)  # OpenCV's fonts hold ASCII alone
    cv2.putText(bar, shown, (6, _CAPTION_PX - 7), _FONT, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([bar, image_bgr])


def legend(classes: tuple[ClassInfo, ...], width_px: int) -> NDArray[np.uint8]:
    """Return a strip, (H, width_px, 3) uint8 BGR, with the colour and name of each class."""
    entries: list[tuple[int, int, ClassInfo]] = []
    x, row = 8, 0
    for c in classes:
        (text_px, _), _ = cv2.getTextSize(c.name, _FONT, 0.5, 1)
        if x + text_px + 40 > width_px and x > 8:
            x, row = 8, row + 1
        entries.append((x, row, c))
        x += text_px + 40
    strip = np.full(((row + 1) * _CAPTION_PX + 8, width_px, 3), 255, np.uint8)
    for x, row, c in entries:
        top = row * _CAPTION_PX + 6
        color_bgr = c.color[::-1]
        cv2.rectangle(strip, (x, top), (x + 16, top + 16), color_bgr, -1)
        cv2.rectangle(strip, (x, top), (x + 16, top + 16), (40, 40, 40), 1)
        cv2.putText(strip, c.name, (x + 22, top + 13), _FONT, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return strip
