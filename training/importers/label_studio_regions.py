"""Read the regions of a Label Studio annotation: polygons, boxes and ellipses in percent of the image, brushes, bitmasks.

Reference: https://labelstud.io/tags (PolygonLabels, RectangleLabels, EllipseLabels, VectorLabels, BrushLabels, BitmaskLabels, Labels)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.image import decode
from training.errors import DataError
from training.importers import documents
from training.importers.brush import brush_mask
from training.importers.plan import Tally
from training.importers.shapes import Region, Size, box, ellipse, pixels, polygon

GEOMETRY = (
    "points",
    "vertices",
    "closed",
    "x",
    "y",
    "width",
    "height",
    "rotation",
    "radiusX",
    "radiusY",
    "rle",
    "imageDataURL",
)
"""Keys of a value that describe a shape; all others are its labels and other answers."""
DATA_URL = re.compile("data:image/[^,]*;base64,")
"""Beginning of a picture that stands in an address."""
_KINDS = ("polygon", "rectangle", "ellipse", "brush", "bitmask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Region of an annotation.

    Attributes:
        where: The region, for messages.
        kind: Kind of the shape.
        label: Its label; empty if it has none.
        value: Its values, in percent of the image.
        points: (N, 2) corners of a polygon, in percent of the image.
    """

    where: str
    kind: str
    label: str
    value: dict[str, Any]
    points: NDArray[np.float64] | None = None

    def regions(self, size: Size) -> list[Region]:
        """Return its pixels in an image of this size."""
        return [self._region(size)]

    def _region(self, size: Size) -> Region:
        height, width = size
        if self.points is not None:
            return polygon(self.points * (width, height) / 100, size)
        if self.kind == "brush":
            return pixels(brush_mask(self.value["rle"], size, self.where), size)
        if self.kind == "bitmask":
            return pixels(self._bitmask(size), size)
        x, y = self._number("x") * width / 100, self._number("y") * height / 100
        degrees = self._number("rotation", 0)
        if self.kind == "ellipse":
            radii = self._number("radiusX") * width / 100, self._number("radiusY") * height / 100
            return ellipse(x, y, *radii, size, degrees=degrees)
        # A box is turned about its first corner.
        half_x, half_y = self._number("width") * width / 200, self._number("height") * height / 200
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = x + half_x * cosine - half_y * sine, y + half_x * sine + half_y * cosine
        return box(x - half_x, y - half_y, x + half_x, y + half_y, size, degrees=degrees)

    def _number(self, key: str, default: float | None = None) -> float:
        value = self.value.get(key)
        return documents.number(default if value is None else value, self.where, key)

    def _bitmask(self, size: Size) -> NDArray[np.bool_]:
        text = DATA_URL.sub("", documents.field(self.value, "imageDataURL", str, self.where), count=1)
        picture = decode(documents.base64_bytes(text, self.where), self.where, mode="raw")
        if picture.shape[:2] != size:
            raise DataError(
                f"{self.where} — bitmask of {picture.shape[1]}x{picture.shape[0]} — expected {size[1]}x{size[0]}"
            )
        if picture.ndim == 2:
            return picture > 0
        return picture[..., 3] > 0 if picture.shape[2] == 4 else picture.max(axis=2) > 0


def read_areas(
    result: list[Any], where: str, problems: list[str], undrawn: Tally, notes: Tally
) -> tuple[list[Area], set[Size]]:
    """Return the regions of an annotation that have an area, and the sizes of the image that they state.

    Args:
        result: Results of the annotation.
        where: The annotation, for messages.
        problems: List to which faulty regions are added.
        undrawn: Tally of the results without an area.
        notes: Tally of remarks.

    Raises:
        DataError: A result is no object.
    """
    areas: list[Area] = []
    sizes: set[Size] = set()
    for index, (kind, value, entry) in enumerate(_regions(result, where)):
        here = f"{where}: {kind} {index}"
        if kind not in _KINDS:
            undrawn.add(f"{kind} results without an area: not drawn", here)
            continue
        try:
            if size := documents.stated_size(entry, "original_height", "original_width"):
                sizes.add(size)
            areas.append(_area(kind, value, here, notes))
        except DataError as error:
            problems.append(str(error))
    return areas, sizes


def _regions(result: list[Any], where: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield kind, value and result of each region: the results of one id are a shape, its labels and other answers.

    Results of one id with two shapes are two regions; a result without a shape belongs to the first of them.
    """
    groups: dict[str, list[list[dict[str, Any]]]] = {}
    for index, entry in enumerate(result):
        if not isinstance(entry, dict):
            raise DataError(f"{where} — result {index} is {documents.short(entry)} — expected an object")
        regions = groups.setdefault(str(entry.get("id") or f"result {index}"), [])
        own = next((entries for entries in regions if not any(_differ(entry, other) for other in entries)), None)
        if own is None:
            regions.append([entry])
        else:
            own.append(entry)
    for entries in (entries for regions in groups.values() for entries in regions):
        values = [entry["value"] for entry in entries if isinstance(entry.get("value"), dict)]
        value = {key: content for one in values for key, content in one.items()}
        kind = _kind(value)
        if kind is None:
            kinds = [
                str(entry.get("type") or entry.get("from_name") or "unknown").removesuffix("labels")
                for entry in entries
            ]
            kind = kinds[0] or "unknown"
        yield kind, value, entries[0]


def _differ(entry: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two results describe two shapes."""
    first, second = (one["value"] if isinstance(one.get("value"), dict) else {} for one in (entry, other))
    if len({_kind(first), _kind(second), None}) == 3:
        return True
    return any(first[key] != second[key] for key in GEOMETRY if key in first and key in second)


def _kind(value: dict[str, Any]) -> str | None:
    """Return what a value describes, by its keys; JSON-MIN has no types."""
    if "points" in value or (value.get("closed") is True and "vertices" in value):
        return "polygon"
    if "rle" in value:
        return "brush"
    if "imageDataURL" in value:
        return "bitmask"
    if "radiusX" in value:
        return "ellipse"
    if "keypointlabels" in value or "height" not in value:
        return None
    return "rectangle"


def _corners(vertices: list[Any], where: str, notes: Tally) -> list[list[Any]]:
    """Return [x, y] of each vertex of a closed vector; a curve between two of them is taken for a straight line."""
    corners = []
    for vertex in vertices:
        if not isinstance(vertex, dict):
            raise DataError(f"{where} — vertex {documents.short(vertex)} — expected an object with x and y")
        if vertex.get("isBezier"):
            notes.add("curves of vectors are taken for straight lines", where)
        corners.append([vertex.get("x"), vertex.get("y")])
    return corners


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content] if content else []


def _area(kind: str, value: dict[str, Any], where: str, notes: Tally) -> Area:
    labels = [label for key, content in value.items() if key.endswith("labels") for label in _listed(content)]
    for label in labels:
        if not isinstance(label, str):
            raise DataError(f"{where} — label is {documents.short(label)} — expected a text")
    names = list(dict.fromkeys(label for label in labels if label.strip()))
    if len(names) > 1:
        notes.add("regions have several labels: the first is taken", where)
    points = None
    if kind == "polygon" and "points" in value:
        points = documents.point_array(documents.field(value, "points", list, where), where)
    elif kind == "polygon":
        points = documents.point_array(_corners(documents.field(value, "vertices", list, where), where, notes), where)
    if kind == "brush":
        documents.field(value, "rle", list, where)
    return Area(where=where, kind=kind, label=names[0] if names else "", value=value, points=points)
