"""Cityscapes: frames of driving in 50 cities, fine annotations.

Reference: names, ids, training ids and colours: https://github.com/mcordts/cityscapesScripts
(cityscapesscripts/helpers/labels.py); file names: its README.
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.labels import IGNORE
from edge_runtime.pairs import SPLITS, image_files
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.files import FileFinder
from training.importers.mask_files import draw_by_value
from training.importers.plan import Color, Item, Plan, named_classes

_CLASSES: dict[str, tuple[int, Color]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Label id and RGB of the classes, in the order of their training ids."""
_LABEL_IDS = dict.fromkeys((*range(34), 255), IGNORE) | {label: i for i, (label, _) in enumerate(_CLASSES.values())}
_TRAIN_IDS = {i: i for i in range(len(_CLASSES))} | {255: IGNORE}
_IMAGE_ENDING = "_leftImg8bit"


def plan(src: Path) -> Plan:
    """Find the frames and masks of a Cityscapes folder.

    Raises:
        DataError: It is none.
    """
    images, masks = src / "leftImg8bit", src / "gtFine"
    missing = [path.name for path in (images, masks) if not path.is_dir()]
    if missing:
        raise DataError(f"{printable(src)} — no {' and no '.join(missing)} — expected leftImg8bit/ and gtFine/")
    items, left_out = [], []
    finder = FileFinder(src)
    for split in SPLITS:
        for city in sorted(path for path in (images / split).glob("*") if path.is_dir()):
            for image in image_files(city):
                frame = image.stem.removesuffix(_IMAGE_ENDING)
                found = _mask(masks / split / city.name, frame, finder)
                if found is None:
                    left_out.append(f"{printable(image)} — no mask in {printable(masks / split / city.name)}")
                    continue
                group = frame.rpartition("_")[0] or frame
                items.append(
                    Item(name=finder.name(image), image=image, draw=draw_by_value(*found), split=split, group=group)
                )
    classes = named_classes(list(_CLASSES), [color for _, color in _CLASSES.values()])
    return Plan(classes=classes, items=tuple(items), left_out=tuple(left_out))


def _mask(folder: Path, frame: str, finder: FileFinder) -> tuple[Path, dict[int, int]] | None:
    """Return the mask of a frame, and what its values mean."""
    for kind, ids in (("labelIds", _LABEL_IDS), ("labelTrainIds", _TRAIN_IDS)):
        if found := finder.with_stem(folder, f"{frame}_gtFine_{kind}", frozenset({".png"})):
            return found, ids
    return None
