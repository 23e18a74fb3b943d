"""Class colours of well-known datasets, so that their colour masks need no ``dataset.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.dataset.mask_files import RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTable:
    """Class colours of a dataset.

    Attributes:
        name: Name of the dataset.
        classes: Name and RGB colour of each class, in order of the usual ids.
        ignored: RGB colours of ignored pixels.
    """

    name: str
    classes: tuple[tuple[str, RGB], ...]
    ignored: tuple[RGB, ...]


def voc_color(index: int) -> RGB:
    """Return a colour of PASCAL VOC's palette: the bits of the index go to red, green and blue in turn, highest first."""
    bits = [[index >> 3 * place + channel & 1 for place in range(8)] for channel in range(3)]
    red, green, blue = (sum(bit << 7 - place for place, bit in enumerate(channel)) for channel in bits)
    return red, green, blue


_VOC_NAMES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]

VOC = ColorTable(
    name="PASCAL VOC",
    classes=tuple((name, voc_color(i)) for i, name in enumerate(_VOC_NAMES)),
    ignored=(voc_color(255),),
)
"""Reference: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, VOClabelcolormap."""

CITYSCAPES = ColorTable(
    name="Cityscapes",
    classes=(
        ("road", (128, 64, 128)),
        ("sidewalk", (244, 35, 232)),
        ("building", (70, 70, 70)),
        ("wall", (102, 102, 156)),
        ("fence", (190, 153, 153)),
        ("pole", (153, 153, 153)),
        ("traffic light", (250, 170, 30)),
        ("traffic sign", (220, 220, 0)),
        ("vegetation", (107, 142, 35)),
        ("terrain", (152, 251, 152)),
        ("sky", (70, 130, 180)),
        ("person", (220, 20, 60)),
        ("rider", (255, 0, 0)),
        ("car", (0, 0, 142)),
        ("truck", (0, 0, 70)),
        ("bus", (0, 60, 100)),
        ("train", (0, 80, 100)),
        ("motorcycle", (0, 0, 230)),
        ("bicycle", (119, 11, 32)),
    ),
    ignored=(
        (0, 0, 0),
        (20, 20, 20),
        (111, 74, 0),
        (81, 0, 81),
        (250, 170, 160),
        (230, 150, 140),
        (180, 165, 180),
        (150, 100, 100),
        (150, 120, 90),
        (0, 0, 90),
        (0, 0, 110),
    ),
)
"""The 19 classes that are evaluated, by trainId. Reference: cityscapesscripts/helpers/labels.py."""

_CAMVID_11: tuple[tuple[str, RGB], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)

CAMVID_11 = ColorTable(name="CamVid, 11 classes", classes=_CAMVID_11, ignored=((0, 0, 0),))
"""Reference: Badrinarayanan, Kendall, Cipolla: SegNet, https://arxiv.org/abs/1511.00561 (the authors' tutorial)."""

CAMVID_32 = ColorTable(
    name="CamVid, 31 classes and void",
    classes=(
        ("animal", (64, 128, 64)),
        ("archway", (192, 0, 128)),
        ("bicyclist", (0, 128, 192)),
        ("bridge", (0, 128, 64)),
        ("building", (128, 0, 0)),
        ("car", (64, 0, 128)),
        ("cart luggage pram", (64, 0, 192)),
        ("child", (192, 128, 64)),
        ("pole", (192, 192, 128)),
        ("fence", (64, 64, 128)),
        ("lane markings driving", (128, 0, 192)),
        ("lane markings other", (192, 0, 64)),
        ("text", (128, 128, 64)),
        ("motorcycle scooter", (192, 0, 192)),
        ("other moving", (128, 64, 64)),
        ("parking block", (64, 192, 128)),
        ("pedestrian", (64, 64, 0)),
        ("road", (128, 64, 128)),
        ("road shoulder", (128, 128, 192)),
        ("pavement", (0, 0, 192)),
        ("sign", (192, 128, 128)),
        ("sky", (128, 128, 128)),
        ("suv pickup truck", (64, 128, 192)),
        ("traffic cone", (0, 0, 64)),
        ("traffic light", (0, 64, 64)),
        ("train", (192, 64, 128)),
        ("tree", (128, 128, 0)),
        ("truck bus", (192, 128, 192)),
        ("tunnel", (64, 0, 64)),
        ("vegetation", (192, 192, 0)),
        ("wall", (64, 192, 0)),
    ),
    ignored=((0, 0, 0),),
)
"""Reference: Brostow, Fauqueur, Cipolla: Semantic object classes in video, 2009, http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/."""

TABLES = (CAMVID_11, CITYSCAPES, VOC, CAMVID_32)
"""All tables, from the fewest classes to the most."""

MIN_SHARE = 0.5
"""Smallest share of a table's classes that must occur, because tools use VOC's first colours for any classes."""


def recognise(colors: set[RGB]) -> ColorTable | None:
    """Return the smallest table that has all these colours and ``MIN_SHARE`` of whose classes occur, or None."""
    for table in TABLES:
        of_classes = {color for _, color in table.classes}
        if colors <= of_classes | set(table.ignored) and len(colors & of_classes) >= MIN_SHARE * len(of_classes):
            return table
    return None
