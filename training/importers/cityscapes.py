"""Import Cityscapes: driving frames from 50 cities, fine annotations.

Reference: names, ids, training ids and colours: https://github.com/mcordts/cityscapesScripts
(cityscapesscripts/helpers/labels.py); file names: its README.
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import SPLITS
from edge_runtime.image import image_files
from edge_runtime.storage import printable
from training.data.color_tables import CITYSCAPES
from training.errors import DataError
from training.importers.files import FileFinder
from training.importers.mask_files import draw_by_value
from training.importers.plan import Item, Plan, named_classes

_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the classes, in the order of their training ids."""
_LABEL_IDS = dict.fromkeys((*range(34), 255), IGNORE) | {label: i for i, label in enumerate(_IDS)}
_TRAIN_IDS = {i: i for i in range(len(_IDS))} | {255: IGNORE}
_IMAGE_ENDING = "_leftImg8bit"


def plan(src: Path) -> Plan:
    """Find the frames and masks of a Cityscapes folder.

    Raises:
        DataError: The folder is not Cityscapes.
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
    classes = named_classes(*zip(*CITYSCAPES.classes, strict=True))
    return Plan(classes=classes, items=tuple(items), left_out=tuple(left_out))


def _mask(folder: Path, frame: str, finder: FileFinder) -> tuple[Path, dict[int, int]] | None:
    """Return the mask of a frame and the class id of each mask value; None if there is no mask."""
    for kind, ids in (("labelIds", _LABEL_IDS), ("labelTrainIds", _TRAIN_IDS)):
        if found := finder.with_stem(folder, f"{frame}_gtFine_{kind}", frozenset({".png"})):
            return found, ids
    return None
