"""Import Cityscapes: driving frames from 50 cities, fine annotations; and own images that CVAT exports in its layout.

Reference: names, ids, training ids and colours: https://github.com/mcordts/cityscapesScripts
(cityscapesscripts/helpers/labels.py); file names: its README; CVAT's layout:
https://docs.cvat.ai/docs/dataset_management/formats/format-cityscapes/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import files_below
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.model.contract import ClassInfo
from edge_runtime.storage import printable
from training.data.color_tables import CITYSCAPES
from training.errors import DataError
from training.importers.documents import read_lines
from training.importers.files import FileFinder, split_of
from training.importers.mask_files import classes_by_value, draw_by_value
from training.importers.plan import Color, Item, Plan, named_classes

_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the classes, in the order of their training ids."""
_LABEL_IDS = dict.fromkeys((*range(34), 255), IGNORE) | {label: i for i, label in enumerate(_IDS)}
_TRAIN_IDS = {i: i for i in range(len(_IDS))} | {255: IGNORE}
_KINDS = ("labelIds", "labelTrainIds")
_IMAGE_ENDING = "_leftImg8bit"
_IMAGES = ("leftImg8bit", "imgsFine/leftImg8bit")
"""Folder of the images in the download, and in CVAT's export."""
_OWN_LABELS = "label_colors.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labels:
    """Classes, and the class id of each mask value by the kind of the mask; ``are_own`` if they are not Cityscapes'."""

    classes: tuple[ClassInfo, ...]
    ids: dict[str, dict[int, int]]
    are_own: bool


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    found = [name for name in (*_IMAGES, "gtFine") if (src / name).is_dir()]
    return f"it has {' and '.join(f'{name}/' for name in found)}" if found else None


def plan(src: Path) -> Plan:
    """Find the frames and masks of a Cityscapes folder.

    Raises:
        DataError: The folder is not Cityscapes, or its list of own labels is wrong.
    """
    masks = src / "gtFine"
    images = next((src / name for name in _IMAGES if (src / name).is_dir()), None)
    if images is None or not masks.is_dir():
        missing = [name for name, path in (("leftImg8bit", images), ("gtFine", masks)) if not (path and path.is_dir())]
        raise DataError(
            f"{printable(src)} — no {' and no '.join(missing)} — expected leftImg8bit/ and gtFine/, or CVAT's "
            "imgsFine/leftImg8bit/ and gtFine/ — export with the images"
        )
    labels = _labels(src)
    items, left_out, used = [], [], set()
    finder = FileFinder(src)
    for image in (path for path in files_below(images) if path.suffix.lower() in IMAGE_SUFFIXES):
        folder = image.parent.relative_to(images)
        frame = image.stem.removesuffix(_IMAGE_ENDING)
        found = _mask(masks / folder, frame, finder)
        if found is None:
            left_out.append(f"{printable(image)} — no mask in {printable(masks / folder)}")
            continue
        mask, kind = found
        used.add(finder.name(mask))
        items.append(
            Item(
                name=finder.name(image),
                image=image,
                draw=draw_by_value(mask, labels.ids[kind]),
                split=split_of(folder.parts[0]) if folder.parts else None,
                group=None if labels.are_own else frame.rpartition("_")[0] or frame,
            )
        )
    left_out += [
        f"{printable(path)} — no image in {printable(images / path.parent.relative_to(masks))}"
        for path in files_below(masks)
        if path.stem.endswith(f"_gtFine_{_KINDS[0]}") and finder.name(path) not in used
    ]
    return Plan(classes=labels.classes, items=tuple(items), left_out=tuple(left_out))


def _labels(src: Path) -> _Labels:
    """Return Cityscapes' classes, or those in the list of own labels: the value of a label is its place in it."""
    path = src / _OWN_LABELS
    if not path.is_file():
        classes = named_classes(*zip(*CITYSCAPES.classes, strict=True))
        return _Labels(classes=classes, ids=dict(zip(_KINDS, (_LABEL_IDS, _TRAIN_IDS), strict=True)), are_own=False)
    names: dict[int, str] = {}
    colors: dict[str, Color] = {}
    for value, line in enumerate(read_lines(path)):
        match = re.fullmatch(r"(?:(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+)?(.+)", line)
        if match is None or any(int(part or 0) > 255 for part in match.groups()[:3]):
            raise DataError(f"{printable(path)} — line '{printable(line)}' — expected red green blue name")
        names[value] = match[4]
        if match[1] is not None:
            colors[match[4]] = (int(match[1]), int(match[2]), int(match[3]))
    own, ids = classes_by_value(names, colors, where=printable(path))
    return _Labels(classes=own, ids=dict.fromkeys(_KINDS, {255: IGNORE} | ids), are_own=True)


def _mask(folder: Path, frame: str, finder: FileFinder) -> tuple[Path, str] | None:
    """Return the mask of a frame and its kind; None if there is no mask."""
    for kind in _KINDS:
        if found := finder.with_stem(folder, f"{frame}_gtFine_{kind}", frozenset({".png"})):
            return found, kind
    return None
