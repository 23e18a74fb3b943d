"""Import Roboflow's "Semantic Segmentation Masks": a.jpg beside a_mask.png, and a CSV file with the classes.

Reference: https://docs.roboflow.com/datasets/exporting-data
"""

from __future__ import annotations

import csv
from pathlib import Path

from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.documents import read_text
from training.importers.files import FileFinder, deepest_split, source_files, without_lone_split
from training.importers.glance import files, peek
from training.importers.mask_files import classes_by_value, draw_by_value
from training.importers.plan import Item, Plan, Tally

CLASSES = "_classes.csv"
_MASK = "_mask"
_HEADER = ["pixel value", "class"]


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".csv"}):
        if path.name == CLASSES and _cells(peek(path))[:1] == [_HEADER]:
            return f"{path.relative_to(src).as_posix()} has a class per pixel value"
    return None


def plan(src: Path) -> Plan:
    """Find the images and masks below a folder.

    Raises:
        DataError: There is no ``_classes.csv``, one is wrong, or two state other classes.
    """
    found = source_files(src)
    names, where = _names([path for path in found if path.name == CLASSES], src)
    classes, ids = classes_by_value(names, where=where)
    by_folder: dict[Path, dict[str, Path]] = {}
    for path in found:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            by_folder.setdefault(path.parent, {})[path.name] = path
    items: list[Item] = []
    left_out: list[str] = []
    used: set[str] = set()
    finder = FileFinder(src)
    for folder, images in by_folder.items():
        stems = {path.stem for path in images.values()}
        masks = {path for path in images.values() if _is_mask(path, stems)}
        for image in (path for path in images.values() if path not in masks):
            mask = finder.with_stem(folder, f"{image.stem}{_MASK}", IMAGE_SUFFIXES)
            if mask is None:
                left_out.append(f"{printable(image)} — no {printable(image.stem)}{_MASK}.png beside it")
                continue
            used.add(finder.name(mask))
            split = deepest_split(folder.relative_to(src))
            items.append(Item(name=finder.name(image), image=image, draw=draw_by_value(mask, ids), split=split))
        left_out += [
            f"{printable(mask)} — no image beside it" for mask in sorted(masks) if finder.name(mask) not in used
        ]
    notes = Tally()
    items = without_lone_split(items, notes)
    return Plan(classes=classes, items=tuple(items), left_out=tuple(left_out), notes=notes.lines())


def _names(paths: list[Path], src: Path) -> tuple[dict[int, str], str]:
    """Return the class name of each value, the same in all CSV files, and the first of these."""
    if not paths:
        raise DataError(
            f"{printable(src)} — no {CLASSES} — expected train/{CLASSES} beside a.jpg and a{_MASK}.png, as Roboflow "
            "exports 'Semantic Segmentation Masks'"
        )
    tables = {path: _read(path) for path in paths}
    first = paths[0]
    for path, names in tables.items():
        if names != tables[first]:
            raise DataError(
                f"{printable(path)} — {_shown(names)} — expected the classes of {printable(first)}: "
                f"{_shown(tables[first])} — export one version of the dataset"
            )
    return tables[first], printable(first)


def _read(path: Path) -> dict[int, str]:
    """Read lines of "value, class" below a header."""
    header, *rows = _cells(read_text(path)) or [[]]
    if [cell.casefold() for cell in header] != _HEADER:
        raise DataError(f"{printable(path)} — header {', '.join(header)!r} — expected Pixel Value, Class")
    names: dict[int, str] = {}
    for row in rows:
        if len(row) != 2 or not row[0].isascii() or not row[0].isdigit() or int(row[0]) > 255 or not row[1]:
            raise DataError(f"{printable(path)} — line {', '.join(row)!r} — expected a value 0 to 255 and a class")
        if int(row[0]) in names:
            raise DataError(f"{printable(path)} — value {row[0]} stands twice — expected one class per value")
        names[int(row[0])] = row[1]
    return names


def _cells(text: str) -> list[list[str]]:
    """Return the cells of each line that is not empty, the header in lower case; none of a file that is no CSV."""
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), skipinitialspace=True)]
    except csv.Error:
        return []
    rows = [row for row in rows if any(row)]
    return [[cell.casefold() for cell in row] if number == 0 else row for number, row in enumerate(rows)]


def _shown(names: dict[int, str]) -> str:
    return ", ".join(f"{value} {printable(name)}" for value, name in sorted(names.items()))


def _is_mask(path: Path, stems: set[str]) -> bool:
    """Tell whether a file is a mask: its image is beside it, or it has no mask of its own."""
    base = path.stem.removesuffix(_MASK)
    return base != path.stem and (base in stems or path.stem + _MASK not in stems)
