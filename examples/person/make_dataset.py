"""Write the dataset of the person model: photographs with labels of the teacher, framed and lit as by a webcam.

    python examples/person/make_dataset.py build/person my-data

DATA holds ``ccp_person``, ``person_pool`` and ``person_vs_val``; `docs/models/person.md` says what they are and where
they come from. Each photograph is labelled once (``OUT/looks``); a second call goes on where the first one was stopped.
Then ``OUT/dataset`` gets pictures of 4:3 to train on, and ``person_vs_val`` to validate on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from teacher import Teacher
from webcam import as_by_webcam

from edge_runtime.image import image_files, read_image
from edge_runtime.storage import write_bytes

Image = NDArray[np.uint8]
T = TypeVar("T")
FRAME = (300, 400)
"""Height and width of the training pictures in pixels: 4:3, somewhat larger than the model's input."""
ASPECTS, ASPECT_SHARES = (1.0, 4 / 3, 3 / 2, 16 / 9), (0.15, 0.35, 0.2, 0.3)
"""Ratios of width to height of the camera's frames, which are squeezed to the training pictures as the runtime does it,
and the share of each."""
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
CLOTHES_PARTS, MOSAICS, COMPOSITES, STREETS, DECOYS = 2, 2000, 2400, 800, 1200
"""Numbers of parts of each picture of clothes, of pictures of several photographs side by side, with persons before
another background, of streets with nobody, and of those with decoys."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph with its label.

    Attributes:
        rgb: (H, W, 3) uint8.
        label: (H, W) uint8, ``EMPTY``, ``PERSON`` or ``IGNORE``.
        alpha: (H, W) uint8, the probability of a person × 255.
        passers_by: (H, W) bool, where somebody may be far behind.
    """

    rgb: Image
    label: Image
    alpha: Image
    passers_by: NDArray[np.bool_]


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
    for number, (name, rgb, label) in enumerate(Studio(sources, args.out / "looks", rng).pictures()):
        rgb = np.asarray(cv2.resize(rgb, FRAME[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        label = np.asarray(cv2.resize(label, FRAME[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        write_pair(
            args.out / "dataset" / "train", f"{number:05d}_{name}", as_by_webcam(rgb, label == PERSON, rng), label
        )
        show(f"{number + 1} pictures")
    # Written last: its presence says that the dataset is complete.
    text = f"classes: [background, person]\nignore_id: {IGNORE}\n"
    write_bytes(args.out / "dataset" / "dataset.yaml", text.encode())


def label_all(photos: tuple[Path, ...], out: Path) -> None:
    """Write the teacher's probabilities × 255 as PNG files, those that are not there yet."""
    folder = out / "looks"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [photo for photo in photos if not _labelled(folder, photo).exists()]
    if not missing:
        return
    teacher = Teacher(out / "selfie_segmentation.tflite")
    for done, photo in enumerate(missing, 1):
        rgb = np.ascontiguousarray(read_image(photo)[..., ::-1])
        seen = teacher.probability(rgb)
        # The third channel is not used, but PNG has no pictures of two.
        both = np.stack([seen, teacher.beside(rgb, seen), np.zeros_like(seen)], -1)
        write_bytes(_labelled(folder, photo), cv2.imencode(".png", np.rint(255 * np.clip(both, 0, 1)))[1].tobytes())
        show(f"{done} of {len(missing)} photographs labelled")


def _labelled(folder: Path, photo: Path) -> Path:
    return folder / f"{photo.parent.name}_{photo.stem}.png"


class Studio:
    """Maker of the training pictures."""

    def __init__(self, sources: Sources, labels: Path, rng: np.random.Generator) -> None:
        """Take the photographs, the folder of the teacher's labels, and the source of chance."""
        self._sources, self._rng = sources, rng
        self._photo = cache(lambda path: read_photo(path, labels))
        self._clothes = [np.ascontiguousarray(read_image(path)[..., ::-1]) for path in sources.clothes]
        self._empty = [rgb for path in sources.streets if (rgb := beside_person(self._photo(path))) is not None]
        self._persons = (*sources.streets, *sources.portraits)

    def pictures(self) -> Iterator[tuple[str, Image, Image]]:
        """Yield name, (H, W, 3) picture and (H, W) label of each training picture, of any size."""
        for path in (*self._persons, *self._sources.rooms):
            yield "whole", self._photo(path).rgb, self._photo(path).label
        for path in self._sources.streets:
            yield "upper", *upper_body(self._photo(path), self._frame(), self._rng)
        for _ in range(MOSAICS):
            yield "mosaic", *mosaic(lambda: self._photo(self._one_of(self._persons)), self._frame(), self._rng)
        for rgb in self._clothes:
            for _ in range(CLOTHES_PARTS):
                yield "clothes", *nobody(part_of(rgb, self._frame(), self._rng))
        for _ in range(STREETS):
            yield "street", *nobody(self._street(self._frame()))
        for _ in range(COMPOSITES):
            yield "composite", *self._composite()
        for _ in range(DECOYS):
            rgb, label = nobody(self._clothing(self._frame()) if self._chance(0.3) else self._street(self._frame()))
            for _ in range(self._rng.integers(1, 4)):
                rgb, label = pasted(self._decoy(), rgb, label, self._rng)
            yield "decoy", rgb, label

    def _composite(self) -> tuple[Image, Image]:
        """Return up to three persons before another background, perhaps with a decoy behind them."""
        rgb, label = nobody(self._clothing(self._frame()) if self._chance(0.4) else self._street(self._frame()))
        if self._chance(0.4):
            rgb, label = pasted(self._decoy(), rgb, label, self._rng)
        for _ in range(self._rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])):
            others = (*self._sources.streets, *self._sources.rooms)
            person = self._one_of(self._sources.portraits if self._chance(0.6) else others)
            rgb, label = pasted(self._photo(person), rgb, label, self._rng)
        return rgb, label

    def _decoy(self) -> Photo:
        """Return the silhouette of a person that shows something else: what is pasted is not always a person."""
        shape = self._photo(self._one_of(self._sources.streets)).alpha
        size = shape.shape[0], shape.shape[1]
        filling = self._clothing(size) if self._chance(0.4) else self._street(size)
        turned = int(self._rng.integers(4)) if self._chance(0.5) else 0
        alpha, rgb = (np.ascontiguousarray(np.rot90(array, turned)) for array in (shape, filling))
        return Photo(rgb, np.zeros_like(alpha), alpha, np.zeros(alpha.shape, bool))

    def _clothing(self, size: tuple[int, int]) -> Image:
        """Return a part of a picture of clothes, (height, width)."""
        return part_of(self._one_of(self._clothes), size, self._rng)

    def _street(self, size: tuple[int, int]) -> Image:
        """Return a street with nobody: a small part as if it were out of focus, or several side by side."""
        if self._chance(0.4):
            return part_of(self._one_of(self._empty), size, self._rng)
        return side_by_side(lambda: nobody(some_rows(self._one_of(self._empty), self._rng)), size, self._rng)[0]

    def _frame(self) -> tuple[int, int]:
        """Return height and width of a camera's frame."""
        return FRAME[0], round(FRAME[0] * self._rng.choice(ASPECTS, p=ASPECT_SHARES))

    def _one_of(self, many: Sequence[T]) -> T:
        return many[int(self._rng.integers(len(many)))]

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)


def read_photo(path: Path, labels: Path) -> Photo:
    """Read a photograph, and make its label of what the teacher said and what a drawn mask says."""
    rgb = np.ascontiguousarray(read_image(path)[..., ::-1])
    alpha, beside, _ = cv2.split(np.asarray(cv2.imread(str(_labelled(labels, path))), np.uint8))
    drawn = path.parent.parent / "masks" / f"{path.stem}.png"
    label = agreed(np.asarray(alpha, np.uint8), drawn if drawn.exists() else None)
    passers_by = np.asarray(beside) > SURE[0]
    label[passers_by & (label == EMPTY)] = IGNORE
    return Photo(rgb, label, np.asarray(alpha, np.uint8), passers_by)


def nobody(rgb: Image) -> tuple[Image, Image]:
    """Return a picture with the label that nobody is in it."""
    return rgb, np.full(rgb.shape[:2], EMPTY, np.uint8)


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


def framed(photo: Photo, matrix: NDArray[np.float64], size: tuple[int, int]) -> tuple[Image, Image]:
    """Return a photograph and its label moved by a (2, 3) matrix into a frame, mirrored beyond its border."""
    rgb = cv2.warpAffine(photo.rgb, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    label = cv2.warpAffine(photo.label, matrix, size[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(rgb, np.uint8), np.asarray(label, np.uint8)


def upper_body(photo: Photo, size: tuple[int, int], rng: np.random.Generator) -> tuple[Image, Image]:
    """Return the part of a tall photograph with the head and what is below, as a webcam frames it, at (height, width)."""
    height, width = photo.label.shape
    rows = np.flatnonzero((photo.label == PERSON).any(1))
    head = int(rows[0]) if len(rows) else 0
    part_height = min(height, width * size[0] / size[1]) * rng.uniform(0.75, 1)
    top = np.clip(head - rng.uniform(0.03, 0.3) * part_height, 0, height - part_height)
    scale = size[0] / part_height
    left = rng.uniform(0, max(0.0, width - size[1] / scale))
    return framed(photo, np.array([[scale, 0, -scale * left], [0, scale, -scale * top]]), size)


def mosaic(draw: Callable[[], Photo], size: tuple[int, int], rng: np.random.Generator) -> tuple[Image, Image]:
    """Return photographs side by side, in one row or two, as (height, width): several persons, and smaller ones."""

    def drawn() -> tuple[Image, Image]:
        photo = draw()
        return photo.rgb, photo.label

    heights = [size[0]] if rng.random() < 0.6 else [size[0] // 2, size[0] - size[0] // 2]
    rows = [side_by_side(drawn, (height, size[1]), rng) for height in heights]
    return np.vstack([rgb for rgb, _ in rows]), np.vstack([label for _, label in rows])


def side_by_side(
    draw: Callable[[], tuple[Image, Image]], size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image, Image]:
    """Return pictures with their labels beside each other as one of (height, width), some of them mirrored."""
    pictures, labels, filled = [], [], 0
    while filled < size[1]:
        rgb, label = draw()
        part = max(8, round(rgb.shape[1] * size[0] / rgb.shape[0])), size[0]
        way = -1 if rng.random() < 0.5 else 1
        pictures.append(np.asarray(cv2.resize(rgb, part, interpolation=cv2.INTER_AREA), np.uint8)[:, ::way])
        labels.append(np.asarray(cv2.resize(label, part, interpolation=cv2.INTER_NEAREST), np.uint8)[:, ::way])
        filled += part[0]
    left = int(rng.integers(filled - size[1] + 1))
    seen = np.s_[:, left : left + size[1]]
    return np.ascontiguousarray(np.hstack(pictures)[seen]), np.ascontiguousarray(np.hstack(labels)[seen])


def some_rows(rgb: Image, rng: np.random.Generator) -> Image:
    """Return 60 to 100 % of the rows of a picture."""
    rows = round(len(rgb) * rng.uniform(0.6, 1))
    top = int(rng.integers(len(rgb) - rows + 1))
    return rgb[top : top + rows]


def part_of(rgb: Image, size: tuple[int, int], rng: np.random.Generator) -> Image:
    """Return a random part of a picture at (height, width), perhaps mirrored."""
    height, width = rgb.shape[:2]
    share = rng.uniform(0.6, 1)
    rows = max(8, round(share * min(height, width * size[0] / size[1])))
    columns = max(8, min(width, round(rows * size[1] / size[0])))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    part = cv2.resize(rgb[top : top + rows, left : left + columns], size[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def beside_person(photo: Photo) -> Image | None:
    """Return the widest part of a street with nobody in it, if it is wide enough to be a background."""
    empty = ~((photo.alpha > 20) | photo.passers_by).any(0)
    ends = np.flatnonzero(np.diff(np.r_[False, empty, False]))
    runs = ends.reshape(-1, 2)
    if not len(runs):
        return None
    left, right = runs[np.ptp(runs, axis=1).argmax()]
    return np.ascontiguousarray(photo.rgb[:, left:right]) if right - left >= 90 else None


def pasted(photo: Photo, rgb: Image, label: Image, rng: np.random.Generator) -> tuple[Image, Image]:
    """Return a frame and its label with the person of a photograph in front, cut by the lower border if the photograph cut it."""
    rows, columns = np.where(photo.alpha > 127)
    if len(rows) < 400:
        return rgb, label
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    height, width = label.shape
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
