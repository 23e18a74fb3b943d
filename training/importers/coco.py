"""Import COCO instances: categories, and objects as polygons or run lengths.

Reference: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import Split
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers import documents
from training.importers.files import FileFinder, split_of, unlisted_images
from training.importers.plan import Item, Labels, Plan, Size, counted, label_classes
from training.importers.shapes import Region, coco_counts, polygon, runs

_KEYS = {"images", "annotations", "categories"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """Annotation of an image; class 255 is a crowd."""

    where: str
    class_id: int
    segmentation: Any

    def regions(self, size: Size) -> list[Region]:
        """Return the pixels of each part of the object."""
        if isinstance(self.segmentation, list):
            return [polygon(documents.point_array(part, self.where), size) for part in self.segmentation]
        counts, stated = self.segmentation.get("counts"), self.segmentation.get("size")
        if stated != list(size):
            raise DataError(
                f"{self.where} — run lengths of size {stated!r} — expected the image's [{size[0]}, {size[1]}]"
            )
        lengths = coco_counts(counts, self.where) if isinstance(counts, str) else counts
        return [Region(top=0, left=0, inside=runs(lengths, size, "F", self.where))]


@dataclass(slots=True, kw_only=True)
class _Found:
    """Images, problems and counts, collected while the files are read."""

    items: dict[Path, Item] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def plan(src: Path) -> Plan:
    """Read the annotation files of a COCO dataset.

    Raises:
        DataError: There is no annotation file, or one cannot be read at all.
    """
    documents_by_path = {path: documents.read_json(path) for path in _annotation_files(src)}
    labels = _labels(documents_by_path, src)
    splits = {path: split_of(path.stem) or split_of(path.parent.name) for path in documents_by_path}
    found, finder = _Found(), FileFinder(src)
    if len(set(splits.values())) > 1 and None in splits.values():
        unnamed = next(path for path, split in splits.items() if split is None)
        found.problems.append(
            f"{printable(unnamed)} — its name says no split, others' do — expected train, val or test in it"
        )
    for path, document in documents_by_path.items():
        _read_images(document, path, splits[path], labels, src, finder, found)
    if found.counts["annotations without a segmentation (boxes only): not drawn"] and not found.counts["drawn"]:
        found.problems.append(
            f"{printable(src)} — annotations are boxes only — expected segmentations — export polygons"
        )
    del found.counts["drawn"]
    found.counts["images that no JSON lists: not imported"] = unlisted_images(src, found.items.keys())
    return Plan(
        classes=labels.classes,
        items=tuple(found.items.values()),
        problems=tuple(found.problems),
        left_out=tuple(found.left_out),
        notes=counted(found.counts),
    )


def _annotation_files(src: Path) -> list[Path]:
    """Return the files of instance annotations, without the captions and keypoints in the original's folder."""
    for pattern in (
        "annotations/instances_*.json",
        "instances_*.json",
        "*/_annotations.coco.json",
        "_annotations.coco.json",
    ):
        if found := sorted(src.glob(pattern)):
            return found
    others = [path for pattern in ("*.json", "annotations/*.json", "*/*.json") for path in sorted(src.glob(pattern))]
    found = [path for path in dict.fromkeys(others) if documents.read_json(path).keys() >= _KEYS]
    if not found:
        raise DataError(
            f"{printable(src)} — no JSON file with images, annotations and categories — expected "
            "annotations/instances_train2017.json or train/_annotations.coco.json"
        )
    return found


def _labels(documents_by_path: dict[Path, dict[str, Any]], src: Path) -> Labels:
    """Number the categories of all files by name, in the order of their ids."""
    names, used, parents = [], set(), set()
    for path, document in documents_by_path.items():
        where = printable(path)
        categories = {
            documents.field(entry, "id", int, f"{where}: a category"): entry
            for entry in documents.field(document, "categories", list, where)
        }
        parents |= {str(e.get("supercategory")) for e in categories.values() if e.get("supercategory") != e.get("name")}
        annotations = documents.field(document, "annotations", list, where)
        ids = {str(entry.get("category_id")) for entry in annotations if isinstance(entry, dict)}
        for category_id in sorted(categories):
            names.append(documents.field(categories[category_id], "name", str, f"{where}: category {category_id}"))
            if str(category_id) in ids:
                used.add(names[-1])
    # Roboflow puts the common parent of all categories before them, as a category without annotations.
    return label_classes((n for n in names if n in used or n not in parents), where=printable(src))


def _read_images(
    document: dict[str, Any],
    path: Path,
    split: Split | None,
    labels: Labels,
    src: Path,
    finder: FileFinder,
    found: _Found,
) -> None:
    """Add the images of one annotation file, with their objects, to ``found``."""
    folders = _image_folders(path, split, src)
    objects = _objects(document, path, labels, found)
    for entry in documents.field(document, "images", list, printable(path)):
        where = f"{printable(path)}: an image"
        try:
            own = objects.pop(_identity(entry, "id", where), [])
            name = documents.field(entry, "file_name", str, where)
            image = finder.find(name, folders, printable(path))
        except DataError as error:
            found.problems.append(str(error))
            continue
        if image is None:
            found.left_out.append(f"{printable(name)} — image not found ({len(own)} annotations in {printable(path)})")
        elif image in found.items:
            found.problems.append(
                f"{printable(path)} — lists {printable(image)}, which is listed before — expected once"
            )
        else:
            height, width = entry.get("height"), entry.get("width")
            size = (height, width) if isinstance(height, int) and isinstance(width, int) and height and width else None
            found.items[image] = Item(
                name=finder.name(image),
                image=image,
                draw=partial(_draw, own),
                split=split,
                size=size,
            )
    for image_id, own in objects.items():
        found.problems.append(f"{own[0].where} — image_id {image_id!r} — expected the id of an image in the file")


def _objects(document: dict[str, Any], path: Path, labels: Labels, found: _Found) -> dict[Any, list[_Object]]:
    """Return the objects of one file by image id."""
    ids = {entry["id"]: labels.ids.get(entry["name"]) for entry in document["categories"]}
    objects: dict[Any, list[_Object]] = {}
    for index, entry in enumerate(documents.field(document, "annotations", list, printable(path))):
        where = f"{printable(path)}: annotation {entry.get('id', index) if isinstance(entry, dict) else index}"
        try:
            image_id = _identity(entry, "image_id", where)
            category = documents.field(entry, "category_id", int, where)
        except DataError as error:
            found.problems.append(str(error))
            continue
        segmentation, class_id = entry.get("segmentation"), ids.get(category)
        if class_id is None:
            found.problems.append(f"{where} — category_id {category} — expected the id of a category in the file")
        elif not segmentation or not isinstance(segmentation, (list, dict)):
            found.counts["annotations without a segmentation (boxes only): not drawn"] += 1
        else:
            found.counts["drawn"] += 1
            class_id = IGNORE if entry.get("iscrowd") else class_id
            objects.setdefault(image_id, []).append(_Object(where=where, class_id=class_id, segmentation=segmentation))
    return objects


def _identity(entry: Any, key: str, where: str) -> int | str:
    """Return an id: a number in the original, a text in some exports."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else documents.field(entry, key, int, where)


def _image_folders(path: Path, split: Split | None, src: Path) -> list[Path]:
    """Return the folders that may hold the images of a file: train2017 for instances_train2017.json."""
    names = [path.stem.removeprefix("instances_"), *([split] if split else [])]
    bases = [src / "images", src, path.parent / "images", path.parent]
    return [base / name for name in names for base in bases] + bases


def _draw(objects: Iterable[_Object], size: Size) -> NDArray[np.uint8]:
    """Draw crowds, then objects from the largest to the smallest."""
    drawn = [(entry.class_id, entry.regions(size)) for entry in objects]
    drawn.sort(key=lambda pair: (pair[0] != IGNORE, -sum(region.area_px for region in pair[1])))
    mask = np.zeros(size, np.uint8)
    for class_id, regions in drawn:
        for region in regions:
            region.paint(mask, class_id)
    return mask
