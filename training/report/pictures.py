"""Draw pictures to judge by eye: predictions beside true masks, and contact sheets of a dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import SegmentFrame
from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import Pair, Split
from edge_runtime.dataset.sampling import spread
from edge_runtime.effects import overlay_of_mask
from edge_runtime.effects.lettering import FONT, label_of, writable
from edge_runtime.image import encode_png, read_image
from edge_runtime.model.contract import ClassInfo
from edge_runtime.segment.preprocess import resize_image, resize_mask
from edge_runtime.storage import printable, translated, write_bytes
from training.data.check.findings import DatasetReport, share
from training.data.dataset import read_class_ids
from training.errors import DataError
from training.monitor.samples import ReadTruth, read_samples

PICTURES = 6
_CAPTION_PX = 24
_HOW_TO_READ = "'{}' is not drawn; ignored pixels are hatched"
_PANEL_AREA_PX = 240 * 180
_GAP_PX = 8
_FIELD = 225
"""Grey level around images that do not fill their cell."""
_INK = (40, 40, 40)


def write_pictures(
    folder: Path, pairs: Sequence[Pair], read_truth: ReadTruth, segment: SegmentFrame, classes: tuple[ClassInfo, ...]
) -> None:
    """Write image, truth, prediction and wrong pixels side by side for a few images, spread over the pairs.

    Args:
        folder: Folder for the pictures, created if missing.
        pairs: Pairs of the validation split.
        read_truth: Function that reads the mask of a pair as (H, W) uint8 class ids, or ``IGNORE``.
        segment: Function of (H, W, 3) uint8 BGR that returns (H, W) uint8 class ids.
        classes: Classes in order of their ids.

    Raises:
        InputError: A file cannot be read.
        StorageError: A picture cannot be written.
    """
    with translated("write", folder):
        folder.mkdir(exist_ok=True)
    for sample in read_samples(spread(pairs, PICTURES), read_truth, segment):
        panels = [
            captioned(sample.image_bgr, sample.name),
            captioned(sample.painted_truth(classes), "truth"),
            captioned(sample.painted_prediction(classes), "prediction"),
            captioned(sample.errors(), "wrong pixels"),
        ]
        path = folder / f"{sample.name}.png"
        write_bytes(path, encode_png(np.hstack(panels), printable(path)))


def contact_sheet(report: DatasetReport, *, pictures: int = 24, width_px: int = 1500) -> NDArray[np.uint8]:
    """Return a contact sheet, (H, W, 3) uint8 BGR: images of all splits and classes, each beside a copy with its mask.

    All are scaled to cells of one size in the shape of the median image. A legend names the classes with their share of
    the pixels; ignored pixels are hatched.

    Args:
        report: A checked dataset; pairs that cannot be used are left out.
        pictures: Maximum number of pairs.
        width_px: Maximum width in pixels, unless one pair alone is wider.

    Raises:
        DataError: No pair can be used.
    """
    chosen = choose_pairs(report, pictures)
    if not chosen:
        raise DataError(
            f"dataset {printable(report.dataset.root)} — no pair that can be drawn — `edge-unet data check` lists why"
        )
    height_px, panel_px = _panel_size(report)
    tiles = [_tile(report, split, pair, height_px, panel_px) for split, pair in chosen]
    columns = max(1, min(width_px // (2 * panel_px), math.ceil(math.sqrt(len(tiles)))))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    pixels = report.pixels
    names = [c.name if label_of(c) == c.name else f"{label_of(c)} ({c.name})" for c in report.info.classes]
    shares = [f"{name} {share(pixels, i):.1%}" for i, name in enumerate(names)]
    key = captioned(np.full((0, sheet.shape[1], 3), 255, np.uint8), _HOW_TO_READ.format(report.info.classes[0].name))
    return np.vstack([legend(report.info.classes, sheet.shape[1], shares), key, sheet])


def choose_pairs(report: DatasetReport, count: int) -> list[tuple[Split, Pair]]:
    """Choose pairs to show: one per class, the rarest first, then others spread evenly over the splits.

    Args:
        report: A checked dataset.
        count: Maximum number of pairs.

    Returns:
        Split and pair, in order of the dataset.
    """
    bad = {problem.file for problem in report.problems if problem.severity == "error"}
    usable = [
        (split, pair)
        for split, pairs in report.dataset.splits.items()
        for pair in pairs
        if pair in report.counts and pair in report.shapes and not {str(pair.image), str(pair.mask)} & bad
    ]
    if not usable:
        return []
    counts = np.stack([report.counts[pair] for _, pair in usable])
    chosen: set[int] = set()
    for class_id in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        has_it = counts[:, class_id] > 0
        if len(chosen) < count and has_it.any() and not has_it[list(chosen)].any():
            chosen.add(int(counts[:, class_id].argmax()))
    by_split: list[list[int]] = []
    for split in report.dataset.splits:
        members = [i for i, (s, _) in enumerate(usable) if s == split]
        # Spread evenly over each split, in an order of which any first part is spread, too.
        places = dict.fromkeys(np.linspace(0, len(members) - 1, count).round().astype(int).tolist() if members else [])
        by_split.append([members[place] for place in _from_far_apart(list(places))])
    for in_turn in zip_longest(*by_split):
        for index in in_turn:
            if index is not None and len(chosen) < count:
                chosen.add(index)
    return [usable[i] for i in sorted(chosen)]


def _from_far_apart(places: list[int]) -> list[int]:
    """Return places in an order whose first ones are far apart: sorted by the reversed bits of their index."""
    bits = max(1, (len(places) - 1).bit_length())
    return [places[i] for i in sorted(range(len(places)), key=lambda i: f"{i:0{bits}b}"[::-1])]


def _panel_size(report: DatasetReport) -> tuple[int, int]:
    """Return the (height, width) of a picture on the sheet: a fixed area in the median aspect ratio."""
    ratios = sorted(width / height for height, width in report.shapes.values())
    ratio = min(max(ratios[len(ratios) // 2], 0.4), 2.5)
    return round(math.sqrt(_PANEL_AREA_PX / ratio)), round(math.sqrt(_PANEL_AREA_PX * ratio))


def _tile(report: DatasetReport, split: Split, pair: Pair, height_px: int, panel_px: int) -> NDArray[np.uint8]:
    """Draw an image beside its mask at the size on the sheet, so that outlines are equally thick for all images."""
    image_bgr = read_image(pair.image)
    panel_px -= _GAP_PX // 2
    scale = min(height_px / image_bgr.shape[0], panel_px / image_bgr.shape[1])
    inner = (max(1, round(scale * image_bgr.shape[0])), max(1, round(scale * image_bgr.shape[1])))
    small = resize_image(image_bgr, *inner)
    ids = resize_mask(read_class_ids(pair, report.key), *inner)
    drawn = with_mask(small, ids, report.info.classes)
    panels = [_centred(panel, height_px, panel_px) for panel in (small, drawn)]
    return captioned(np.hstack(panels), f"{split}: {pair.image.name}", _GAP_PX)


def with_mask(
    image_bgr: NDArray[np.uint8], ids: NDArray[np.uint8], classes: tuple[ClassInfo, ...]
) -> NDArray[np.uint8]:
    """Return a copy of an image with its mask, (H, W) uint8 class ids, over it; ignored pixels are hatched."""
    drawn = overlay_of_mask(image_bgr, np.where(ids == IGNORE, 0, ids).astype(np.uint8), classes)
    return _hatched(drawn, ids == IGNORE)


def _centred(image_bgr: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return the image in the middle of a light field."""
    field = np.full((height_px, width_px, 3), _FIELD, np.uint8)
    top, left = (height_px - image_bgr.shape[0]) // 2, (width_px - image_bgr.shape[1]) // 2
    field[top : top + image_bgr.shape[0], left : left + image_bgr.shape[1]] = image_bgr
    return field


def _hatched(image_bgr: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw black and white stripes over ignored pixels."""
    rows, columns = np.indices(where.shape)
    phase = (rows + columns) % 8
    drawn = image_bgr.copy()
    drawn[where & (phase < 2)] = 255
    drawn[where & (phase >= 2) & (phase < 4)] = 0
    return drawn


def captioned(image_bgr: NDArray[np.uint8], text: str, gap_px: int = 0) -> NDArray[np.uint8]:
    """Return the image with a line of text above it, shortened in the middle if too long, and a gap on the right."""
    height_px, width_px = image_bgr.shape[:2]
    field = np.full((height_px + _CAPTION_PX, width_px + gap_px, 3), 255, np.uint8)
    shown = whole = writable(text)
    kept = len(whole) // 2
    while kept > 1 and _text_px(shown, 0.45) > width_px - 8:
        kept -= 1
        shown = f"{whole[:kept]}...{whole[-kept:]}"
    cv2.putText(field, shown, (4, _CAPTION_PX - 7), FONT, 0.45, _INK, 1, cv2.LINE_AA)
    field[_CAPTION_PX:, :width_px] = image_bgr
    return field


def legend(classes: tuple[ClassInfo, ...], width_px: int, texts: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Return a strip, (H, width_px, 3) uint8 BGR, with the colour of each class and its name or the given text."""
    entries: list[tuple[int, int, str, ClassInfo]] = []
    x, row = 8, 0
    for c, text in zip(classes, map(writable, texts or [c.name for c in classes]), strict=True):
        needed_px = _text_px(text, 0.5) + 40
        if x + needed_px > width_px and x > 8:
            x, row = 8, row + 1
        entries.append((x, row, text, c))
        x += needed_px
    strip = np.full(((row + 1) * _CAPTION_PX + 8, width_px, 3), 255, np.uint8)
    for x, row, text, c in entries:
        top = row * _CAPTION_PX + 6
        cv2.rectangle(strip, (x, top), (x + 16, top + 16), c.color[::-1], -1)
        cv2.rectangle(strip, (x, top), (x + 16, top + 16), _INK, 1)
        cv2.putText(strip, text, (x + 22, top + 13), FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return strip


def _text_px(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, FONT, scale, 1)[0][0])
