"""A dataset with every fault that files can have, each planted in a pair of its own."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from datasets import DatasetFolder, palette_png, png
from numpy.typing import NDArray
from PIL import Image

NEEDED_PAIRS = 40


def scene(seed: int, height_px: int = 72, width_px: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture of soft patches, unlike any other, and the class ids 0 to 2 of its brightest."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(30, 210, (9, 12, 3), np.uint8)
    image_bgr = cv2.resize(patches, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    ids = (grey > 110).astype(np.uint8) + (grey > 160)
    return np.asarray(image_bgr, np.uint8), ids.astype(np.uint8)


def scenes(root: Path, train: int = NEEDED_PAIRS, val: int = 6) -> DatasetFolder:
    """Write a dataset of scenes without a fault."""
    dataset = DatasetFolder(root)
    dataset.yaml("classes: [low, middle, high]\n")
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            image_bgr, ids = scene(1000 * (split == "val") + i)
            dataset.image(f"{split}{i:02}.png", png(image_bgr), split)
            dataset.mask(f"{split}{i:02}.png", png(ids), split)
    return dataset


def encoded(image_bgr: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    """Encode an image with Pillow."""
    data = io.BytesIO()
    channels = image_bgr[..., [2, 1, 0, 3][: image_bgr.shape[2]]] if image_bgr.ndim == 3 else image_bgr
    Image.fromarray(channels).save(data, kind, **options)
    return data.getvalue()


def with_orientation(image: NDArray[np.uint8], kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


def png_header(height_px: int, width_px: int) -> bytes:
    """Return the first bytes of a PNG that announces a huge picture."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def flipped_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


class Planter:
    """Changes one pair after another of a good dataset in ``train`` and ``val``, and remembers what is to be found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.expected: list[tuple[str, str]] = []
        self._stems = iter(sorted(path.stem for path in (root / "train/images").iterdir()))

    def take(self) -> tuple[str, NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the stem, the image and the mask of a pair that nobody else changes."""
        stem = next(self._stems)
        image = cv2.imread(str(self.path("images", stem)))
        mask = cv2.imread(str(self.path("masks", stem)), cv2.IMREAD_UNCHANGED)
        return stem, np.asarray(image, np.uint8), np.asarray(mask, np.uint8)

    def path(self, part: str, stem: str, split: str = "train", suffix: str = ".png") -> Path:
        return self.root / split / part / (stem + suffix)

    def expect(self, code: str, path: Path) -> None:
        self.expected.append((code, path.relative_to(self.root).as_posix()))

    def image(self, code: str, make: Callable[[NDArray[np.uint8]], bytes], suffix: str = ".png") -> None:
        """Replace an image."""
        stem, image_bgr, _ = self.take()
        self._replace(code, "images", stem, make(image_bgr), suffix)

    def mask(self, code: str, make: Callable[[NDArray[np.uint8]], bytes], suffix: str = ".png") -> None:
        """Replace a mask."""
        stem, _, ids = self.take()
        self._replace(code, "masks", stem, make(ids), suffix)

    def copy(
        self,
        code: str,
        split: str,
        stem: str,
        make: Callable[[NDArray[np.uint8]], bytes] | None,
        turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = np.asarray,
    ) -> None:
        """Add a pair whose image is one of ``train`` turned and changed by ``make``, or the very same file."""
        source, image_bgr, ids = self.take()
        target = self.path("images", stem, split, ".png" if make is None else ".jpg")
        data = self.path("images", source).read_bytes() if make is None else make(turn(image_bgr))
        target.write_bytes(data)
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        mask = cv2.resize(turn(ids), shown.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        self.path("masks", stem, split).write_bytes(png(np.asarray(mask, np.uint8)))
        self.expect(code, target)

    def _replace(self, code: str, part: str, stem: str, data: bytes, suffix: str) -> None:
        self.path(part, stem).unlink()
        target = self.path(part, stem, suffix=suffix)
        target.write_bytes(data)
        # Where the two of a pair do not fit, it is the mask that is told to change.
        self.expect(code, self.path("masks", stem) if code == "size_mismatch" else target)


def plant(root: Path) -> list[tuple[str, str]]:
    """Plant faults in a good dataset of three-channel images and index masks; return (code, file) of each, in order."""
    planter = Planter(root)
    _plant_in_structure(planter)
    _plant_in_images(planter)
    _plant_in_masks(planter)
    planter.copy("duplicate", "train", "zz again", None)
    planter.copy("leak", "val", "zz leak", None)
    planter.copy("near_duplicate", "val", "zz encoded", lambda x: encoded(x, "JPEG", quality=60))
    planter.copy("near_duplicate", "val", "zz turned", lambda x: encoded(x, "JPEG", quality=85), np.rot90)
    planter.copy(
        "near_duplicate",
        "val",
        "zz small",
        lambda x: encoded(cv2.resize(x, None, fx=0.75, fy=0.75), "JPEG"),
        lambda x: np.ascontiguousarray(x[:, ::-1]),
    )
    planter.copy("near_duplicate", "val", "zz bright", lambda x: encoded(cv2.convertScaleAbs(x, alpha=1.08), "JPEG"))
    return sorted(planter.expected)


def _plant_in_structure(planter: Planter) -> None:
    stem, _, _ = planter.take()
    planter.path("masks", stem).unlink()
    planter.expect("missing_mask", planter.path("images", stem))
    stem, _, _ = planter.take()
    planter.path("images", stem).unlink()
    planter.expect("orphan_mask", planter.path("masks", stem))
    stem, image_bgr, _ = planter.take()
    planter.path("images", stem, suffix=".tif").write_bytes(encoded(image_bgr, "TIFF"))
    planter.expect("duplicate_stem", planter.path("images", stem, suffix=".tif"))
    stem, _, _ = planter.take()
    for part in ("images", "masks"):
        shutil.copy(planter.path(part, stem), planter.path(part, "Zz case"))
        planter.path(part, stem).rename(planter.path(part, "ZZ CASE"))
        planter.expect("duplicate_stem", planter.path(part, "Zz case"))


def _plant_in_images(planter: Planter) -> None:
    planter.image("empty_file", lambda x: b"")
    planter.image("not_an_image", lambda x: b"<html><body>404</body></html>", ".jpg")
    planter.image("not_an_image", lambda x: b"\0\0\0\x18ftypheic" + bytes(100))
    planter.image("damaged_file", lambda x: png(x)[:-300])
    planter.image("damaged_file", lambda x: flipped_byte(png(x)))
    planter.image("damaged_file", lambda x: encoded(x, "JPEG")[:-300], ".jpg")
    planter.image("wrong_extension", lambda x: encoded(x, "JPEG"))
    planter.image("sixteen_bit_image", lambda x: png(x.astype(np.uint16) * 257))
    planter.image("cmyk_image", lambda x: _cmyk(x), ".jpg")
    planter.image("alpha_image", lambda x: png(np.dstack([x, np.full(x.shape[:2], 200, np.uint8)])))
    planter.image("too_large", lambda x: png_header(30_000, 40_000))
    planter.image("blank_image", lambda x: png(np.full_like(x, 7)))
    planter.image("size_mismatch", lambda x: with_orientation(x, "JPEG", 6), ".jpg")
    planter.image("exif_image", lambda x: with_orientation(x, "JPEG", 3), ".jpg")
    stem, image_bgr, ids = planter.take()
    planter.path("images", stem).write_bytes(png(image_bgr[:1].copy()))
    planter.path("masks", stem).write_bytes(png(ids[:1].copy()))
    planter.expect("too_small", planter.path("images", stem))


def _plant_in_masks(planter: Planter) -> None:
    planter.mask("size_mismatch", lambda ids: png(ids[:-2].copy()))
    planter.mask("size_mismatch", lambda ids: png(ids.T.copy()))
    planter.mask("exif_mask", lambda ids: with_orientation(ids, "PNG", 8))
    planter.mask("empty_file", lambda ids: b"")
    planter.mask("not_an_image", lambda ids: b"PK\x03\x04" + bytes(50))
    planter.mask("damaged_file", lambda ids: png(ids)[:-30])
    planter.mask("lossy_mask", lambda ids: encoded(ids * 20, "JPEG"), ".jpg")
    planter.mask("smeared_mask", lambda ids: png(_decoded(encoded(ids * 20, "JPEG", quality=40))))
    planter.mask("unknown_id", lambda ids: png(_with_corner(ids, 200)))
    planter.mask("unknown_id", lambda ids: png(np.array([0, 38, 75], np.uint8)[np.minimum(ids, 2)]))
    planter.mask("sixteen_bit_mask", lambda ids: png(ids.astype(np.uint16) + 300))
    planter.mask("mixed_encoding", lambda ids: palette_png(np.minimum(ids, 2)))
    planter.mask("transparent_mask", lambda ids: png(np.dstack([ids, ids, ids, np.full_like(ids, 120)])))
    planter.mask("background_only", lambda ids: png(np.zeros_like(ids)))


def _with_corner(ids: NDArray[np.uint8], value: int) -> NDArray[np.uint8]:
    changed = ids.copy()
    changed[:3, :3] = value
    return changed


def _decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def _cmyk(image_bgr: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image_bgr[..., ::-1]).convert("CMYK").save(data, "JPEG")
    return data.getvalue()
