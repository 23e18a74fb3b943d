"""Import COCO instances: categories, and objects as polygons or run lengths.

Reference: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge_runtime.dataset.pairs import Split
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.errors import ImportProblemsError
from training.importers.files import (
    FileFinder,
    deepest_split,
    source_files,
    split_called,
    split_of,
    unlisted_images,
    without_lone_split,
)
from training.importers.glance import files, peek
from training.importers.painting import Drawing, Shape
from training.importers.plan import Findings, Item, Labels, Plan, label_classes
from training.importers.shapes import Region, Size, coco_counts, pixels, polygon, runs

_KEYS = ("images", "annotations", "categories")
T = TypeVar("T")


class _ByIdentity(Generic[T]):
    """Entries by id, which one file may write as a number and as a text: 7, 7.0 and "7"."""

    def __init__(self) -> None:
        self._exact: dict[int | str, T] = {}
        self._alike: dict[str, list[int | str]] = {}

    def add(self, identity: int | str, entry: T) -> bool:
        """Keep an entry, and tell whether its id is new."""
        if identity in self._exact:
            return False
        self._exact[identity] = entry
        self._alike.setdefault(str(identity).strip(), []).append(identity)
        return True

    def get(self, identity: int | str) -> T | None:
        """Return the entry of this id, or else the only one whose id is the same but for its type."""
        if identity in self._exact:
            return self._exact[identity]
        alike = self._alike.get(str(identity).strip(), [])
        return self._exact[alike[0]] if len(alike) == 1 else None


@dataclass(slots=True, kw_only=True)
class _Found(Findings):
    """Images, problems and counts, collected while the files are read."""

    items: dict[Path, Item] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Image:
    """Image of a file, with its objects and the place of each annotation of it."""

    entry: dict[str, Any]
    objects: list[Shape] = field(default_factory=list)
    annotations: int = 0


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for path in files(src, {".json"}):
        text = peek(path)
        keys = [key for key in ("images", "annotations", "categories") if re.search(rf'"{key}"\s*:\s*\[', text)]
        # Between the beginning and the end of a large file, a key may be out of sight.
        if len(keys) == 3 or (len(keys) == 2 and re.search(r'"(category_id|segmentation|supercategory)"\s*:', text)):
            return f"{path.relative_to(src).as_posix()} has {', '.join(keys)}"
    return None


def plan(src: Path) -> Plan:
    """Read the annotation files of a COCO dataset.

    Raises:
        DataError: There is no annotation file, or its categories cannot be read.
    """
    found, finder = _Found(), FileFinder(src)
    documents_by_path = _documents(src, found)
    labels = _labels(documents_by_path, src)
    splits = {path: split_of(path.stem) or deepest_split(path.parent.relative_to(src)) for path in documents_by_path}
    takes_crowds = _takes_crowds(documents_by_path, found)
    holding = {path.parent for path in source_files(src)}
    folders = sorted(holding.union(*(folder.parents for folder in holding)))
    for path, document in documents_by_path.items():
        places = _image_folders(path, splits[path], src, folders)
        _read_images(document, path, splits[path], places, labels, takes_crowds, finder, found)
    for path in unlisted_images(src, found.items.keys()):
        found.notes.add("images that no JSON lists: not imported", finder.name(path))
    return found.plan(labels.classes, without_lone_split(list(found.items.values()), found.notes))


def _documents(src: Path, found: _Found) -> dict[Path, dict[str, Any]]:
    """Return the files of instance annotations, without the captions and key points in the original's folder.

    Files that are named as such are taken, or else all that hold instances; deeper folders only if there are none.
    """
    paths = [path for path in source_files(src) if path.suffix.lower() == ".json"]
    read: dict[Path, dict[str, Any]] = {}
    passed: dict[Path, str] = {}
    for level in ([path for path in paths if len(path.relative_to(src).parts) <= 2], paths):
        named = [path for path in level if path.name.lower().startswith("instances_")]
        named = named or [path for path in level if path.name == "_annotations.coco.json"]
        for path in (path for path in named or level if path not in passed):
            try:
                value = documents.read_json_value(path)
                _require_instances(value, path)
            except DataError as error:
                passed[path] = str(error)
                if named:  # its name says that annotations are lost
                    found.problems.append(str(error))
                continue
            read[path] = value
        if read or found.problems:
            break
    if not read and found.problems:
        raise ImportProblemsError(found.problems)
    if not read:
        reason = next((f": {reason}" for reason in passed.values()), "")
        raise DataError(
            f"{printable(src)} — no JSON file with images, annotations and categories{reason} — expected "
            "annotations/instances_train2017.json or train/_annotations.coco.json"
        )
    for path in paths:
        split = split_of(path.stem)
        if path in read or path in passed or split is None or split in {split_of(other.stem) for other in read}:
            continue
        with suppress(DataError):  # another split, under another name
            value = documents.read_json_value(path)
            _require_instances(value, path)
            read[path] = value
    for path in paths:
        if path not in read and passed.get(path) not in found.problems:
            found.notes.add("JSON files that are not read as COCO instances", printable(path))
    return read


def _require_instances(value: Any, path: Path) -> None:
    """Refuse a JSON file that holds no COCO instances.

    Raises:
        DataError: It holds something else.
    """
    where = printable(path)
    if not isinstance(value, dict):
        raise DataError(f"{where} — holds a {type(value).__name__} — expected a JSON object")
    for key in _KEYS:
        documents.field(value, key, list, where)
    if any(isinstance(entry, dict) and "segments_info" in entry for entry in value["annotations"][:1]):
        raise DataError(f"{where} — a panoptic file — expected instances — export them, or the masks")


def _labels(documents_by_path: Mapping[Path, dict[str, Any]], src: Path) -> Labels:
    """Number the categories of all files by name, in the order of their ids."""
    names, used, parents = [], set(), set()
    for path, document in documents_by_path.items():
        where = printable(path)
        own = _ByIdentity[str]()
        for entry in document["categories"]:
            identity = _identity(entry, "id", f"{where}: a category")
            name = documents.field(entry, "name", str, f"{where}: category {identity}")
            if not own.add(identity, name) and own.get(identity) != name:
                raise DataError(
                    f"{where} — category id {identity!r} — is {own.get(identity)!r} and {name!r} — expected one name"
                )
        entries = sorted(document["categories"], key=lambda entry: _order(_identity(entry, "id", where)))
        names += [entry["name"] for entry in entries]
        parents |= {str(e.get("supercategory")) for e in entries if e.get("supercategory") != e["name"]}
        for entry in document["annotations"]:
            try:
                used.add(own.get(_identity(entry, "category_id", where)))
            except DataError:  # listed with the annotations
                continue
    # Roboflow puts the common parent of all categories before them, as a category without annotations.
    return label_classes((n for n in names if n in used or n not in parents), where=printable(src))


def _order(identity: int | str) -> tuple[bool, float, str]:
    """Return the order of an id: numbers, then other texts."""
    is_text = not re.fullmatch(r"-?\d{1,18}", str(identity).strip())
    return is_text, 0 if is_text else int(identity), str(identity)


def _takes_crowds(documents_by_path: Mapping[Path, dict[str, Any]], found: _Found) -> bool:
    """Tell whether what is marked as a crowd is an object.

    CVAT writes every brush mask as a crowd, because its run lengths stand for crowds in COCO itself. Other tools mark all
    of their objects so. In a dataset with other objects, crowds are what COCO means: groups whose members are not outlined.
    """
    first, crowds, others, from_cvat = "", 0, 0, False
    for path, document in documents_by_path.items():
        from_cvat |= _is_of_cvat(document)
        for index, entry in enumerate(document["annotations"]):
            if not isinstance(entry, dict) or not entry.get("segmentation"):
                continue
            attributes = entry.get("attributes")
            from_cvat |= isinstance(attributes, dict) and "occluded" in attributes
            if _is_crowd(entry):
                first, crowds = first or _where(path, entry, index), crowds + 1
            else:
                others += 1
    if from_cvat:
        what = "masks that CVAT marks as crowds (iscrowd): drawn as objects"
    elif not others:
        what = "objects are marked as crowds (iscrowd), as all are: drawn as objects"
    else:
        what = "crowds (iscrowd): their pixels are ignored, except under other objects"
    found.notes.add(what, first, count=crowds)
    return from_cvat or not others


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    """Tell whether an annotation is marked as a crowd, or as one to ignore, by a number, a text or a truth value."""
    marks = (entry.get("iscrowd"), entry.get("ignore"))
    return any(str(mark).strip().lower() in ("1", "1.0", "true", "yes") for mark in marks)


def _is_of_cvat(document: Mapping[str, Any]) -> bool:
    """Tell whether CVAT wrote a file: all of its information is empty."""
    info, licenses = document.get("info"), document.get("licenses")
    keys = {"contributor", "date_created", "description", "url", "version", "year"}
    is_empty = isinstance(info, dict) and info.keys() == keys and not any(info[key] for key in keys - {"date_created"})
    return is_empty and isinstance(licenses, list) and licenses == [{"name": "", "id": 0, "url": ""}]


def _where(path: Path, entry: Any, index: int) -> str:
    return f"{printable(path)}: annotation {entry.get('id', index) if isinstance(entry, dict) else index}"


def _read_images(
    document: dict[str, Any],
    path: Path,
    split: Split | None,
    folders: Sequence[Path],
    labels: Labels,
    takes_crowds: bool,
    finder: FileFinder,
    found: _Found,
) -> None:
    """Add the images of one annotation file, with their objects, to ``found``."""
    images, order = _ByIdentity[_Image](), []
    for entry in document["images"]:
        try:
            identity = _identity(entry, "id", f"{printable(path)}: an image")
        except DataError as error:
            found.problems.append(str(error))
            continue
        image = _Image(entry=entry)
        if images.add(identity, image):
            order.append(image)
        else:
            found.problems.append(
                f"{printable(path)} — image id {identity!r} — two images have it — expected an id for each"
            )
    _read_objects(document, path, labels, takes_crowds, images, found)
    for image in order:
        entry, where = image.entry, f"{printable(path)}: an image"
        try:
            name = documents.field(entry, "file_name" if entry.get("file_name") else "coco_url", str, where)
            file = finder.find_image(name, folders, printable(path))
        except DataError as error:
            found.problems.append(str(error))
            continue
        if file is None:
            found.left_out.append(
                f"{printable(name)} — image not found ({image.annotations} annotations in {printable(path)})"
            )
        elif file in found.items:
            found.problems.append(
                f"{printable(path)} — lists {printable(file)}, which is listed before — expected once"
            )
        else:
            size = documents.stated_size(entry, "height", "width")
            drawing = Drawing(shapes=tuple(image.objects), largest_first=True)
            found.items[file] = Item(name=finder.name(file), image=file, draw=drawing, split=split, size=size)


def _read_objects(
    document: dict[str, Any],
    path: Path,
    labels: Labels,
    takes_crowds: bool,
    images: _ByIdentity[_Image],
    found: _Found,
) -> None:
    """Add the objects of one file to its images."""
    names = _ByIdentity[str]()
    for entry in document["categories"]:
        names.add(_identity(entry, "id", printable(path)), entry["name"])
    for index, entry in enumerate(document["annotations"]):
        where = _where(path, entry, index)
        try:
            image_id = _identity(entry, "image_id", where)
            image = images.get(image_id)
            if image is None:
                raise DataError(f"{where} — image_id {image_id!r} — expected the id of an image in the file")
            image.annotations += 1
            if not (segmentation := entry.get("segmentation")):
                found.undrawn.add(f"{_without(entry)} without a segmentation: not drawn", where)
                continue
            category = _identity(entry, "category_id", where)
            if (name := names.get(category)) not in labels.ids:
                raise DataError(f"{where} — category_id {category!r} — expected the id of a category in the file")
            parts = _parts(segmentation, where)
        except DataError as error:
            found.problems.append(str(error))
            continue
        is_ignored = _is_crowd(entry) and not takes_crowds
        image.objects.append(
            Shape(
                where=f"{where} '{printable(str(name))}'",
                kind="run-length" if isinstance(parts[0], dict) else "polygon",
                class_id=None if is_ignored else labels.ids[str(name)],
                regions=partial(_regions, parts, where),
            )
        )


def _without(entry: Mapping[str, Any]) -> str:
    """Return what an annotation without a segmentation has."""
    if entry.get("keypoints"):
        return "annotations of key points"
    if entry.get("caption") or entry.get("utf8_string"):
        return "annotations of text"
    return "annotations (boxes only)" if entry.get("bbox") else "annotations"


def _identity(entry: Any, key: str, where: str) -> int | str:
    """Return an id: a whole number in the original, a text or a float in some exports."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}\.0+", value.strip()):
        return value.strip().partition(".")[0]
    return value if isinstance(value, str) else documents.field(entry, key, int, where)


def _image_folders(path: Path, split: Split | None, src: Path, folders: Collection[Path]) -> list[Path]:
    """Return the folders that may hold the images of a file, the likeliest first.

    For instances_train2017.json it is train2017, or else one that is called as its split, such as Training; ``folders``
    are all that there are.
    """
    name = path.stem.removeprefix("instances_")
    bases = [
        src / "images",
        src,
        path.parent / "images",
        path.parent,
        path.parent.parent / "images",
        path.parent.parent,
    ]
    called = [folder for folder in folders if split and split_called(folder.name) == split]
    return (
        [base / name for base in bases]
        + [folder for base in bases for folder in called if folder.parent == base]
        + bases
    )


def _parts(segmentation: Any, where: str) -> list[Any]:
    """Return the parts of a segmentation: lists of coordinates, and objects with run lengths.

    Some exports write one polygon without the list of parts around it, or its corners as the parts.
    """
    if isinstance(segmentation, dict):
        return [segmentation]
    if not isinstance(segmentation, list):
        raise DataError(
            f"{where} — segmentation is {documents.short(segmentation)} — expected a list of polygons or run lengths"
        )
    is_flat = not any(isinstance(part, (list, dict)) for part in segmentation)
    return [segmentation] if is_flat or (len(segmentation) > 2 and _are_corners(segmentation)) else segmentation


def _are_corners(parts: Iterable[Any]) -> bool:
    return all(isinstance(p, list) and len(p) == 2 and not any(isinstance(v, (list, dict)) for v in p) for p in parts)


def _regions(parts: Sequence[Any], where: str, size: Size) -> list[Region]:
    """Return the pixels of each part of an object."""
    return [
        _run_lengths(part, where, size) if isinstance(part, dict) else polygon(documents.point_array(part, where), size)
        for part in parts
    ]


def _run_lengths(part: Mapping[str, Any], where: str, size: Size) -> Region:
    counts, stated = part.get("counts"), part.get("size")
    if "counts" not in part and "size" not in part:
        raise DataError(f"{where} — a part is {documents.short(part)} — expected pairs of numbers, or counts and size")
    if stated != list(size):
        raise DataError(f"{where} — run lengths of size {stated!r} — expected the image's [{size[0]}, {size[1]}]")
    lengths: Any = coco_counts(counts, where) if isinstance(counts, str) else counts
    return pixels(runs(lengths, size, "F", where), size)
