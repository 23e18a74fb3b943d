"""Import Oxford-IIIT Pet: photos of cats and dogs with trimaps.

Reference: https://www.robots.ox.ac.uk/~vgg/data/pets/ (annotations/README: 1 pet, 2 background, 3 border)
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import Split
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.image import image_files
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.documents import read_lines
from training.importers.files import FileFinder
from training.importers.mask_files import draw_by_value
from training.importers.plan import Item, Plan, label_classes

_IDS = {1: 1, 2: 0, 3: IGNORE}
_LISTS: dict[Split, str] = {"train": "trainval.txt", "test": "test.txt"}


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    root = next((path for path in (src, src / "oxford-iiit-pet") if (path / "annotations" / "trimaps").is_dir()), None)
    return f"it has {(root / 'annotations' / 'trimaps').relative_to(src).as_posix()}/" if root else None


def plan(src: Path) -> Plan:
    """Find the photos and trimaps of an Oxford-IIIT Pet folder.

    Raises:
        DataError: The folder is not Oxford-IIIT Pet.
    """
    root = next((path for path in (src, src / "oxford-iiit-pet") if (path / "annotations" / "trimaps").is_dir()), None)
    if root is None:
        raise DataError(f"{printable(src)} — no annotations/trimaps/ — expected it and images/, as in the two archives")
    trimaps, finder = root / "annotations" / "trimaps", FileFinder(src)
    listed: list[tuple[Split | None, str]] = [
        (split, line.split()[0])
        for split, name in _LISTS.items()
        if (path := root / "annotations" / name).is_file()
        for line in read_lines(path)
    ]
    items, problems, left_out = [], [], []
    for split, stem in listed or [(None, path.stem) for path in image_files(trimaps)]:
        try:
            trimap = finder.find(f"{stem}.png", [trimaps], printable(root / "annotations"))
        except DataError as error:
            problems.append(str(error))
            continue
        image = finder.with_stem(root / "images", stem, IMAGE_SUFFIXES)
        if trimap is None or image is None:
            left_out.append(f"{printable(stem)} — no {'trimap' if trimap is None else 'image'}")
            continue
        items.append(Item(name=finder.name(image), image=image, draw=draw_by_value(trimap, _IDS), split=split))
    classes = label_classes(["background", "pet"], where=printable(root)).classes
    return Plan(classes=classes, items=tuple(items), problems=tuple(problems), left_out=tuple(left_out))
