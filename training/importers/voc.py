"""Import PASCAL VOC segmentation: its palette masks, and masks that CVAT and LabelMe write in its layout.

Reference: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (classes, colours, 255 for the border);
https://docs.cvat.ai/docs/dataset_management/formats/format-smask/ (labelmap.txt)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import SPLITS, Split
from edge_runtime.image import IMAGE_SUFFIXES, image_files
from edge_runtime.storage import printable
from training.data.color_tables import VOC, voc_color
from training.errors import DataError
from training.importers.documents import read_lines
from training.importers.files import FileFinder
from training.importers.mask_files import draw_by_color, draw_by_value
from training.importers.plan import Color, Draw, Item, Labels, Plan, label_classes

_NAMES = [name for name, _ in VOC.classes]
_BORDER: Color = (224, 224, 192)
_IGNORED = "__ignore__"


def plan(src: Path) -> Plan:
    """Find the images and masks of a VOC folder.

    Raises:
        DataError: The folder is not VOC, or its list of labels is wrong.
    """
    root = _root(src)
    masks, finder = (
        next(root / name for name in ("SegmentationClassPNG", "SegmentationClass") if (root / name).is_dir()),
        FileFinder(src),
    )
    labels, read = _reader(root)
    items, problems, left_out = [], [], []
    for split, stem in _stems(root, masks):
        try:
            mask = finder.find(f"{stem}.png", [masks], printable(root))
            folder, _, name = stem.rpartition("/")
            image = finder.with_stem(root / "JPEGImages" / folder, name, IMAGE_SUFFIXES)
        except DataError as error:
            problems.append(str(error))
            continue
        if mask is None or image is None:
            left_out.append(
                f"{printable(stem)} — no {'mask in ' + masks.name if mask is None else 'image in JPEGImages'}"
            )
            continue
        items.append(Item(name=finder.name(image), image=image, draw=read(mask), split=split))
    return Plan(classes=labels.classes, items=tuple(items), problems=tuple(problems), left_out=tuple(left_out))


def _root(src: Path) -> Path:
    """Return the folder that holds SegmentationClass: the given folder, or the only one up to two levels below."""
    for pattern in ("", "*/", "*/*/"):
        found = sorted({path.parent for path in src.glob(f"{pattern}SegmentationClass*") if path.is_dir()})
        if len(found) > 1:
            raise DataError(
                f"{printable(src)} — {', '.join(path.name for path in found)} — expected one of them: pass it"
            )
        if found and not (found[0] / "JPEGImages").is_dir():
            raise DataError(f"{printable(found[0])} — no JPEGImages/ — expected the images there — export them too")
        if found:
            return found[0]
    raise DataError(
        f"{printable(src)} — no SegmentationClass/ — expected VOC2012/ with JPEGImages/ and SegmentationClass/"
    )


def _reader(root: Path) -> tuple[Labels, Callable[[Path], Draw]]:
    """Return the classes, and the function that reads a mask file into their ids."""
    if (path := root / "labelmap.txt").is_file():
        colors = _labelmap(path)
        labels = label_classes(colors, colors, where=printable(path))
        by_color = {_BORDER: IGNORE, (0, 0, 0): 0} | {color: labels.ids[name] for name, color in colors.items()}
        return labels, partial(draw_by_color, ids=by_color)
    names = read_lines(root / "class_names.txt") if (root / "class_names.txt").is_file() else _NAMES
    names = [name for name in names if name != _IGNORED]
    labels = label_classes(names, {name: voc_color(i) for i, name in enumerate(names)}, where=printable(root))
    by_value = {value: labels.ids[name] for value, name in enumerate(names)} | {255: IGNORE}
    return labels, partial(draw_by_value, ids=by_value)


def _labelmap(path: Path) -> dict[str, Color]:
    """Read lines of "name:red,green,blue:parts:actions"."""
    colors: dict[str, Color] = {}
    for line in read_lines(path):
        match = re.fullmatch(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?", line)
        if not match or max(int(v) for v in match.groups()[1:4]) > 255:
            raise DataError(
                f"{printable(path)} — line '{printable(line)}' — expected name:red,green,blue:parts:actions"
            )
        colors[match[1]] = (int(match[2]), int(match[3]), int(match[4]))
    if len(set(colors.values())) < len(colors):
        raise DataError(f"{printable(path)} — two labels have one colour — expected different ones — export it again")
    return colors


def _stems(root: Path, masks: Path) -> list[tuple[Split | None, str]]:
    """Return splits and stems from the lists in ImageSets/Segmentation; all masks if there are no lists."""
    lists = root / "ImageSets" / "Segmentation"
    found: list[tuple[Split | None, str]] = []
    for split in SPLITS:
        path = lists / f"{split}.txt"
        if split == "train" and not path.is_file():
            path = lists / "trainval.txt"
        if path.is_file():
            found += [(split, line.replace("\\", "/").split()[0].strip('"')) for line in read_lines(path)]
    if not found and (lists / "default.txt").is_file():
        found = [(None, line.strip('"')) for line in read_lines(lists / "default.txt")]
    return found or [(None, path.stem) for path in image_files(masks)]
