"""Import YOLO segmentation labels: one text file per image, with polygons in shares of its width and height.

Reference: https://docs.ultralytics.com/datasets/segment/ and ultralytics/data/utils.py (check_det_dataset,
img2label_paths, polygons2masks_overlap)
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import SPLITS, Split, files_below
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.files import FileFinder, folder_splits, name_parts, source_files, split_called
from training.importers.glance import files, peek
from training.importers.painting import Drawing, Shape
from training.importers.plan import Findings, Item, Labels, Plan, label_classes
from training.importers.shapes import Region, Size, polygon

_CONFIGS = ("data.yaml", "data.yml", "*.yaml", "*.yml", "*/data.yaml", "*/data.yml", "*/*.yaml", "*/*.yml")
_NAME_LISTS = ("classes.txt", "obj.names")
_SPLIT_KEYS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}
_BOX, _TRIANGLE = 4, 6
"""Numbers of a box and of the smallest polygon."""
_MOST = 2
"""Largest share: an object may reach beyond the edge, but not by more than the whole picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Polygon:
    """Line of a label file, in shares of the picture's size."""

    where: str
    class_number: int
    shares: NDArray[np.float64]

    def regions(self, size: Size) -> list[Region]:
        """Return its pixels in a picture of this size."""
        return [polygon(self.shares * (size[1], size[0]), size)]


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    names = next((path for path in files(src, {".yaml", ".yml"}) if re.search(r"(?m)^names\s*:", peek(path))), None)
    for path in files(src, {".txt"}, depth=3):
        lines = [line.split() for line in peek(path).splitlines()[:20] if line.strip()]
        is_label = bool(lines) and all(re.fullmatch(r"\d+( -?[\d.]+(e-?\d+)?){4,}", " ".join(line)) for line in lines)
        if is_label and (names or any(len(line) > _TRIANGLE for line in lines)):
            what = f"{path.relative_to(src).as_posix()} has {'polygons' if len(lines[0]) > _TRIANGLE else 'boxes'}"
            return f"{names.relative_to(src).as_posix()} has names and {what}" if names else what
    return None


def plan(src: Path) -> Plan:
    """Read the label files of the images that data.yaml lists, or of all below a folder.

    Raises:
        DataError: There are no label files, or data.yaml cannot be used.
    """
    src, found = Path(os.path.abspath(src)), Findings()  # noqa: PTH100 - resolve() would follow links
    config = _config_file(src)
    document = documents.read_yaml(config) if config else {}
    images = [path for path in source_files(src) if path.suffix.lower() in IMAGE_SUFFIXES]
    labels_of = _label_files(images, src)
    if not any(labels_of.values()):
        raise DataError(
            f"{printable(src)} — {len(images)} images, none with a label file — expected labels/a.txt for images/a.jpg, "
            "or a.txt beside a.jpg"
        )
    if config and "kpt_shape" in document:
        raise DataError(f"{printable(config)} — kpt_shape: labels of key points — expected polygons")
    splits = _listed(config, document, src, images, found) if config else {}
    elsewhere = "images that data.yaml does not list: not imported"
    if not splits:
        splits = _listed(src / "*.txt", _lists(src, found), src, images, found)
        elsewhere = "images that no list names: not imported"
    if not splits:
        elsewhere = "images outside of images/ and without labels: not imported"
        taken = [path for path in images if labels_of[path] or "images" in _folders(path, src)]
        names = [path.relative_to(src).as_posix() for path in taken]
        splits = dict(zip(taken, folder_splits(names, found.notes), strict=True))
    polygons = {image: _polygons(labels_of[image], found) for image in splits}
    labels, ids = _classes(config, document, src, labels_of, polygons.values(), found)
    items = []
    for image, split in splits.items():
        shapes = [
            Shape(where=one.where, kind="polygon", class_id=ids[one.class_number], regions=one.regions)
            for one in polygons[image]
            if one.class_number in ids
        ]
        drawing = Drawing(shapes=shapes, largest_first=True)
        items.append(Item(name=image.relative_to(src).as_posix(), image=image, draw=drawing, split=split))
        if labels_of[image] is None:
            found.notes.add("images without a label file: all background, as Ultralytics takes them", items[-1].name)
    if not any(polygons.values()) and not found.problems and not found.undrawn.lines():
        raise DataError(
            f"{printable(src)} — no polygon in its label files — expected lines of 'class x1 y1 x2 y2 x3 y3 …'"
        )
    for image in images:
        if image not in splits:
            found.notes.add(elsewhere, image.relative_to(src).as_posix())
    used = {path for path in labels_of.values() if path}
    found.left_out += [
        f"{printable(path)} — no image of this name" for path in _all_labels(src, used) if path not in used
    ]
    return found.plan(labels.classes, items)


def _config_file(src: Path) -> Path | None:
    """Return data.yaml, or the only other YAML file with names or splits, in the folder or in one of its folders."""
    for pattern in _CONFIGS:
        paths = [path for path in sorted(src.glob(pattern)) if not path.name.startswith(".") and _is_config(path)]
        if len(paths) > 1:
            found = ", ".join(printable(path.relative_to(src)) for path in paths)
            raise DataError(f"{printable(src)} — {found} — expected one of them, as data.yaml")
        if paths:
            return paths[0]
    return None


def _is_config(path: Path) -> bool:
    if path.stem.lower() == "data":
        return True
    try:
        return not documents.read_yaml(path).keys().isdisjoint(("names", "nc", "train"))
    except DataError:
        return False


def _folders(path: Path, src: Path) -> list[str]:
    """Return the folders of a file below SRC, in small letters."""
    return [part.lower() for part in path.relative_to(src).parts[:-1]]


def _label_files(images: Sequence[Path], src: Path) -> dict[Path, Path | None]:
    """Return the label file of each image: images/ becomes labels/ in its path, or it lies beside the image."""
    finder, found = FileFinder(src), {}
    for image in images:
        folder, mirrored, names = image.parent, image.parent, _folders(image, src)
        if "images" in names:
            last, parts = len(names) - 1 - names[::-1].index("images"), folder.relative_to(src).parts
            above = src.joinpath(*parts[:last])
            labels = finder.with_stem(above, "labels", frozenset({""})) or above / "labels"
            mirrored = labels.joinpath(*parts[last + 1 :])
        places = (finder.with_stem(place, image.stem, frozenset({".txt"})) for place in (mirrored, folder))
        found[image] = next((path for path in places if path), None)
    return found


def _all_labels(src: Path, used: Collection[Path]) -> Iterator[Path]:
    """Yield the text files in folders named labels, and in folders other than SRC that hold label files in use."""
    busy = {path.parent for path in used} - {src}
    for path in source_files(src):
        beside = "labels" in _folders(path, src) or path.parent in busy
        if path.suffix.lower() == ".txt" and path.name not in _NAME_LISTS and beside:
            yield path


def _listed(
    config: Path, document: dict[str, Any], src: Path, images: Sequence[Path], found: Findings
) -> dict[Path, Split | None]:
    """Return the split of each image that data.yaml or lists beside it name; empty if they name none that are there."""
    splits: dict[Path, Split | None] = {}
    known, where, finder = set(images), printable(config), FileFinder(src)
    for split, key, entry in _entries(document, where):
        target = _target(entry, document.get("path"), [config.parent, src])
        if target is None:
            found.left_out.append(f"{where} — {key}: {printable(entry)} — not found in {printable(src)}")
            continue
        for image in _images_of(target, src, known, finder, found):
            if (first := splits.setdefault(image, split)) != split:
                found.notes.add(
                    f"images of {split} are images of {first}, too: they are taken once, in {first}", printable(image)
                )
    if not splits and any(_entries(document, where)):
        found.left_out.append(
            f"{where} — lists no image that is there — all images in {printable(src)} are taken instead"
        )
    return splits


def _lists(src: Path, found: Findings) -> dict[str, list[str]]:
    """Return the lists of images called train.txt, val.txt … or named in darknet's obj.data, as data.yaml would have them.

    Lists are none unless train is among several splits: one alone does not say where the other images belong.
    """
    texts = [path for path in source_files(src) if path.suffix.lower() == ".txt" or path.name == "obj.data"]
    of_darknet: dict[str, Split] = {}
    for path in (path for path in texts if path.name == "obj.data"):
        for key, _, value in (line.partition("=") for line in documents.read_lines(path)):
            if (split := split_called(key)) and (parts := name_parts(value.strip())):
                of_darknet[parts[-1]] = split
    by_split: dict[Split, list[Path]] = {}
    for path in texts:
        if (split := of_darknet.get(path.name) or split_called(path.stem)) and _is_list_of_images(path):
            by_split.setdefault(split, []).append(path)
    # trainval.txt stands for train.txt: it names the images of val.txt, too.
    trains = by_split.get("train", [])
    read = by_split | {"train": [path for path in trains if path.stem.lower() != "trainval"] or trains}
    if not trains or len(by_split) == 1:
        read = {}
    for path in (path for split, paths in by_split.items() for path in paths if path not in read.get(split, ())):
        found.notes.add("lists of images that are not read", path.relative_to(src).as_posix())
    return {split: [path.relative_to(src).as_posix() for path in paths] for split, paths in read.items()}


def _is_list_of_images(path: Path) -> bool:
    """Tell whether a text file names images; a file of labels may be called train.txt, too."""
    try:
        return any(Path(line).suffix.lower() in IMAGE_SUFFIXES for line in documents.read_lines(path))
    except DataError:
        return False


def _entries(document: dict[str, Any], where: str) -> Iterator[tuple[Split, str, str]]:
    """Yield split, key and entry of data.yaml: a folder, or a file with a list of images."""
    for split in SPLITS:
        for key in _SPLIT_KEYS[split]:
            value = document.get(key) or []
            for entry in value if isinstance(value, list) else [value]:
                if not isinstance(entry, str):
                    raise DataError(f"{where} — {key} is {documents.short(value)} — expected folders or list files")
                yield split, key, entry


def _target(entry: str, path: Any, folders: Sequence[Path]) -> Path | None:
    """Return the folder or file that an entry of data.yaml means, inside of SRC.

    ``path`` is often of another machine, and Roboflow writes ../train/images for train/images beside data.yaml.
    """
    parts = [part for part in name_parts(entry) if part != ".."]
    before = [part for part in name_parts(path) if part != ".."] if isinstance(path, str) else []
    if not PureWindowsPath(entry).anchor:
        parts, droppable = [*before, *parts], len(before)
    else:
        droppable = max(0, len(parts) - 1)
    return _end_below(parts, droppable, folders)


def _end_below(parts: Sequence[str], droppable: int, folders: Sequence[Path]) -> Path | None:
    """Return the path of the longest end of the parts that exists in one of the folders."""
    for start in range(droppable + 1):
        for folder in folders:
            path = folder.joinpath(*parts[start:])
            if os.path.exists(path):  # noqa: PTH110 - a name may be too long for a path, which exists() raises
                return path
    return None


def _images_of(target: Path, src: Path, known: set[Path], finder: FileFinder, found: Findings) -> Iterator[Path]:
    """Yield the images in a folder, in a list of paths, or the image itself."""
    if target.is_dir():
        yield from (path for path in files_below(target) if path in known)
    elif target in known:
        yield target
    else:
        for line in documents.read_lines(target):
            *parts, name = [part for part in name_parts(line) if part != ".."] or [""]
            bases = (target.parent, src, src / "images")
            ends = (folder.joinpath(*parts[i:]) for i in range(len(parts) + 1) for folder in bases)
            suffix = frozenset({Path(name).suffix})
            places = (finder.with_stem(end, Path(name).stem, suffix) for end in ends)  # in any case and Unicode form
            path = next((place for place in places if place in known), None)
            if path:
                yield path
            else:
                found.left_out.append(f"{printable(line)} — image not found (in {printable(target)})")


def _polygons(path: Path | None, found: Findings) -> list[_Polygon]:
    """Return the polygons of a label file; boxes are counted."""
    polygons = []
    try:
        lines = documents.read_text(path).splitlines() if path else []
    except DataError as error:
        found.problems.append(str(error))
        return []
    for number, line in enumerate(lines, 1):
        words, where = line.split(), f"{printable(path or '')}: line {number}"
        if not words:
            continue
        try:
            if one := _polygon(words, where, found):
                polygons.append(one)
        except DataError as error:
            found.problems.append(str(error))
    return polygons


def _polygon(words: Sequence[str], where: str, found: Findings) -> _Polygon | None:
    class_number = documents.number(words[0], where, "class")
    if class_number < 0 or class_number % 1:
        raise DataError(f"{where} — class {words[0]} — expected a whole number from 0")
    numbers = words[1:]
    if len(numbers) in (_BOX, _BOX + 1):
        found.undrawn.add("boxes without a polygon: not drawn", where)
        return None
    if len(numbers) < _TRIANGLE:
        raise DataError(f"{where} — {len(numbers)} numbers after the class — expected x and y of at least 3 corners")
    if len(numbers) % 2:
        found.notes.add("lines have one number more than their corners (confidence or track id): it is not used", where)
        numbers = numbers[:-1]
    shares = documents.point_array(numbers, where)
    if (largest := np.abs(shares).max()) > _MOST:
        raise DataError(
            f"{where} — a coordinate of {largest:g} — expected shares of 1 — divide x by the image's width, y by its height"
        )
    return _Polygon(where=where, class_number=int(class_number), shares=shares)


def _classes(
    config: Path | None,
    document: dict[str, Any],
    src: Path,
    labels_of: Mapping[Path, Path | None],
    polygons: Collection[list[_Polygon]],
    found: Findings,
) -> tuple[Labels, dict[int, int]]:
    """Return the classes, and the class id of each number in the label files."""
    first: dict[int, _Polygon] = {}
    for own in polygons:
        for one in own:
            first.setdefault(one.class_number, one)
    names, where = _names(document, config, found) if config else {}, printable(config or src)
    if not names and (path := _name_list(src, labels_of)):
        names, where = dict(enumerate(_lines(path))), printable(path)
    if not names and first:
        names = {number: f"class_{number}" for number in sorted(first)}
        found.notes.add("classes have no name, because neither data.yaml nor classes.txt names them", count=len(names))
    if not names:  # of no polygon
        names = {0: "class_0"}
    if names and first and 0 not in first and max(first) == len(names) and names.keys() == set(range(len(names))):
        by_number = ", ".join(f"{number}: {name}" for number, name in enumerate(names.values(), 1))
        raise DataError(
            f"{first[len(names)].where} — class {len(names)}, and no label has class 0 — expected 0 to {max(names)}: the ids "
            f"seem to start at 1 — name them by number in data.yaml, as names: {{{by_number}}}"
        )
    found.problems += [
        f"{one.where} — class {one.class_number} — expected one of the {len(names)} classes, from 0 to {max(names)} — "
        "add its name"
        for own in polygons
        for one in own
        if one.class_number not in names
    ]
    ordered = [names[number] for number in sorted(names)]
    labels = label_classes(ordered, where=where)
    return labels, {number: labels.ids[name] for number, name in names.items()}


def _name_list(src: Path, labels_of: Mapping[Path, Path | None]) -> Path | None:
    """Return the list of names in the folder, in labels/ or beside label files; the longest, if others begin like it.

    Raises:
        DataError: Two lists differ, so that one number has two names.
    """
    beside = sorted({path.parent for path in labels_of.values() if path} - {src, src / "labels"})
    lists = [f / name for name in _NAME_LISTS for f in (src, src / "labels", *beside) if (f / name).is_file()]
    longest = max(lists, key=lambda path: len(_lines(path)), default=None)
    for path in lists:
        if longest and _lines(path) != _lines(longest)[: len(_lines(path))]:
            raise DataError(
                f"{printable(path)} — {documents.short(_lines(path))} — expected the names of {printable(longest)}, "
                f"{documents.short(_lines(longest))} — write the right ones into data.yaml, as names"
            )
    return longest


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in documents.read_text(path).rstrip().splitlines()]


def _names(document: dict[str, Any], config: Path, found: Findings) -> dict[int, str]:
    """Return the names of data.yaml by number: of a list or of a mapping."""
    where, names, count = printable(config), document.get("names") or [], document.get("nc")
    pairs = list(names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else []))
    if (names and not pairs) or not all(isinstance(name, str) and str(number).isdecimal() for number, name in pairs):
        raise DataError(f"{where} — names is {documents.short(names)} — expected a list, or numbers from 0 with names")
    if pairs and count is not None and count != str(len(pairs)):
        found.notes.add(f"names are used, though nc says {documents.short(count)}", where, count=len(pairs))
    return {int(number): name for number, name in pairs}
