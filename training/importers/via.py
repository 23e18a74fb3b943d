"""Import VGG Image Annotator 1 and 2: the JSON and CSV of its annotations, and its project.

Reference: https://www.robots.ox.ac.uk/~vgg/software/via/ and https://gitlab.com/vgg/via (via-2.x.y/CodeDoc.md)
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.errors import ImportProblemsError
from training.importers.files import FileFinder, folder_splits, source_files, unlisted_images
from training.importers.glance import files, peek
from training.importers.painting import Drawing, Shape
from training.importers.plan import Findings, Item, Labels, Plan, label_classes
from training.importers.shapes import Region, Size, box, ellipse, polygon

UNNAMED = "object"
"""Class of the regions of a project without attributes."""
_CLASS_ATTRIBUTES = (("class", "label", "category"), ("name", "type"))
"""Attributes that name a class where regions have several: the certain ones, and those that may be of each object."""
_NUMBERS = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r"), "ellipse": ("cx", "cy", "rx", "ry")}
_WITHOUT_AREA = ("point", "polyline", "line")
_MAX_CELL = 1 << 27
"""Largest cell of a CSV file: the usual limit is a polygon of some ten thousand corners."""
_VIA3 = ("metadata", "attribute", "file", "view")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Region:
    """Region with an area: its kind, its coordinates in pixels and its attributes."""

    where: str
    kind: str
    attributes: dict[str, Any]
    points: NDArray[np.float64] | None
    numbers: tuple[float, ...]

    def regions(self, size: Size) -> list[Region]:
        """Return its pixels in an image of this size."""
        if self.points is not None:
            return [polygon(self.points, size)]
        x, y, *rest = self.numbers
        if self.kind == "rect":
            return [box(x, y, x + rest[0], y + rest[1], size)]
        if self.kind == "circle":
            return [ellipse(x, y, rest[0], rest[0], size)]
        return [ellipse(x, y, rest[0], rest[1], size, degrees=math.degrees(rest[2]))]


@dataclass(slots=True, kw_only=True)
class _Found(Findings):
    """Regions by image, problems and counts, collected while the files are read."""

    regions: dict[Path, list[_Region]] = field(default_factory=dict)
    sources: dict[Path, tuple[str, Any]] = field(default_factory=dict)


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".json", ".csv"}):
        if re.search(r'"shape_attributes"\s*:|region_shape_attributes|"_via_img_metadata"', peek(path)):
            return f"{path.relative_to(src).as_posix()} has regions of VIA"
    return None


def plan(src: Path, attribute: str | None = None) -> Plan:
    """Read the annotation files of VIA below a folder.

    Args:
        src: Folder to read.
        attribute: Name of the attribute whose values are the classes; None takes the only one, or one whose name says so.

    Raises:
        DataError: There is none, none can be read, or it is unclear which attribute is the class.
    """
    found, finder = _Found(), FileFinder(src)
    options: dict[str, Any] = {}
    for path, document in _files(src, found).items():
        options |= _attributes(document)
        for index, entry in enumerate(_entries(document)):
            _read_image(entry, f"{printable(path)}: image {index}", path, src, finder, found)
    labels, class_of = _classes(found, options, src, attribute)
    names = [finder.name(image) for image in found.regions]
    items = []
    for (image, regions), name, split in zip(
        found.regions.items(), names, folder_splits(names, found.notes), strict=True
    ):
        shapes = []
        for region in regions:
            try:
                class_id = labels.ids[class_of(region)]
            except DataError as error:
                found.problems.append(str(error))
                continue
            shapes.append(Shape(where=region.where, kind=region.kind, class_id=class_id, regions=region.regions))
        items.append(Item(name=name, image=image, draw=Drawing(shapes=shapes), split=split))
    for image in unlisted_images(src, found.regions.keys()):
        found.notes.add("images that no file of VIA lists: not imported", finder.name(image))
    return found.plan(labels.classes, items)


def _files(src: Path, found: _Found) -> dict[Path, Any]:
    """Return the content of VIA's files: of JSON, or else of CSV, because both are exports of one project."""
    by_suffix: dict[str, dict[Path, Any]] = {".json": {}, ".csv": {}}
    errors, others = [], []
    for path in source_files(src):
        suffix = path.suffix.lower()
        if suffix not in by_suffix:
            continue
        try:
            document = documents.read_json_value(path) if suffix == ".json" else _rows(path)
        except DataError as error:
            errors.append(str(error))
            continue
        if isinstance(document, dict) and document.keys() >= set(_VIA3):
            errors.append(f"{printable(path)} — a project of VIA 3 — expected VIA 1 or 2 — annotate images with VIA 2")
        elif any(_entries(document)):
            by_suffix[suffix][path] = document
        else:
            others.append(f"{printable(path)} — no file of VIA: it has no images with regions")
    if by_suffix[".json"]:
        others += [f"{printable(path)} — not read, because there is JSON of VIA, too" for path in by_suffix[".csv"]]
    read = by_suffix[".json"] or by_suffix[".csv"]
    if not read and errors:
        raise ImportProblemsError(errors)
    if not read:
        raise DataError(f"{printable(src)} — no JSON or CSV of VIA — expected via_region_data.json beside the images")
    found.left_out += [*errors, *others]
    return read


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the images of a CSV file, which has a row per region; an empty list if it is not of VIA."""
    text = documents.read_text(path)
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    rows = csv.DictReader(io.StringIO(text.removeprefix("#"), newline=""), delimiter=delimiter)
    images: dict[str, dict[str, Any]] = {}
    if "region_shape_attributes" not in (rows.fieldnames or ()):
        return []
    before = csv.field_size_limit(_MAX_CELL)
    try:
        for number, row in enumerate(rows, 2):
            where = f"{printable(path)}: row {number}"
            cells = {key: _cell(row.get(key), where) for key in ("region_shape_attributes", "region_attributes")}
            image = images.setdefault(row.get("filename") or "", {"filename": row.get("filename"), "regions": []})
            if cells["region_shape_attributes"]:
                image["regions"].append(
                    {
                        "shape_attributes": cells["region_shape_attributes"],
                        "region_attributes": cells["region_attributes"],
                    }
                )
    except csv.Error as cause:
        raise DataError(f"{printable(path)} — not valid CSV ({cause}) — export it again") from cause
    finally:
        csv.field_size_limit(before)
    return list(images.values())


def _cell(text: str | None, where: str) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as cause:
        raise DataError(f"{where} — {documents.short(text)} is not valid JSON — export the CSV again") from cause


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    """Yield the images of a project, of an export or of rows."""
    if isinstance(document, dict):
        document = document.get("_via_img_metadata", document)
    entries = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    for entry in entries:
        if isinstance(entry, dict) and "filename" in entry and "regions" in entry:
            yield entry


def _attributes(document: Any) -> dict[str, Any]:
    """Return the region attributes that a project defines, by name."""
    attributes = document.get("_via_attributes") if isinstance(document, dict) else None
    regions = attributes.get("region") if isinstance(attributes, dict) else None
    return regions if isinstance(regions, dict) else {}


def _read_image(entry: dict[str, Any], where: str, path: Path, src: Path, finder: FileFinder, found: _Found) -> None:
    """Add an image with its regions to ``found``; two files of one project may list it alike."""
    try:
        name = documents.field(entry, "filename", str, where)
        where = f"{printable(path)}: {printable(name)}"
        folders = [path.parent, path.parent / "images"]
        image = finder.find(name, folders, where) or finder.find_image(name, [*folders, src / "images", src], where)
        regions = entry["regions"]
        regions = (
            list(regions.values()) if isinstance(regions, dict) else documents.field(entry, "regions", list, where)
        )
    except DataError as error:
        found.problems.append(str(error))
        return
    if image is None:
        found.left_out.append(f"{printable(name)} — image not found ({len(regions)} regions in {printable(path)})")
        return
    first, same = found.sources.setdefault(image, (where, regions))
    if image in found.regions:
        if same != regions:
            found.problems.append(f"{where} — {first} lists it with other regions — expected it once — keep one export")
        return
    own = found.regions[image] = []
    for index, region in enumerate(regions):
        try:
            if one := _region(region, f"{where}: region {index}", found):
                own.append(one)
        except DataError as error:
            found.problems.append(str(error))


def _region(entry: Any, where: str, found: _Found) -> _Region | None:
    shape = documents.field(entry, "shape_attributes", dict, where)
    kind = documents.field(shape, "name", str, where)
    points: NDArray[np.float64] | None = None
    numbers: tuple[float, ...] = ()
    if kind in _WITHOUT_AREA:
        found.undrawn.add(f"{kind} shapes without an area: not drawn", where)
        return None
    if kind == "polygon":
        across, down = (documents.field(shape, f"all_points_{axis}", list, where) for axis in "xy")
        if len(across) != len(down):
            raise DataError(f"{where} — {len(across)} x and {len(down)} y — expected as many of both")
        points = documents.point_array(list(zip(across, down, strict=True)), where)
    elif kind in _NUMBERS:
        keys = _NUMBERS[kind]
        numbers = tuple(documents.number(shape.get(key), f"{where}: {kind}", key) for key in keys)
        if kind == "ellipse":
            numbers = (*numbers, documents.number(shape.get("theta", 0), f"{where}: {kind}", "theta"))
    else:
        raise DataError(f"{where} — shape '{printable(kind)}' — expected polygon, {', '.join(_NUMBERS)}")
    attributes = entry.get("region_attributes") or {}
    if not isinstance(attributes, dict):
        raise DataError(f"{where} — region_attributes is {documents.short(attributes)} — expected names with values")
    return _Region(where=where, kind=kind, attributes=attributes, points=points, numbers=numbers)


def _classes(found: _Found, options: Mapping[str, Any], src: Path, wanted: str | None) -> tuple[Labels, Any]:
    """Return the classes, and the function that returns a region's class name."""
    regions = [region for own in found.regions.values() for region in own]
    attribute = _class_attribute(regions, src, wanted)
    if attribute is None:
        found.notes.add(f"regions have no attribute: their class is {UNNAMED}", count=len(regions))
        return label_classes([UNNAMED], where=printable(src)), lambda _region: UNNAMED
    defined = options.get(attribute)
    listed = defined.get("options") if isinstance(defined, dict) else None
    used = {name for region in regions for name in _values(region.attributes.get(attribute))}
    names = [name for name in listed if name in used] if isinstance(listed, dict) else []
    names += sorted(used - set(names))
    found.notes.add(f"classes are the values of the attribute '{printable(attribute)}'", count=len(names))

    def class_of(region: _Region) -> str:
        values = _values(region.attributes.get(attribute))
        if len(values) != 1:
            raise DataError(
                f"{region.where} — {attribute} is {documents.short(region.attributes.get(attribute))} — expected one class"
            )
        return values[0]

    return label_classes(names, where=printable(src)), class_of


def _class_attribute(regions: Iterable[_Region], src: Path, wanted: str | None) -> str | None:
    """Return the attribute that is the class: the wanted one, the only one that has values, or one whose name says so."""
    names = dict.fromkeys(name for region in regions for name, value in region.attributes.items() if _values(value))
    listed = ", ".join(printable(name) for name in names)
    if wanted is not None:
        if wanted not in names:
            raise DataError(
                f"{printable(src)} — no region has a value of the attribute '{printable(wanted)}' — expected one of "
                f"{listed or 'none: no region has attributes'}"
            )
        return wanted
    if len(names) < 2:
        return next(iter(names), None)
    for likely in _CLASS_ATTRIBUTES:
        if found := [name for name in names if name.strip().casefold() in likely]:
            if len(found) == 1:
                return found[0]
            listed = ", ".join(printable(name) for name in found)
            break
    raise DataError(
        f"{printable(src)} — regions have the attributes {listed} — expected one, or one named class or label — name the "
        "one that is the class: edge-unet data import via … --attribute NAME"
    )


def _values(value: Any) -> list[str]:
    """Return the values of an attribute: of a text, of radio buttons, or the ticked ones of checkboxes."""
    if isinstance(value, dict):
        return [name for name, is_ticked in value.items() if is_ticked is True or str(is_ticked).lower() == "true"]
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return [str(value)] if str(value).strip() else []
    return []
