"""Write the page of ``data check --report``: each kind of problem with pictures of some files, and a list of all.

The page is self-contained and looks as ``report.html`` of a training run does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.mask_files import read_mask, unpack_color
from edge_runtime.dataset.pairs import Pair, Problem
from edge_runtime.errors import InputError
from edge_runtime.image import read_image
from edge_runtime.segment.preprocess import resize_image, resize_mask
from edge_runtime.storage import printable, write_bytes
from training.data.check.findings import DatasetReport, share
from training.data.check.kinds import Kind, by_kind, own_values, within
from training.data.check.terminal import summary
from training.data.dataset import read_class_ids
from training.report import data_uri, environment
from training.report.pictures import with_mask
from training.report.tables import css

SHOWN = 6
"""Number of files per kind that have pictures."""
HEIGHT_PX, WIDTH_PX = 300, 400
"""Largest size of a picture in pixels: about twice its size on the page, so that it is sharp on any screen."""
_COPIES = ("leak", "near_duplicate", "duplicate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Pictures of a file with a problem: its path, its own values, and (data URI, caption) of each picture."""

    file: str
    values: str
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A kind of problem on the page, with examples, and path and message of each file."""

    kind: Kind
    heading: str
    examples: tuple[Example, ...]
    files: tuple[tuple[str, str], ...]


def write_problems(path: Path, report: DatasetReport) -> None:
    """Write the page atomically.

    Args:
        path: Path of the HTML file.
        report: Result of a dataset check.

    Raises:
        StorageError: The file cannot be written.
    """
    write_bytes(path, render_problems(report).encode("utf-8", "backslashreplace"))


def render_problems(report: DatasetReport) -> str:
    """Return the page as HTML with all pictures inside."""
    sections = [_section(kind, report) for kind in by_kind(report.problems)]
    errors = sum(len(s.kind.problems) for s in sections if s.kind.severity == "error")
    pixels, images_with, by_split = report.pixels, report.images_with, report.split_pixels()
    return (
        environment()
        .get_template("problems.html.j2")
        .render(
            name=printable(report.dataset.root.resolve().name),
            root=printable(report.dataset.root),
            summary=summary(report)[1:],
            encoding=report.encoding,
            splits={split: len(pairs) for split, pairs in report.dataset.splits.items()},
            pairs=len(report.dataset.pairs()),
            errors=errors,
            warnings=len(report.problems) - errors,
            sections=sections,
            classes=[
                {
                    "id": c.id,
                    "name": printable(c.name),
                    "color": css(c),
                    "images": int(images_with[c.id]),
                    "share": share(pixels, c.id),
                    "shares": [share(counts, c.id) for counts in by_split.values()],
                }
                for c in report.info.classes
            ],
            class_splits=list(by_split),
        )
    )


def _section(kind: Kind, report: DatasetReport) -> Section:
    root = report.dataset.root
    pairs = {str(file): pair for pair in _all_pairs(report) for file in (pair.image, pair.mask)}
    earlier = {str(copy.later.image): copy.earlier for copy in reversed(report.copies)}
    examples = [
        Example(file=within(root, printable(problem.file)), values=within(root, own_values(problem)), figures=figures)
        for problem in kind.problems[:SHOWN]
        if (figures := _figures(problem, report, pairs, earlier))
    ]
    files = [(within(root, printable(p.file)), within(root, p.message)) for p in kind.problems]
    return Section(kind=kind, heading=kind.heading, examples=tuple(examples), files=tuple(files))


def _all_pairs(report: DatasetReport) -> list[Pair]:
    return [*report.dataset.pairs(), *report.quarantined]


def _figures(
    problem: Problem, report: DatasetReport, pairs: Mapping[str, Pair], earlier: Mapping[str, Pair]
) -> tuple[tuple[str, str], ...]:
    """Return the pictures that can be drawn of a problem's file, each with a caption."""
    pair = pairs.get(problem.file)
    if pair is None:  # a file without a partner, or no file at all
        path = Path(problem.file)
        is_mask = path.parent in {pair.mask.parent for pair in pairs.values() if pair.mask is not None}
        drawn = [("", _drawn(partial(_as_stored if is_mask else _image, path)))] if path.is_file() else []
    else:
        drawn = [("image", _drawn(partial(_image, pair.image))), ("mask", _drawn(partial(_mask, pair, report)))]
        other = earlier.get(problem.file) if problem.code in _COPIES else None
        if other is not None:
            drawn += [
                (other.image.name, _drawn(partial(_image, other.image))),
                ("its mask", _drawn(partial(_mask, other, report))),
            ]
    return tuple((data_uri(picture), printable(caption)) for caption, picture in drawn if picture is not None)


def _drawn(draw: partial[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """Return a picture; None if its file cannot be read, which is among its problems."""
    try:
        return draw()
    except InputError:
        return None


def _image(path: Path) -> NDArray[np.uint8]:
    """Return an image made smaller, (H, W, 3) uint8 BGR."""
    image_bgr = read_image(path)
    return resize_image(image_bgr, *_smaller(image_bgr.shape[:2]))


def _mask(pair: Pair, report: DatasetReport) -> NDArray[np.uint8]:
    """Return a mask over its image, or alone if it does not fit: made smaller, (H, W, 3) uint8 BGR."""
    try:
        ids = read_class_ids(pair, report.key)
    except InputError:
        return _as_stored(pair.mask or pair.image)
    size = _smaller(ids.shape)
    small = resize_mask(ids, *size)
    if report.shapes.get(pair) == ids.shape:
        return with_mask(resize_image(read_image(pair.image), *size), small, report.info.classes)
    return with_mask(np.full((*size, 3), 128, np.uint8), small, report.info.classes)


def _as_stored(path: Path) -> NDArray[np.uint8]:
    """Return a mask whose values stand for no class, as a picture: its colours, or a grey level per value."""
    mask = read_mask(path, allow_lossy=True)
    values = mask.values
    if mask.form == "color":
        picture = np.stack([values & 255, values >> 8 & 255, values >> 16], axis=-1).astype(np.uint8)
    elif mask.palette:
        table = np.zeros((256, 3), np.uint8)
        table[: len(mask.palette)] = [unpack_color(color)[::-1] for color in mask.palette[:256]]
        picture = table[values]
    else:
        found, place = np.unique(values, return_inverse=True)
        levels = np.linspace(0, 255, len(found)).astype(np.uint8)
        picture = np.asarray(cv2.cvtColor(levels[place].reshape(values.shape), cv2.COLOR_GRAY2BGR), np.uint8)
    height_px, width_px = _smaller(values.shape)
    return np.asarray(cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_NEAREST), np.uint8)


def _smaller(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (height, width) at most as large as a picture on the page."""
    scale = min(1.0, HEIGHT_PX / shape[0], WIDTH_PX / shape[1])
    return max(1, round(scale * shape[0])), max(1, round(scale * shape[1]))
