"""Import masks that show one object or one class each, white on black: several files per image become one mask.

Reference: https://www.kaggle.com/c/data-science-bowl-2018/data (a folder per image, a mask per nucleus);
https://github.com/4uiiurz1/pytorch-nested-unet (a folder of masks per class)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.detect import looks_soft
from edge_runtime.dataset.label_key import SOFT_THRESHOLD
from edge_runtime.dataset.mask_files import decode_mask, histogram
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable, read_bytes
from training.errors import DataError
from training.importers.files import FileFinder, deepest_split, source_files, without_lone_split
from training.importers.glance import entries, folders
from training.importers.painting import Drawing, Shape
from training.importers.plan import Item, Labels, Plan, Tally, label_classes
from training.importers.shapes import Region, Size, pixels

OBJECT = "object"
"""Class of masks that show one object each."""
_IMAGES, _MASKS = "images", "masks"
_Kind = Literal["objects of one image", "objects by name", "objects by image", "classes"]
"""What the files in masks/ are: objects of the only image; objects named a_1.png for a.png; objects in a folder per
image; or images in a folder per class."""


@dataclass(slots=True, kw_only=True)
class _Unit:
    """Folder that holds ``images/`` and ``masks/``.

    Attributes:
        folder: Path of the folder.
        images: Images by stem.
        masks: Mask files by the name of their folder in ``masks/``, "" for those directly in it.
    """

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, list[Path]] = field(default_factory=dict)

    def kind(self, names: Collection[str]) -> _Kind:
        """Return what the files in ``masks/`` are; ``names`` are the classes that would be behind the images' names.

        Raises:
            DataError: They can be several things, or none.
        """
        where, inside = printable(self.folder / _MASKS), [name for name in self.masks if name]
        if "" in self.masks and inside:
            raise DataError(
                f"{where} — files ({printable(self.masks[''][0].name)}) beside folders ({printable(inside[0])}) — "
                "expected one of them — move the files into folders"
            )
        if not inside:
            if len(self.images) == 1:
                return "objects of one image"
            if self.by_name(names):
                return "objects by name"
            raise DataError(
                f"{where} — one file per image, no folder per class or per image — a dataset as it is: run "
                f"`edge-unet data check` on {printable(self.folder)}"
            )
        are_images = all(name in self.images for name in inside)
        are_classes = any(path.stem in self.images for paths in self.masks.values() for path in paths)
        if are_images and are_classes:
            raise DataError(
                f"{where} — its folders ({printable(inside[0])}) and the files in them have names of images — expected "
                "folders named after classes, or files named otherwise than images — rename them"
            )
        return "objects by image" if are_images else "classes"

    def by_name(self, names: Collection[str]) -> str | None:
        """Return how masks directly in ``masks/`` are called after their images; None if each has the name of one.

        A single mask per image is one of a dataset as it is, unless several classes are behind the images' names.
        """
        masks = self.masks.get("", [])
        if any(path.stem in self.images for path in masks):
            return None
        owners = Counter(_owner(path.stem, self.images) for path in masks)
        if any(count > 1 for owner, count in owners.items() if owner):
            return "several masks of an image"
        return "masks called by image and class" if names else None


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    for folder in folders(src):
        masks, inside = _sample(folder / _MASKS)
        images = {path.stem: path for path in _sample(folder / _IMAGES)[0]}
        if not images:
            continue
        where = (folder / _MASKS).relative_to(src).as_posix()
        if inside and not masks:
            return f"{where} has folders of masks, such as {inside[0].name}/"
        if len(masks) > 1 and not inside and len(images) == 1:
            return f"{where} has {len(masks)} masks of one image"
        unit = _Unit(folder=folder, images=images, masks={"": masks})
        if not inside and (form := unit.by_name(_class_names([unit], "objects by name"))):
            return f"{where} has {form}, such as {masks[0].name}"
    return None


def _sample(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return some image files and some folders in a folder."""
    found = entries(folder)
    files = [Path(entry.path) for entry in found if _is_image(Path(entry.name)) and entry.is_file()]
    return files, [Path(entry.path) for entry in found if entry.is_dir()]


def plan(src: Path) -> Plan:
    """Find images and the masks of their objects or classes.

    Raises:
        DataError: There is no folder with ``images/`` and ``masks/``, or it cannot be told what the masks are.
    """
    notes, problems, left_out = Tally(), list[str](), list[str]()
    units = _units(src, notes, problems)
    behind = _class_names(units, "objects by name")
    kinds = {unit.kind(behind): unit for unit in units if unit.images and unit.masks}
    if not kinds:
        raise DataError(
            f"{printable(src)} — no folder with images/ and masks/ — expected ID/images/ID.png with ID/masks/*.png, or "
            "images/a.png with masks/CLASS/a.png, masks/a/*.png or masks/a_1.png"
        )
    if len(kinds) > 1:
        (kind, unit), (other_kind, other) = list(kinds.items())[:2]
        raise DataError(
            f"{printable(src)} — masks of {kind} in {printable(unit.folder)}, of {other_kind} in {printable(other.folder)} "
            "— expected one layout — import them one by one"
        )
    kind = next(iter(kinds))
    names = _class_names(units, kind)
    labels = label_classes(sorted(names), where=printable(src)) if names else _labels(units, kind, printable(src))
    finder = FileFinder(src)
    items = []
    for unit in units:
        # The folder of a single image has the name of the image, which may contain any word.
        place = unit.folder.parent if kind == "objects of one image" and unit.folder != src else unit.folder
        split = deepest_split(place.relative_to(src))
        found = _masks_by_image(unit, kind, names)
        for stem, image in unit.images.items():
            masks = found.pop(stem, {})
            if not masks:
                places = ", ".join(f"{_MASKS}/{printable(name)}" if name else _MASKS for name in unit.masks)
                left_out.append(f"{printable(image)} — no mask in {places or f'{_MASKS}/ beside images/'}")
                continue
            for name in unit.masks.keys() - masks.keys() if kind == "classes" else ():
                notes.add(f"images without a file in masks/{printable(name)}: without that class", printable(image))
            items.append(Item(name=finder.name(image), image=image, draw=_drawing(masks, labels, notes), split=split))
        left_out += [
            f"{printable(path)} — no image for it"
            for masks in found.values()
            for paths in masks.values()
            for path in paths
        ]
    return Plan(
        classes=labels.classes,
        items=tuple(without_lone_split(items, notes)),
        problems=tuple(problems),
        left_out=tuple(left_out),
        notes=notes.lines(),
    )


def _units(src: Path, notes: Tally, problems: list[str]) -> list[_Unit]:
    """Return the folders that hold ``images/`` or ``masks/``, and count the image files elsewhere."""
    units: dict[Path, _Unit] = {}
    for path in (path for path in source_files(src) if _is_image(path)):
        folder = path.parent
        if folder.name.casefold() == _IMAGES and folder != src:
            unit = units.setdefault(folder.parent, _Unit(folder=folder.parent))
            if (other := unit.images.setdefault(path.stem, path)) is not path:
                problems.append(f"{printable(path)} — has the name of {printable(other)} — expected one of them")
        elif folder.name.casefold() == _MASKS and folder != src:
            units.setdefault(folder.parent, _Unit(folder=folder.parent)).masks.setdefault("", []).append(path)
        elif folder.parent.name.casefold() == _MASKS and src not in (folder, folder.parent):
            unit = units.setdefault(folder.parent.parent, _Unit(folder=folder.parent.parent))
            unit.masks.setdefault(folder.name, []).append(path)
        else:
            notes.add("image files neither in images/ nor in masks/ or a folder in it: not imported", printable(path))
    return list(units.values())


def _labels(units: Sequence[_Unit], kind: _Kind, where: str) -> Labels:
    """Number the classes: the folders in ``masks/`` in their order, those that are called 0, 1 … by number."""
    if kind != "classes":
        return label_classes([OBJECT], where=where)
    names = {name for unit in units for name in unit.masks}
    if all(name.isascii() and name.isdigit() for name in names):
        ordered, first = sorted(names, key=int), min(map(int, names))
        labels = label_classes((f"class_{int(name) + (first == 0)}" for name in ordered), where=where)
        return Labels(classes=labels.classes, ids={name: i for i, name in enumerate(ordered, 1)})
    return label_classes(sorted(names), where=where)


def _class_names(units: Sequence[_Unit], kind: _Kind) -> set[str]:
    """Return the classes by which masks in a folder per image, or behind the image's name, are called; empty if by none.

    A few names that come again and again are classes, such as car.png and person_2.png for each image. Numbers, one word
    for all, and names that occur once are those of objects.
    """
    if kind not in ("objects by image", "objects by name"):
        return set()
    images: dict[str, set[Path | str]] = {}
    for unit in units:
        for folder, paths in unit.masks.items():
            for path in paths:
                image = folder or _owner(path.stem, unit.images) or ""
                images.setdefault(_called(path, unit, kind), set()).add(unit.folder / image)
    several = sum(len(found) > 1 for found in images.values())
    return set(images) if 1 < len(images) <= 2 * several and "" not in images else set()


def _called(path: Path, unit: _Unit, kind: _Kind) -> str:
    """Return what a mask file is called, without its image's name and a number at the end."""
    owner = _owner(path.stem, unit.images) if kind == "objects by name" else None
    own = path.stem[len(owner) :] if owner else path.stem
    return re.sub(r"[_. -]*\d*$", "", own).lstrip("_. -")


def _masks_by_image(unit: _Unit, kind: _Kind, names: Collection[str]) -> dict[str, dict[str, list[Path]]]:
    """Return mask files by stem of their image and by class; ``names`` are those of ``_class_names``."""
    found: dict[str, dict[str, list[Path]]] = {}
    for name, paths in unit.masks.items():
        for path in paths:
            if kind == "classes":
                stem = path.stem if path.stem in unit.images else _owner(path.stem, unit.images) or path.stem
                label = name
            elif kind == "objects of one image":
                stem, label = next(iter(unit.images), path.stem), OBJECT
            elif kind == "objects by name":
                stem, label = _owner(path.stem, unit.images) or path.stem, OBJECT
            else:
                stem, label = name, OBJECT
            if names:
                label = _called(path, unit, kind)
            found.setdefault(stem, {}).setdefault(label, []).append(path)
    return found


def _owner(stem: str, images: Collection[str]) -> str | None:
    """Return the image of a mask: its name without one or more parts behind "_", "-", "." or a space."""
    cuts = [match.start() for match in re.finditer("[_. -]", stem)]
    return next((stem[:cut] for cut in reversed(cuts) if stem[:cut] in images), None)


def _drawing(masks: dict[str, list[Path]], labels: Labels, notes: Tally) -> Drawing:
    """Return the shapes of an image, one per mask file, those of a later class on top."""
    shapes = []
    for label in sorted(masks, key=labels.ids.__getitem__):
        for path in masks[label]:
            if path.suffix.lower() in (".jpg", ".jpeg"):
                notes.add(f"JPEG masks: grey levels from {SOFT_THRESHOLD} are inside", printable(path))
            regions = partial(_regions, path)
            shapes.append(Shape(where=printable(path), kind="mask", class_id=labels.ids[label], regions=regions))
    return Drawing(shapes=shapes, are_apart=True)


def _regions(path: Path, size: Size) -> list[Region]:
    inside = _inside(path)
    if inside.shape != size:
        raise DataError(
            f"{printable(path)} — {inside.shape[1]}x{inside.shape[0]}, its image is {size[1]}x{size[0]} — expected one size "
            "— it was made for another copy of the image"
        )
    return [pixels(inside, size)]


def _inside(path: Path) -> NDArray[np.bool_]:
    """Read a mask of one object or class: everything but black, or the lighter half of soft edges.

    Raises:
        InputError: The file cannot be read, or has several values besides black.
    """
    mask = decode_mask(read_bytes(path, DataError), printable(path), allow_lossy=True)
    counts = histogram(mask)
    if mask.lossy or looks_soft(counts):
        return mask.values >= SOFT_THRESHOLD
    if len(counts.keys() - {0}) > 1:
        found = ", ".join(f"{value:06x}" if mask.form == "color" else str(value) for value in list(counts)[:5])
        raise DataError(
            f"{printable(path)} — values {found} — expected 0 and one other: a file shows one object or class — if the "
            "values are class ids, keep one file per image"
        )
    return mask.values > 0


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
