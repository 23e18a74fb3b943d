"""Import LabelMe: one JSON file per image, with polygons and other shapes.

Reference: https://github.com/wkentaro/labelme (labelme/label_file.py, labelme/utils/shape.py);
https://github.com/CVHub520/X-AnyLabeling (docs/en/user_guide.md: shapes)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.image import decode
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.errors import ImportProblemsError
from training.importers.files import FileFinder, folder_splits, source_files, unlisted_images
from training.importers.glance import files, peek
from training.importers.painting import Drawing, Shape
from training.importers.plan import Item, Labels, Plan, Tally, label_classes
from training.importers.shapes import Region, Size, box, ellipse, pixels, polygon, strip

LINE_WIDTH_PX = 10
"""Width of a drawn line in pixels, as in LabelMe's own export."""
_IGNORED = "__ignore__"
_CORNERED = ("polygon", "rectangle", "rotation", "oriented_rectangle", "quadrilateral")
_DRAWN = (*_CORNERED, "circle", "line", "linestrip", "mask")
_UNDRAWN = {
    **dict.fromkeys(("point", "points"), "without an area"),
    "cuboid": "in space",
}


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".json"}):
        text = peek(path)
        if re.search(r'"shapes"\s*:\s*\[', text) and re.search(r'"(imagePath|shape_type|imageData)"\s*:', text):
            return f"{path.relative_to(src).as_posix()} has shapes of one image"
    return None


def plan(src: Path) -> Plan:
    """Read the JSON files below a folder.

    Raises:
        DataError: There is no LabelMe file, or labels.txt is wrong.
    """
    problems: list[str] = []
    left_out: list[str] = []
    files: dict[Path, dict[str, Any]] = {}
    for path in source_files(src):
        if path.suffix.lower() == ".json":
            try:
                document = documents.read_json_value(path)
            except DataError as error:
                problems.append(str(error))
                continue
            if isinstance(document, dict) and isinstance(document.get("shapes"), list):
                files[path] = document
            else:
                left_out.append(f"{printable(path)} — no file of LabelMe: it has no shapes")
    if not files and problems:
        raise ImportProblemsError(problems)
    if not files:
        reason = f": {left_out[0]}" if left_out else ""
        raise DataError(f"{printable(src)} — no JSON file of LabelMe{reason} — expected a.json beside a.jpg")
    labels, undrawn, notes = _labels(src, files), Tally(), Tally()
    finder = FileFinder(src)
    splits = dict(zip(files, folder_splits([finder.name(path) for path in files], notes), strict=True))
    items: list[Item] = []
    of_file: dict[Path, Path] = {}
    for path, document in files.items():
        shapes = _shapes(document["shapes"], path, labels, undrawn, problems)
        try:
            image, name = _image(document, path, src, finder)
        except DataError as error:
            problems.append(str(error))
            continue
        if image is None:
            left_out.append(f"{printable(path)} — its image {name} is not found, and not inside the JSON")
            continue
        if isinstance(image, Path) and (other := of_file.setdefault(image, path)) != path:
            problems.append(
                f"{printable(path)} — is of {printable(name)}, as {printable(other)} is — expected one JSON for an image "
                "— correct its imagePath or remove it"
            )
            continue
        size = documents.stated_size(document, "imageHeight", "imageWidth")
        items.append(Item(name=name, image=image, draw=Drawing(shapes=shapes), split=splits[path], size=size))
    for image in unlisted_images(src, {item.image for item in items}):
        notes.add("images without a JSON: not imported", finder.name(image))
    return Plan(
        classes=labels.classes,
        items=tuple(items),
        problems=tuple(problems),
        left_out=tuple(left_out),
        undrawn=undrawn.lines(),
        notes=notes.lines(),
        keeps_unused=(src / "labels.txt").is_file(),
    )


def _labels(src: Path, files: dict[Path, dict[str, Any]]) -> Labels:
    """Number the labels of labels.txt, or else all labels sorted by name."""
    if (src / "labels.txt").is_file():
        names = documents.read_lines(src / "labels.txt")
        where = printable(src / "labels.txt")
    else:
        shapes = (shape for document in files.values() for shape in document["shapes"] if isinstance(shape, dict))
        labels = [shape.get("label") for shape in shapes if _kind(shape) in _DRAWN]
        names = sorted({label for label in labels if isinstance(label, str) and label.strip()})
        where = printable(src)
    return label_classes((name for name in names if name != _IGNORED), where=where)


def _image(document: dict[str, Any], path: Path, src: Path, finder: FileFinder) -> tuple[Path | bytes | None, str]:
    """Return the image that a file names, or the one inside it, or the one of its own name; and the image's name."""
    named, data, where = document.get("imagePath"), document.get("imageData"), printable(path)
    try:
        # A file elsewhere that has only the name in common is less certain than the image inside.
        folders = [path.parent] if isinstance(data, str) else [path.parent, src]
        found = finder.find(named, folders, where) if isinstance(named, str) else None
    except DataError:
        if not isinstance(data, str):
            raise
        found = None
    if found is None and isinstance(data, str):
        return documents.base64_bytes(data, f"{where} — imageData"), finder.name(path)
    found = found or finder.with_stem(path.parent, path.stem, IMAGE_SUFFIXES)
    return (found, finder.name(found)) if found else (None, printable(str(named)))


def _shapes(
    entries: Sequence[Any], path: Path, labels: Labels, undrawn: Tally, problems: list[str]
) -> tuple[Shape, ...]:
    """Return the shapes that have an area."""
    shapes = []
    for index, entry in enumerate(entries):
        kind = _kind(entry)
        where = f"{printable(path)}: {kind} {index}"
        if kind in _UNDRAWN:
            undrawn.add(f"{kind} shapes {_UNDRAWN[kind]}: not drawn", where)
            continue
        try:
            label = documents.field(entry, "label", str, f"{printable(path)}: shape {index}")
            if kind not in _DRAWN:
                raise DataError(f"{where} — an unknown kind — expected {', '.join(_DRAWN)} — draw it as one of them")
            if label != _IGNORED and label not in labels.ids:
                raise DataError(
                    f"{where} — label '{printable(label)}' — expected one of labels.txt — add it there or correct it"
                    if label.strip()
                    else f"{where} — label is empty — expected a name — add it or remove the shape"
                )
        except DataError as error:
            problems.append(str(error))
            continue
        shapes.append(
            Shape(
                where=f"{where} '{printable(label)}'",
                kind=kind,
                class_id=None if label == _IGNORED else labels.ids[label],
                regions=partial(_regions, entry, kind, where),
            )
        )
    return tuple(shapes)


def _kind(shape: Any) -> str:
    """Return a shape's type; before version 3.6 all were polygons."""
    return printable(str(shape.get("shape_type") or "polygon")).lower() if isinstance(shape, dict) else "shape"


def _regions(shape: dict[str, Any], kind: str, where: str, size: Size) -> list[Region]:
    points = documents.point_array(documents.field(shape, "points", list, where), where)
    if kind == "mask":
        crop = decode(documents.base64_bytes(documents.field(shape, "mask", str, where), where), where, mode="raw")
        if not len(points):
            raise DataError(f"{where} — points are [] — expected the mask's upper left corner")
        inside = (crop if crop.ndim == 2 else crop[..., :3].max(axis=2)) > 0
        return [pixels(inside, size, top=round(points[0, 1]), left=round(points[0, 0]))]
    if len(points) < 2:
        return []
    (x, y), (other_x, other_y) = points[0], points[1]
    if kind in ("line", "linestrip"):
        return [strip(points, LINE_WIDTH_PX, size)]
    if kind == "circle":
        radius = math.hypot(other_x - x, other_y - y)
        return [ellipse(x, y, radius, radius, size)]
    # X-AnyLabeling writes the four corners of a rectangle, LabelMe two opposite ones.
    if kind == "rectangle" and len(points) == 2:
        return [box(x, y, other_x, other_y, size)]
    return [polygon(points, size)]
