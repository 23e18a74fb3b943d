"""Import CVAT for images 1.1 and CVAT for video 1.1: one XML file with labels and shapes.

Reference: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and …/docs/other/xml_format/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.cvat_video import frames_of_tracks
from training.importers.files import FileFinder, split_of, unlisted_images
from training.importers.glance import files, peek
from training.importers.painting import Drawing, Shape
from training.importers.plan import Color, Item, Labels, Plan, Tally, label_classes
from training.importers.shapes import Region, Size, box, ellipse, pixels, polygon, runs

_DRAWN = ("polygon", "box", "ellipse", "mask")
_UNDRAWN = {
    **dict.fromkeys(("polyline", "points", "skeleton", "tag"), "without an area"),
    "cuboid": "in space",
}


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".xml"}, depth=0):
        text = peek(path)
        if "<annotations>" in text and (kind := re.search(r"<(image|track)\s", text)):
            return f"{path.name} has {'images' if kind[1] == 'image' else 'tracks of a video'} of CVAT"
    return None


def plan(src: Path) -> Plan:
    """Read the XML of a CVAT export.

    Raises:
        DataError: There is no XML file, it cannot be read, or the frames of its video are not there.
    """
    path = _annotation_file(src)
    root = documents.read_xml(path)
    if root.tag != "annotations":
        raise DataError(
            f"{printable(path)} — <{root.tag}> — expected 'CVAT for images 1.1' or 'CVAT for video 1.1' — export the "
            "task in one of these formats"
        )
    tracks = frames_of_tracks(root, path, src)
    elements = [*root.findall("image"), *tracks.images]
    labels = _labels(root, elements, path)
    finder, undrawn, notes = FileFinder(src), Tally(), Tally()
    problems = list(tracks.problems)
    left_out = list(tracks.left_out)
    items: dict[Path, Item] = {}
    for element in elements:
        name, where = element.get("name", ""), f"{printable(path)}: image '{printable(element.get('name', ''))}'"
        try:
            image = finder.find_image(name, _image_folders(path, element.get("subset", "")), where)
            size = _size(element, where)
        except DataError as error:
            problems.append(str(error))
            continue
        if image is None:
            left_out.append(f"{printable(name)} — image not found ({len(element)} shapes in {printable(path)})")
        elif image in items:
            problems.append(f"{where} — is listed twice — expected once")
        else:
            drawing = Drawing(shapes=_shapes(element, labels, where, undrawn, problems))
            split = split_of(element.get("subset", ""))
            group = element.get("group")
            items[image] = Item(name=finder.name(image), image=image, draw=drawing, split=split, size=size, group=group)
    for image in unlisted_images(src, items.keys()):
        notes.add("images that the XML does not list: not imported", finder.name(image))
    return Plan(
        classes=labels.classes,
        items=tuple(items.values()),
        problems=tuple(problems),
        left_out=tuple(left_out),
        undrawn=undrawn.lines(),
        notes=(*tracks.notes, *notes.lines()),
    )


def _annotation_file(src: Path) -> Path:
    named = src / "annotations.xml"
    others = sorted(src.glob("*.xml"))
    if not named.is_file() and len(others) != 1:
        raise DataError(
            f"{printable(src)} — {len(others)} XML files — expected annotations.xml, with images/ beside it"
        )
    return named if named.is_file() else others[0]


def _image_folders(path: Path, subset: str) -> list[Path]:
    """Return the folders that may hold the images: a project's export has one per subset."""
    bases = [path.parent / "images", path.parent]
    return [base / subset for base in bases if subset and "/" not in subset and "\\" not in subset] + bases


def _size(image: Element, where: str) -> Size | None:
    """Return the size of an image; frames of a video need not have one."""
    if image.get("height") is None and image.get("width") is None:
        return None
    height, width = (int(documents.number(image.get(key), where, key)) for key in ("height", "width"))
    return height, width


def _labels(root: Element, images: Sequence[Element], path: Path) -> Labels:
    """Number the labels of the task, project or job, or those of the shapes if the file has no list."""
    names, colors = [], {}
    for element in root.iterfind("./meta//labels/label"):
        if element.find("parent") is not None or element.findtext("type") in ("skeleton", "points", "polyline", "tag"):
            continue  # a skeleton's joints, and other labels without an area
        names.append(element.findtext("name") or "")
        if color := _color(element.findtext("color") or ""):
            colors[names[-1]] = color
    if not names:
        names = sorted({shape.get("label", "") for image in images for shape in image if shape.tag in _DRAWN})
    return label_classes(names, colors, where=printable(path))


def _color(text: str) -> Color | None:
    """Return the colour of "#rrggbb", or None for another text."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _shapes(image: Element, labels: Labels, where: str, undrawn: Tally, problems: list[str]) -> tuple[Shape, ...]:
    """Return the shapes that have an area, by ascending z_order."""
    shapes: list[tuple[float, Shape]] = []
    for element in image:
        kind, label = element.tag, element.get("label", "")
        if kind in _UNDRAWN:
            undrawn.add(f"{kind} shapes {_UNDRAWN[kind]}: not drawn", where)
            continue
        try:
            if kind not in _DRAWN:
                raise DataError(f"{where} — a <{kind}> — expected {', '.join(_DRAWN)} — export it as CVAT 1.1")
            if label not in labels.ids:
                raise DataError(f"{where} — label '{printable(label)}' — expected one of the labels in <meta>")
            order = documents.number(element.get("z_order", "0"), where, "z_order")
        except DataError as error:
            problems.append(str(error))
            continue
        regions = partial(_regions, element, f"{where}: {kind}")
        named = f"{where}: {kind} '{printable(label)}'"
        shapes.append((order, Shape(where=named, kind=kind, class_id=labels.ids[label], regions=regions)))
    return tuple(shape for _, shape in sorted(shapes, key=lambda pair: pair[0]))


def _regions(shape: Element, where: str, size: Size) -> list[Region]:
    def value(key: str) -> float:
        return documents.number(shape.get(key, "0" if key == "rotation" else None), where, key)

    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        return [polygon(documents.point_array(pairs, where), size)]
    if shape.tag == "box":
        return [box(value("xtl"), value("ytl"), value("xbr"), value("ybr"), size, degrees=value("rotation"))]
    if shape.tag == "ellipse":
        return [ellipse(value("cx"), value("cy"), value("rx"), value("ry"), size, degrees=value("rotation"))]
    top, left, height, width = (int(value(key)) for key in ("top", "left", "height", "width"))
    if top < 0 or left < 0 or height < 0 or width < 0 or top + height > size[0] or left + width > size[1]:
        raise DataError(
            f"{where} — {width}x{height} at {left},{top} — expected it inside the image, {size[1]}x{size[0]}"
        )
    inside = runs(shape.get("rle", "").split(","), (height, width), "C", where)
    return [pixels(inside, size, top=top, left=left)]
