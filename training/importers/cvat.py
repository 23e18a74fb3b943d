"""Import CVAT for images 1.1: one XML file with labels and shapes.

Reference: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and …/docs/other/xml_format/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.files import FileFinder, split_of, unlisted_images
from training.importers.plan import Color, Item, Labels, Plan, Size, counted, label_classes
from training.importers.shapes import Region, box, ellipse, polygon, runs

_DRAWN = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")


def plan(src: Path) -> Plan:
    """Read the XML of a CVAT export.

    Raises:
        DataError: There is no XML file, it cannot be read, or it annotates a video.
    """
    path = _annotation_file(src)
    root = documents.read_xml(path)
    if root.tag != "annotations" or root.find("track") is not None:
        found = f"<{root.tag}>" if root.tag != "annotations" else "tracks of a video"
        raise DataError(
            f"{printable(path)} — {found} — expected 'CVAT for images 1.1' — export the task in that format"
        )
    labels = _labels(root, path)
    finder, counts = FileFinder(src), Counter[str]()
    problems: list[str] = []
    left_out: list[str] = []
    items: dict[Path, Item] = {}
    elements = root.findall("image")
    splits = {split_of(element.get("subset", "")) for element in elements}
    if len(splits) > 1 and None in splits:
        problems.append(
            f"{printable(path)} — some images are in no subset — expected Train, Validation or Test for each"
        )
    for element in elements:
        name, where = element.get("name", ""), f"{printable(path)}: image '{printable(element.get('name', ''))}'"
        try:
            image = finder.find(name, _image_folders(path, element.get("subset", "")), where)
            shapes = _shapes(element, labels, counts, where)
            size = tuple(int(documents.number(element.get(key), where, key)) for key in ("height", "width"))
        except DataError as error:
            problems.append(str(error))
            continue
        if image is None:
            left_out.append(f"{printable(name)} — image not found ({len(shapes)} shapes in {printable(path)})")
        elif image in items:
            problems.append(f"{where} — is listed twice — expected once")
        else:
            draw = partial(_draw, shapes, labels, where)
            split = split_of(element.get("subset", ""))
            items[image] = Item(name=finder.name(image), image=image, draw=draw, split=split, size=(size[0], size[1]))
    counts["images that the XML does not list: not imported"] = unlisted_images(src, items.keys())
    return Plan(
        classes=labels.classes,
        items=tuple(items.values()),
        problems=tuple(problems),
        left_out=tuple(left_out),
        notes=counted(counts),
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


def _labels(root: Element, path: Path) -> Labels:
    """Number the labels of the task, project or job, or those of the shapes if the file has no list."""
    names, colors = [], {}
    for element in root.iterfind("./meta//labels/label"):
        if element.find("parent") is not None or element.findtext("type") in ("skeleton", "points", "polyline", "tag"):
            continue  # a skeleton's joints, and other labels without an area
        names.append(element.findtext("name") or "")
        if color := _color(element.findtext("color") or ""):
            colors[names[-1]] = color
    if not names:
        names = sorted({shape.get("label", "") for tag in _DRAWN for shape in root.iterfind(f"./image/{tag}")})
    return label_classes(names, colors, where=printable(path))


def _color(text: str) -> Color | None:
    """Return the colour of "#rrggbb", or None for another text."""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _shapes(image: Element, labels: Labels, counts: Counter[str], where: str) -> list[Element]:
    """Return the shapes that have an area, by ascending z_order."""
    shapes = [element for element in image if element.tag in _DRAWN]
    for element in image:
        if element.tag in _WITHOUT_AREA:
            counts[f"{element.tag} shapes without an area: not drawn"] += 1
        elif element.tag not in _DRAWN:
            raise DataError(f"{where} — a <{element.tag}> — expected {', '.join(_DRAWN)} — export it as CVAT 1.1")
        elif element.get("label") not in labels.ids:
            raise DataError(
                f"{where} — label '{printable(element.get('label', ''))}' — expected one of the labels in <meta>"
            )
    return sorted(shapes, key=lambda shape: documents.number(shape.get("z_order", "0"), where, "z_order"))


def _draw(shapes: Sequence[Element], labels: Labels, where: str, size: Size) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    for shape in shapes:
        _region(shape, size, f"{where}: {shape.tag}").paint(mask, labels.ids[shape.get("label", "")])
    return mask


def _region(shape: Element, size: Size, where: str) -> Region:
    def value(key: str) -> float:
        return documents.number(shape.get(key, "0" if key == "rotation" else None), where, key)

    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        return polygon(documents.point_array(pairs, where), size)
    if shape.tag == "box":
        return box(value("xtl"), value("ytl"), value("xbr"), value("ybr"), size, degrees=value("rotation"))
    if shape.tag == "ellipse":
        return ellipse(value("cx"), value("cy"), value("rx"), value("ry"), size, degrees=value("rotation"))
    top, left, height, width = (int(value(key)) for key in ("top", "left", "height", "width"))
    if top < 0 or left < 0 or height < 0 or width < 0 or top + height > size[0] or left + width > size[1]:
        raise DataError(
            f"{where} — {width}x{height} at {left},{top} — expected it inside the image, {size[1]}x{size[0]}"
        )
    return Region(top=top, left=left, inside=runs(shape.get("rle", "").split(","), (height, width), "C", where))
