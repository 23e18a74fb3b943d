"""Import Supervisely's project: meta.json, and folders with img/ and ann/.

Coordinates in whole numbers count pixels, and mean their centres; a box reaches to the end of its last pixel. Others have
their origin in the corner of the first pixel.

Reference: https://developer.supervisely.com/getting-started/supervisely-annotation-format and
https://github.com/supervisely/supervisely (supervisely/geometry)
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import Split
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.image import decode
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.errors import ImportProblemsError
from training.importers.files import FileFinder, folder_splits, source_files, split_of, unlisted_images
from training.importers.glance import files, peek
from training.importers.painting import Drawing, Shape
from training.importers.plan import Color, Findings, Item, Labels, Plan, label_classes
from training.importers.shapes import Region, Size, box, holed, pixels

_DRAWN = ("polygon", "multipolygon", "rectangle", "oriented_bbox", "bitmap", "alpha_mask")
_WITHOUT_AREA = ("point", "line", "polyline", "graph", "cuboid", "cuboid_2d")
_MAX_BYTES = 1 << 28
"""Largest size of a compressed picture in an annotation, unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """Object with an area, as the annotation has it."""

    where: str
    kind: str
    title: str
    entry: dict[str, Any]

    def regions(self, size: Size) -> list[Region]:
        """Return its pixels in an image of this size."""
        if self.kind in ("bitmap", "alpha_mask"):
            return [self._bitmap(size)]
        if self.kind == "multipolygon":
            parts = documents.field(self.entry, "parts", list, self.where)
            return [self._polygon(part, size) for part in parts]
        points = self.entry.get("points")
        if self.kind == "polygon":
            return [self._polygon(points, size)]
        corners = _points(points if isinstance(points, list) else _exterior(points, self.where), self.where)
        if len(corners) != 2:
            raise DataError(f"{self.where} — {len(corners)} corners — expected 2 of a {self.kind}")
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        last = 1 if _is_whole(corners) else 0
        degrees = math.degrees(documents.number(self.entry.get("angle") or 0, self.where, "angle"))
        return [box(left, top, right + last, bottom + last, size, degrees=degrees)]

    def _polygon(self, rings: Any, size: Size) -> Region:
        outline = _points(_exterior(rings, self.where), self.where)
        holes = [_points(hole, self.where) for hole in _optional_list(rings, "interior", self.where)]
        to_centre = 0.5 if all(_is_whole(ring) for ring in (outline, *holes)) else 0.0
        return holed(outline + to_centre, [hole + to_centre for hole in holes if len(hole) > 2], size)

    def _bitmap(self, size: Size) -> Region:
        bitmap = documents.field(self.entry, "bitmap", dict, self.where)
        data = documents.base64_bytes(documents.field(bitmap, "data", str, self.where), self.where)
        if data[:1] == b"x":  # else a picture that is not compressed again
            data = _unpacked(data, self.where)
        picture = decode(data, self.where, mode="raw")
        values = picture if picture.ndim == 2 else picture[..., 3] if picture.shape[2] == 4 else picture.max(axis=2)
        origin = _points([documents.field(bitmap, "origin", list, self.where)], self.where)[0]
        least = 128 if self.kind == "alpha_mask" else 1
        return pixels(values >= least, size, top=math.floor(origin[1]), left=math.floor(origin[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """Image with its objects."""

    image: Path
    size: Size | None
    objects: list[_Object]
    tags: list[str]


@dataclass(slots=True, kw_only=True)
class _Meta:
    """Classes of a project: their colours and kinds by name, in order."""

    colors: dict[str, Color | None] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".json"}, depth=3):
        if re.search(r'"classTitle"\s*:', peek(path)):
            return f"{path.relative_to(src).as_posix()} has objects of Supervisely"
    return None


def plan(src: Path) -> Plan:
    """Read the annotations of all datasets below a folder.

    Raises:
        DataError: There is no dataset, or meta.json cannot be used.
    """
    found, finder = Findings(), FileFinder(src)
    meta = _meta(src)
    images: dict[Path, _Image] = {}
    paths = [path for path in source_files(src) if path.parent.name == "ann" and path.suffix.lower() == ".json"]
    if not paths:
        raise DataError(
            f"{printable(src)} — no annotations — expected meta.json and DATASET/img/a.jpg, DATASET/ann/a.jpg.json"
        )
    for path in paths:
        try:
            if (one := _image(path, meta, finder, found)) and images.setdefault(one.image, one) is not one:
                found.problems.append(f"{printable(path)} — another annotation has the same image — expected one")
        except DataError as error:
            found.problems.append(str(error))
    if not images and found.problems:
        raise ImportProblemsError(found.problems)
    labels = _labels(meta, images.values(), src, found)
    names = [finder.name(image) for image in images]
    items = []
    for one, name, split in zip(images.values(), names, _splits(images.values(), names, found), strict=True):
        shapes = [
            Shape(where=o.where, kind=o.kind, class_id=labels.ids[o.title], regions=o.regions)
            for o in one.objects
            if o.title in labels.ids
        ]
        items.append(Item(name=name, image=one.image, draw=Drawing(shapes=shapes), split=split, size=one.size))
    for image in unlisted_images(src, images.keys()):
        found.notes.add("images without an annotation file: not imported", finder.name(image))
    return found.plan(labels.classes, items)


def _meta(src: Path) -> _Meta:
    """Return the classes of all projects below a folder."""
    meta = _Meta()
    for path in source_files(src):
        if path.name != "meta.json" or path.parent.name in ("ann", "meta"):
            continue
        for index, entry in enumerate(
            documents.field(documents.read_json_value(path), "classes", list, printable(path))
        ):
            where = f"{printable(path)}: class {index}"
            title = documents.field(entry, "title", str, where)
            meta.colors.setdefault(title, _color(entry.get("color")))
            meta.kinds.setdefault(title, str(entry.get("shape")))
    return meta


def _color(value: Any) -> Color | None:
    if not isinstance(value, str) or not re.fullmatch("#[0-9a-fA-F]{6}", value):
        return None
    return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)


def _labels(meta: _Meta, images: Iterable[_Image], src: Path, found: Findings) -> Labels:
    """Number the classes of meta.json, or else those of the objects sorted by name."""
    objects = [o for one in images for o in one.objects]
    if not meta.colors:
        names = sorted({o.title for o in objects})
        found.notes.add("classes are sorted by name, because there is no meta.json", count=len(names))
        return label_classes(names, where=printable(src))
    for o in objects:
        if o.title not in meta.colors:
            found.problems.append(
                f"{o.where} — class '{printable(o.title)}' — expected one of meta.json — add it there"
            )
    colors: Mapping[str, Color] = {name: color for name, color in meta.colors.items() if color}
    return label_classes(meta.colors, colors, where=printable(src))


def _splits(images: Iterable[_Image], names: list[str], found: Findings) -> list[Split | None]:
    """Return the splits that the folders name, or else the tags of the images, if all images have one."""
    splits = folder_splits(names, found.notes)
    if any(splits):
        return splits
    by_tag = [next((split for tag in one.tags if (split := split_of(tag))), None) for one in images]
    if all(by_tag):
        return by_tag
    found.notes.add(f"of {len(names)} images have a tag of a split: they are not split", count=sum(map(bool, by_tag)))
    return splits


def _image(path: Path, meta: _Meta, finder: FileFinder, found: Findings) -> _Image | None:
    """Return the image of an annotation file with its objects; None if it is not there."""
    document, where = documents.read_json_value(path), printable(path)
    entries = documents.field(document, "objects", list, where)
    folder, name = path.parent.parent / "img", path.name[: -len(path.suffix)]
    image = finder.find_image(name, [folder], where) or finder.with_stem(folder, name, IMAGE_SUFFIXES)
    if image is None:
        found.left_out.append(f"{where} — no image {printable(name)} in img/ ({len(entries)} objects)")
        return None
    objects = []
    for index, entry in enumerate(entries):
        here = f"{where}: object {index}"
        try:
            title = documents.field(entry, "classTitle", str, here)
            kind = _kind(entry, title, meta)
            if kind in _WITHOUT_AREA:
                found.undrawn.add(f"{kind} objects without an area: not drawn", here)
            elif kind in _DRAWN:
                objects.append(_Object(where=here, kind=kind, title=title, entry=entry))
            else:
                raise DataError(f"{here} — geometryType '{printable(kind)}' — expected {', '.join(_DRAWN)}")
        except DataError as error:
            found.problems.append(str(error))
    tags = [tag.get("name") if isinstance(tag, dict) else tag for tag in _optional_list(document, "tags", where)]
    return _Image(
        image=image,
        size=documents.stated_size(document.get("size"), "height", "width"),
        objects=objects,
        tags=[tag for tag in tags if isinstance(tag, str)],
    )


def _kind(entry: dict[str, Any], title: str, meta: _Meta) -> str:
    """Return an object's geometry: early versions name it otherwise, or only in the class."""
    kind = entry.get("geometryType") or entry.get("type")
    if not kind:
        kind = "bitmap" if entry.get("bitmap") else meta.kinds.get(title, "unknown")
    return str(kind)


def _exterior(rings: Any, where: str) -> list[Any]:
    return documents.field(rings, "exterior", list, f"{where}: points")


def _optional_list(entry: Any, key: str, where: str) -> list[Any]:
    return documents.field(entry, key, list, where) if entry.get(key) else []


def _points(values: Any, where: str) -> NDArray[np.float64]:
    return documents.point_array(values, where)


def _is_whole(points: NDArray[np.float64]) -> bool:
    return not (points % 1).any()


def _unpacked(data: bytes, where: str) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_BYTES)
    except zlib.error as cause:
        raise DataError(f"{where} — bitmap cannot be unpacked ({cause}) — export it again") from cause
