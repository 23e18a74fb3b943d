"""Import LabelMe: one JSON file per image, with polygons and other shapes.

Reference: https://github.com/wkentaro/labelme (labelme/label_file.py, labelme/utils/shape.py)
"""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import Split
from edge_runtime.image import decode
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.errors import ImportProblemsError
from training.importers.files import FileFinder, split_of, unlisted_images, walk
from training.importers.plan import Item, Labels, Plan, Size, counted, label_classes
from training.importers.shapes import Region, box, ellipse, polygon, strip

LINE_WIDTH_PX = 10
"""Width of a drawn line in pixels, as in LabelMe's own export."""
_IGNORED = "__ignore__"
_DRAWN = ("polygon", "rectangle", "circle", "line", "linestrip", "mask")
_CORNERS = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "mask": 2}


def plan(src: Path) -> Plan:
    """Read the JSON files below a folder.

    Raises:
        DataError: There is no LabelMe file, or labels.txt is wrong.
    """
    problems: list[str] = []
    left_out: list[str] = []
    files: dict[Path, dict[str, Any]] = {}
    for path in walk(src):
        if path.suffix.lower() == ".json":
            try:
                document = documents.read_json(path)
            except DataError as error:
                problems.append(str(error))
                continue
            if isinstance(document.get("shapes"), list):
                files[path] = document
            else:
                left_out.append(f"{printable(path)} — no file of LabelMe: it has no shapes")
    if not files and problems:
        raise ImportProblemsError(problems)
    if not files:
        raise DataError(f"{printable(src)} — no JSON file of LabelMe — expected a.json beside a.jpg")
    labels, counts = _labels(src, files), Counter[str]()
    finder, items = FileFinder(src), []
    splits = _splits(src, files)
    for path, document in files.items():
        try:
            shapes = _drawn(document["shapes"], path, labels, counts)
            image, name = _image(document, path, finder)
        except DataError as error:
            problems.append(str(error))
            continue
        if image is None:
            left_out.append(f"{printable(path)} — its image {name} is not found, and not inside the JSON")
            continue
        height, width = document.get("imageHeight"), document.get("imageWidth")
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        draw = partial(_draw, shapes, labels, printable(path))
        items.append(Item(name=name, image=image, draw=draw, split=splits[path], size=size))
    counts["images without a JSON: not imported"] = unlisted_images(src, {item.image for item in items})
    return Plan(
        classes=labels.classes,
        items=tuple(items),
        problems=tuple(problems),
        left_out=tuple(left_out),
        notes=counted(counts),
    )


def _labels(src: Path, files: dict[Path, dict[str, Any]]) -> Labels:
    """Number the labels of labels.txt, or else all labels sorted by name."""
    if (src / "labels.txt").is_file():
        names = documents.read_lines(src / "labels.txt")
        where = printable(src / "labels.txt")
    else:
        shapes = (shape for document in files.values() for shape in document["shapes"] if isinstance(shape, dict))
        names = sorted({str(shape.get("label")) for shape in shapes if _kind(shape) in _DRAWN})
        where = printable(src)
    labels = label_classes((name for name in names if name != _IGNORED), where=where)
    labels.ids[_IGNORED] = IGNORE
    return labels


def _splits(src: Path, files: dict[Path, dict[str, Any]]) -> dict[Path, Split | None]:
    """Return the split of each file by its top folder; None for all, unless each top folder names a split."""
    splits = {path: split_of(path.relative_to(src).parts[0]) if path.parent != src else None for path in files}
    return splits if all(splits.values()) else dict.fromkeys(files)


def _image(document: dict[str, Any], path: Path, finder: FileFinder) -> tuple[Path | bytes | None, str]:
    """Return the image that a file names, or else the one inside it, and its name."""
    named = document.get("imagePath")
    if isinstance(named, str) and (found := finder.find(named, [path.parent], printable(path))):
        return found, finder.name(found)
    if isinstance(document.get("imageData"), str):
        return _base64(document["imageData"], f"{printable(path)} — imageData"), finder.name(path)
    return None, printable(str(named))


def _drawn(shapes: Sequence[Any], path: Path, labels: Labels, counts: Counter[str]) -> list[dict[str, Any]]:
    """Return the shapes that have an area."""
    drawn = []
    for index, shape in enumerate(shapes):
        where = f"{printable(path)}: shape {index}"
        label = documents.field(shape, "label", str, where)
        if _kind(shape) not in _DRAWN:
            counts[f"{_kind(shape)} shapes without an area: not drawn"] += 1
            continue
        if label not in labels.ids:
            raise DataError(
                f"{where} — label '{printable(label)}' — expected one of labels.txt — add it there or correct it"
            )
        drawn.append(shape)
    return drawn


def _kind(shape: Any) -> str:
    """Return a shape's type; before version 3.6 all were polygons."""
    return str(shape.get("shape_type") or "polygon") if isinstance(shape, dict) else "unknown"


def _draw(shapes: Sequence[dict[str, Any]], labels: Labels, where: str, size: Size) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    for index, shape in enumerate(shapes):
        if region := _region(shape, size, f"{where}: {_kind(shape)} {index}"):
            region.paint(mask, labels.ids[shape["label"]])
    return mask


def _region(shape: dict[str, Any], size: Size, where: str) -> Region | None:
    kind = _kind(shape)
    points = documents.point_array(documents.field(shape, "points", list, where), where)
    if len(points) < _CORNERS[kind]:
        raise DataError(f"{where} — {len(points)} points — expected at least {_CORNERS[kind]} — correct or remove it")
    (x, y), (other_x, other_y) = points[0], points[1]
    if kind == "polygon":
        return polygon(points, size)
    if kind == "rectangle":
        return box(x, y, other_x, other_y, size)
    if kind == "circle":
        radius = math.hypot(other_x - x, other_y - y)
        return ellipse(x, y, radius, radius, size)
    if kind == "mask":
        crop = decode(_base64(documents.field(shape, "mask", str, where), where), where, mode="raw")
        return _crop(crop, round(y), round(x), size)
    return strip(points, LINE_WIDTH_PX, size)


def _crop(crop: NDArray[np.uint8], top: int, left: int, size: Size) -> Region | None:
    """Return the non-zero pixels of a mask picture, placed at (top, left) and cropped to the image."""
    inside = (crop if crop.ndim == 2 else crop[..., :3].max(axis=2)) > 0
    inside = inside[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)]
    return Region(top=max(0, top), left=max(0, left), inside=inside) if inside.size else None


def _base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as cause:
        raise DataError(f"{where} — not valid base64 ({cause}) — save the annotation again") from cause
