"""Write the dataset of the person model: photographs with labels of the teacher, framed and lit as by a webcam.

    python examples/person/make_dataset.py build/person my-data

DATA holds ``ccp_person``, ``person_pool`` and ``person_vs_val``; `docs/models/person.md` says what they are and where
they come from. Each photograph is labelled once (``OUT/labels``); a second call goes on where the first one was stopped.
Then ``OUT/dataset`` gets pictures of 4:3 to train on, and ``person_vs_val`` to validate on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from teacher import Teacher
from webcam import as_by_webcam

from edge_runtime.image import image_files, read_image
from edge_runtime.storage import write_bytes

Image = NDArray[np.uint8]
FRAME = (300, 400)
"""Height and width of the training pictures in pixels: 4:3, somewhat larger than the model's input."""
EMPTY, PERSON, IGNORE = 0, 1, 255
SURE = (38, 217)
"""Teacher's probability × 255 below which a pixel is empty, and above which it is a person."""
OUTLINE_PX = 5
"""Width of the outline that is not labelled: the teacher's mean of several looks is blurred there, and the public weights
draw outlines better than it."""
THICK_PX = 9
"""Where a drawn mask and the teacher disagree over at least so many pixels, the teacher is wrong about a thing, not about
an outline."""
SAME_ROOM = "people-detection"
"""Frames of the room in which false persons are measured: not trained on."""
HELD_OUT = 4
"""Every so many of the pictures of clothes is kept for measuring false persons."""
COMPOSITES, STREETS, DECOYS = 2400, 500, 1200
"""Numbers of pictures with persons before another background, of empty parts of streets, and of those with decoys."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph with its label.

    Attributes:
        rgb: (H, W, 3) uint8.
        label: (H, W) uint8, ``EMPTY``, ``PERSON`` or ``IGNORE``.
        alpha: (H, W) uint8, the probability of a person × 255.
    """

    rgb: Image
    label: Image
    alpha: Image


@dataclass(frozen=True, slots=True)
class Sources:
    """Paths of the photographs, by what they show."""

    streets: tuple[Path, ...]
    portraits: tuple[Path, ...]
    rooms: tuple[Path, ...]
    clothes: tuple[Path, ...]

    @classmethod
    def of(cls, data: Path) -> Sources:
        """List the photographs below ``data``."""
        pool, ccp = data / "person_pool", data / "ccp_person"
        clothes = image_files(pool / "empty_clothing")
        return cls(
            streets=(*image_files(ccp / "images"), *image_files(ccp / "unlabelled")),
            portraits=(*image_files(pool / "us_congress"), *image_files(pool / "gsa_18f")),
            rooms=tuple(f for f in image_files(pool / "intel_gif_frames") if not f.stem.startswith(SAME_ROOM)),
            clothes=tuple(file for i, file in enumerate(clothes) if i % HELD_OUT),
        )


def main() -> None:
    """Label, then write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder with the public weights, to be written to")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the photographs")
    args = parser.parse_args()
    sources = Sources.of(args.data)
    label_all((*sources.streets, *sources.portraits, *sources.rooms), args.out)
    if (args.out / "dataset" / "dataset.yaml").exists():
        return
    shutil.rmtree(args.out / "dataset", ignore_errors=True)
    write_validation(args.data / "person_vs_val", args.out / "dataset")
    rng = np.random.default_rng(0)
    for number, (name, rgb, label) in enumerate(pictures(sources, args.out / "labels", rng)):
        write_pair(
            args.out / "dataset" / "train", f"{number:05d}_{name}", as_by_webcam(rgb, label == PERSON, rng), label
        )
        show(f"{number + 1} pictures")
    # Written last: its presence says that the dataset is complete.
    text = f"classes: [background, person]\nignore_id: {IGNORE}\n"
    write_bytes(args.out / "dataset" / "dataset.yaml", text.encode())


def label_all(photos: tuple[Path, ...], out: Path) -> None:
    """Write the teacher's probabilities × 255 as PNG files, those that are not there yet."""
    folder = out / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [photo for photo in photos if not _labelled(folder, photo).exists()]
    if not missing:
        return
    teacher = Teacher(out / "selfie_segmentation.tflite")
    for done, photo in enumerate(missing, 1):
        rgb = np.ascontiguousarray(read_image(photo)[..., ::-1])
        share = np.rint(255 * np.clip(teacher.probability(rgb), 0, 1)).astype(np.uint8)
        write_bytes(_labelled(folder, photo), cv2.imencode(".png", share)[1].tobytes())
        show(f"{done} of {len(missing)} photographs labelled")


def _labelled(folder: Path, photo: Path) -> Path:
    return folder / f"{photo.parent.name}_{photo.stem}.png"


def pictures(sources: Sources, labels: Path, rng: np.random.Generator) -> Iterator[tuple[str, Image, Image]]:
    """Yield name, (H, W, 3) picture and (H, W) label of each training picture."""

    @cache
    def photo(path: Path) -> Photo:
        rgb = np.ascontiguousarray(read_image(path)[..., ::-1])
        alpha = np.asarray(cv2.imread(str(_labelled(labels, path)), cv2.IMREAD_GRAYSCALE), np.uint8)
        drawn = path.parent.parent / "masks" / f"{path.stem}.png"
        return Photo(rgb, agreed(alpha, drawn if drawn.exists() else None), alpha)

    def decoy() -> Photo:
        """Return a silhouette of a person that shows something else: what is pasted is not always a person."""
        shape = photo(sources.streets[rng.integers(len(sources.streets))])
        fillings = clothes if rng.random() < 0.4 else empty
        filling = cv2.resize(part_of(fillings[rng.integers(len(fillings))], rng), shape.alpha.shape[::-1])
        turned = int(rng.integers(4)) if rng.random() < 0.5 else 0
        alpha, filling = np.rot90(shape.alpha, turned), np.rot90(filling, turned)
        return Photo(np.ascontiguousarray(filling), np.zeros_like(alpha), np.ascontiguousarray(alpha))

    for path in (*sources.streets, *sources.portraits, *sources.rooms):
        found = photo(path)
        yield "whole", cv2.resize(found.rgb, FRAME[::-1], interpolation=cv2.INTER_AREA), shrunk(found.label, FRAME)
    for path in sources.streets:
        yield "upper", *upper_body(photo(path), rng)
        yield "far", *far_away(photo(path), rng)
    clothes = [np.ascontiguousarray(read_image(path)[..., ::-1]) for path in sources.clothes]
    for rgb in clothes:
        for _ in range(2):
            yield "clothes", part_of(rgb, rng), np.zeros(FRAME, np.uint8)
    empty = [rgb for path in sources.streets if (rgb := beside_person(photo(path))) is not None]
    for _ in range(STREETS):
        yield "street", part_of(empty[rng.integers(len(empty))], rng), np.zeros(FRAME, np.uint8)
    for _ in range(COMPOSITES):
        backgrounds = clothes if rng.random() < 0.5 else empty
        background = part_of(backgrounds[rng.integers(len(backgrounds))], rng)
        label = np.zeros(FRAME, np.uint8)
        if rng.random() < 0.4:
            background, label = pasted(decoy(), background, label, rng)
        for _ in range(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])):
            group = sources.portraits if rng.random() < 0.6 else (*sources.streets, *sources.rooms)
            background, label = pasted(photo(group[rng.integers(len(group))]), background, label, rng)
        yield "composite", background, label
    for _ in range(DECOYS):
        backgrounds = clothes if rng.random() < 0.3 else empty
        background = part_of(backgrounds[rng.integers(len(backgrounds))], rng)
        label = np.zeros(FRAME, np.uint8)
        for _ in range(rng.integers(1, 4)):
            background, label = pasted(decoy(), background, label, rng)
        yield "decoy", background, label


def agreed(alpha: Image, drawn: Path | None) -> Image:
    """Return the label of a photograph: where the teacher is sure, and what a drawn mask knows better."""
    label = sure(alpha)
    if drawn is None:
        return label
    mask = np.asarray(cv2.imread(str(drawn), cv2.IMREAD_GRAYSCALE)) > 127
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THICK_PX, THICK_PX))
    thick = cv2.morphologyEx((mask != (alpha > 127)).astype(np.uint8), cv2.MORPH_OPEN, element).astype(bool)
    label[thick & mask] = PERSON
    label[thick & ~mask] = IGNORE  # the drawn masks leave out bags, and persons in the background
    return label


def sure(alpha: Image) -> Image:
    """Return the label of what the teacher is sure of, without the outline."""
    label = np.full(alpha.shape, IGNORE, np.uint8)
    outline = cv2.morphologyEx((alpha > 127).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((OUTLINE_PX, OUTLINE_PX)))
    label[(alpha < SURE[0]) & (outline == 0)] = EMPTY
    label[(alpha > SURE[1]) & (outline == 0)] = PERSON
    return label


def shrunk(label: Image, size: tuple[int, int]) -> Image:
    """Return a label at another (height, width)."""
    return np.asarray(cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def framed(photo: Photo, matrix: NDArray[np.float64]) -> tuple[Image, Image]:
    """Return a photograph and its label moved by a (2, 3) matrix into a frame, mirrored beyond its border."""
    size = FRAME[::-1]
    rgb = cv2.warpAffine(photo.rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    label = cv2.warpAffine(photo.label, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(rgb, np.uint8), np.asarray(label, np.uint8)


def upper_body(photo: Photo, rng: np.random.Generator) -> tuple[Image, Image]:
    """Return a 4:3 part of a tall photograph with the head and what is below, as a webcam frames it."""
    height, width = photo.label.shape
    rows = np.flatnonzero((photo.label == PERSON).any(1))
    head = int(rows[0]) if len(rows) else 0
    part_height = min(height, width * FRAME[0] / FRAME[1]) * rng.uniform(0.75, 1)
    top = np.clip(head - rng.uniform(0.03, 0.3) * part_height, 0, height - part_height)
    scale = FRAME[0] / part_height
    left = rng.uniform(0, max(0.0, width - FRAME[1] / scale))
    return framed(photo, np.array([[scale, 0, -scale * left], [0, scale, -scale * top]]))


def far_away(photo: Photo, rng: np.random.Generator) -> tuple[Image, Image]:
    """Return a frame in which the photograph is small and whole."""
    height, width = photo.label.shape
    scale = FRAME[0] / height * rng.uniform(0.55, 1.0)
    left = rng.uniform(0, FRAME[1] - scale * width)
    top = rng.uniform(0, FRAME[0] - scale * height)
    return framed(photo, np.array([[scale, 0, left], [0, scale, top]]))


def part_of(rgb: Image, rng: np.random.Generator) -> Image:
    """Return a random 4:3 part of a picture, perhaps mirrored."""
    height, width = rgb.shape[:2]
    share = rng.uniform(0.6, 1)
    rows = max(8, round(share * min(height, width * FRAME[0] / FRAME[1])))
    columns = max(8, min(width, round(rows * FRAME[1] / FRAME[0])))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    part = cv2.resize(rgb[top : top + rows, left : left + columns], FRAME[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def beside_person(photo: Photo) -> Image | None:
    """Return the larger part of a street beside its person, if it is wide enough to be a background."""
    columns = np.flatnonzero((photo.alpha > 20).any(0))
    if not len(columns):
        return None
    left, right = photo.rgb[:, : max(0, columns[0] - 4)], photo.rgb[:, columns[-1] + 5 :]
    larger = max(left, right, key=lambda part: part.shape[1])
    return np.ascontiguousarray(larger) if larger.shape[1] >= 90 else None


def pasted(photo: Photo, rgb: Image, label: Image, rng: np.random.Generator) -> tuple[Image, Image]:
    """Return a frame and its label with the person of a photograph in front, cut by the lower border if the photograph cut it."""
    rows, columns = np.where(photo.alpha > 127)
    if len(rows) < 400:
        return rgb, label
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    height, width = FRAME
    whole = bottom < len(photo.alpha) - 3
    scale = height / (bottom - top) * (rng.uniform(0.3, 0.95) if whole else rng.uniform(0.45, 1.2))
    mirrored = -1 if rng.random() < 0.5 else 1
    middle = rng.uniform(0.1, 0.9) * width if rng.random() < 0.5 else rng.normal(0.5, 0.1) * width
    low = rng.uniform(scale * (bottom - top), height) if whole and scale * (bottom - top) < height else height
    shift = middle - mirrored * scale * (left + right) / 2, low - scale * bottom + (0 if whole else 3)
    matrix = np.array([[mirrored * scale, 0, shift[0]], [0, scale, shift[1]]])
    size = (width, height)
    alpha = cv2.warpAffine(photo.alpha, matrix, size, flags=cv2.INTER_LINEAR) / np.float32(255)
    front = cv2.warpAffine(photo.rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Steeper than the probability, because its tails would let the old background through.
    cover = np.clip((alpha - 0.35) / 0.5, 0, 1)[..., np.newaxis]
    light = rng.uniform(0.75, 1.2)
    mixed = np.clip(cover * front * light + (1 - cover) * rgb, 0, 255).astype(np.uint8)
    front_label = sure(np.rint(255 * alpha).astype(np.uint8))
    front = front_label if photo.label.any() else np.where(front_label == PERSON, EMPTY, front_label)
    return mixed, np.where(front_label == EMPTY, label, front).astype(np.uint8)


def write_validation(folder: Path, dataset: Path) -> None:
    """Write the photographs to validate on as they are, with class ids for masks."""
    for image in image_files(folder / "images"):
        mask = np.asarray(cv2.imread(str(folder / "masks" / f"{image.stem}.png"), cv2.IMREAD_GRAYSCALE))
        write_pair(dataset / "val", image.stem, np.ascontiguousarray(read_image(image)[..., ::-1]), mask > 127)


def write_pair(folder: Path, name: str, rgb: Image, label: NDArray[np.bool_] | Image) -> None:
    """Write ``images/NAME.jpg`` and ``masks/NAME.png``."""
    for kind, suffix, pixels in (("images", ".jpg", rgb[..., ::-1]), ("masks", ".png", label.astype(np.uint8))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
        cv2.imwrite(str(folder / kind / f"{name}{suffix}"), pixels, quality)


def show(text: str) -> None:
    """Replace the line of progress."""
    sys.stderr.write(f"\r{text}")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
