"""CamVid's 11 classes, with a drive that training never saw.

The distributed split puts frames of the same drive into train and val. Here a drive, which is the part of the file name
before the frame number, is in one split: 0016E5 trains, 0001TP (at dusk) validates, 0006R0 tests.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks import dataset_folder

DRIVES = {"0016E5": "train", "0001TP": "val", "0006R0": "test"}
CLASSES = [
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign", "fence", "car", "pedestrian", "bicyclist"),
]
VOID = 11


def write(folder: Path, seed: int) -> None:
    """Copy the pairs by drive; the split is always the same, so the seed changes nothing."""
    (source,) = dataset_folder.given_folder("camvid")
    for image in sorted([*source.glob("train/images/*.png"), *source.glob("val/images/*.png")]):
        split = folder / DRIVES[image.stem.partition("_")[0]]
        for kind in ("images", "masks"):
            (split / kind).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image.parents[1] / kind / image.name, split / kind / image.name)
    dataset_folder.write_classes(folder, CLASSES, VOID)
