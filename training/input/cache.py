"""Decode a split once: uint8 pixels in memory if they fit, else in memory-mapped files of the run folder."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError, StorageError
from edge_runtime.image import read_image
from edge_runtime.progress import OnProgress, silent
from edge_runtime.resources import available_memory, usable_cores
from edge_runtime.segment.preprocess import Channels, model_input, resize_mask
from edge_runtime.storage import new_folder, printable, system_text, translated, write_json
from training.errors import DataError
from training.input.workers import in_order

MAX_ENLARGEMENT = 2
"""Largest ratio of a cached picture's side to the model's: augmentation zooms in no further."""
MEMORY_SHARE = 0.4
"""Largest share of the available memory for one split's pixels; the network's activations need the rest."""
_IMAGES, _MASKS, _KEY = "images.npy", "masks.npy", "cache.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelCache:
    """Decoded split, all pictures at the same size.

    Attributes:
        images: (N, H, W, C) uint8, RGB or grey, C-contiguous; read-only where they are on disk.
        masks: (N, H, W) uint8 class ids, or ``IGNORE``; read-only where they are on disk.
        names: N paths as they were given, for messages.
        folder: Folder of the pixels on disk; None if they are in memory.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    names: tuple[str, ...]
    folder: Path | None = None

    def remove(self) -> None:
        """Delete the files, if there are any; arrays in use stay readable (Windows keeps files that are in use)."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def cache_size(sizes: Iterable[tuple[int, int]], *, height_px: int, width_px: int) -> tuple[int, int]:
    """Return the (height, width) at which to cache pictures that are augmented.

    It is the median size of the images, so that zooming in shows real detail, but between 1 and ``MAX_ENLARGEMENT``
    times the model's size. Each side is limited on its own, because the model squeezes pictures to its shape anyway.

    Args:
        sizes: (height, width) of each image in pixels; at least one.
        height_px: Height of the model's input in pixels.
        width_px: Width of the model's input in pixels.
    """
    median = np.median(np.array(list(sizes)), axis=0)
    height, width = (
        min(max(round(float(side)), own), MAX_ENLARGEMENT * own)
        for side, own in zip(median, (height_px, width_px), strict=True)
    )
    return height, width


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSpec:
    """Pairs to decode, and the form of the result.

    Attributes:
        pairs: Images and masks.
        read_ids: Function that reads a pair's mask as (H, W) uint8 class ids at the image's size; called in threads.
        height_px: Height of the result in pixels: from ``cache_size`` for training, the model's for validation.
        width_px: Width of the result in pixels.
        channels: Channels of the result, 1 or 3.
        labels: Text that identifies classes and mask encoding; cached pixels with another text are not reused.
    """

    pairs: Sequence[Pair]
    read_ids: Callable[[Pair], NDArray[np.uint8]]
    height_px: int
    width_px: int
    channels: Channels
    labels: str = ""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C) of the images; masks have no C."""
        return len(self.pairs), self.height_px, self.width_px, self.channels

    @property
    def names(self) -> tuple[str, ...]:
        """N paths as they were given, for messages."""
        return tuple(printable(pair.image) for pair in self.pairs)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return one pair as (H, W, C) RGB or grey, and (H, W) class ids.

        Raises:
            DataError: A file cannot be read, or image and mask differ in size.
        """
        pair = self.pairs[index]
        try:
            image_bgr, ids = read_image(pair.image), self.read_ids(pair)
        except DataError:
            raise
        except InputError as cause:
            raise DataError(str(cause)) from cause
        if image_bgr.shape[:2] != ids.shape:
            raise DataError(
                f"{printable(pair.mask or pair.image)} — mask is {ids.shape[0]}x{ids.shape[1]}, image {printable(pair.image)} is "
                f"{image_bgr.shape[0]}x{image_bgr.shape[1]} — expected the same size — make them the same size"
            )
        image = model_input(image_bgr, self.height_px, self.width_px, self.channels)[..., ::-1]
        return image, resize_mask(ids, self.height_px, self.width_px)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that determines the pixels: path, size, time of files, shape, labels, decoder."""
        files = []
        for path in (file for pair in self.pairs for file in (pair.image, pair.mask) if file is not None):
            with translated("read", path, DataError):
                status = path.stat()
            files.append([printable(path.absolute()), status.st_size, status.st_mtime_ns])
        return hashlib.sha256(json.dumps([files, self.shape, self.labels, cv2.__version__]).encode()).hexdigest()


def open_cache(
    spec: PixelSpec, folder: Path, *, memory_bytes: int | None = None, on_progress: OnProgress = silent
) -> PixelCache:
    """Decode and resize pairs once, with the runtime's own functions, or reuse the cache of an interrupted run.

    At the model's size the pictures equal the runtime's input of the model: ``model_input(read_image(…))``.

    Args:
        spec: Pairs to decode, and the form of the result.
        folder: Folder for the pixels if they do not fit into memory; created only then. Its parent must exist.
        memory_bytes: Maximum number of bytes in memory; by default ``MEMORY_SHARE`` of the available memory.
        on_progress: Called with "reading images" and the number of pairs done and in all, in the caller's thread.

    Raises:
        DataError: A file cannot be read, or an image and its mask differ in size.
        StorageError: The disk is full or the folder cannot be written; nothing is left behind.
        WedgedError: Reading a file hangs.
    """
    key = spec.fingerprint()
    kept = _kept(folder, key, spec.shape)
    if kept is not None:
        return PixelCache(images=kept[0], masks=kept[1], names=spec.names, folder=folder)
    needed = math.prod(spec.shape[:3]) * (spec.channels + 1)
    if needed <= (MEMORY_SHARE * available_memory() if memory_bytes is None else memory_bytes):
        return _decode_into_memory(spec, on_progress)
    require_space(folder, needed, "the decoded pictures")
    return _decode_onto_disk(spec, folder, key, on_progress)


def _decode_into_memory(spec: PixelSpec, on_progress: OnProgress) -> PixelCache:
    images, masks = np.empty(spec.shape, np.uint8), np.empty(spec.shape[:3], np.uint8)

    def keep(index: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        images[index], masks[index] = image, mask

    _decode(spec, keep, on_progress)
    return PixelCache(images=images, masks=masks, names=spec.names)


def _decode_onto_disk(spec: PixelSpec, folder: Path, key: str, on_progress: OnProgress) -> PixelCache:
    with new_folder(folder, overwrite=True) as temporary:
        with (temporary / _IMAGES).open("xb") as image_file, (temporary / _MASKS).open("xb") as mask_file:
            image_rows, mask_rows = _RowWriter(image_file, spec.shape), _RowWriter(mask_file, spec.shape[:3])

            def write(index: int, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
                image_rows(index, image)
                mask_rows(index, mask)

            _decode(spec, write, on_progress)
        write_json(temporary / _KEY, {"fingerprint": key})
    images, masks = (_mapped(folder / name) for name in (_IMAGES, _MASKS))
    return PixelCache(images=images, masks=masks, names=spec.names, folder=folder)


def _decode(
    spec: PixelSpec, store: Callable[[int, NDArray[np.uint8], NDArray[np.uint8]], None], on_progress: OnProgress
) -> None:
    """Hand every pair to ``store(index, image, mask)``, from several threads."""
    names, threads = spec.names, usable_cores()
    stored = in_order(
        lambda index: store(index, *spec.load(index)),
        range(len(names)),
        threads=threads,
        ahead=2 * threads,
        describe=lambda index: f"reading {names[index]} and its mask",
    )
    on_progress("reading images", 0, len(names))
    for done, _ in enumerate(stored, start=1):
        on_progress("reading images", done, len(names))


class _RowWriter:
    """Writer for the rows of a uint8 ``.npy`` file, in any order and from any thread.

    It uses plain writes, which raise an error on a full disk; a write to a memory map ends the process with SIGBUS.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self._file = file
        self._row_bytes = math.prod(shape[1:])
        self._lock = threading.Lock()
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._start = file.tell()

    def __call__(self, index: int, row: NDArray[np.uint8]) -> None:
        with self._lock:
            self._file.seek(self._start + index * self._row_bytes)
            self._file.write(np.ascontiguousarray(row).data)


def _kept(folder: Path, key: str, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Return the complete images and masks that an earlier call wrote for this fingerprint, or None."""
    try:
        if json.loads(system_text(folder / _KEY))["fingerprint"] != key:
            return None
        images, masks = (_mapped(folder / name) for name in (_IMAGES, _MASKS))
    except (OSError, ValueError, LookupError, TypeError):  # missing, cut short or not ours
        return None
    return (images, masks) if (images.shape, masks.shape) == (shape, shape[:3]) else None


def _mapped(path: Path) -> NDArray[np.uint8]:
    """Return a ``.npy`` file as a read-only memory-mapped array."""
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse work whose result would not fit on the disk, before it begins.

    Args:
        folder: Folder for the result; need not exist.
        needed: Size in bytes.
        what: Name of the result for the message: "the decoded pictures".

    Raises:
        StorageError: Less space than that is free.
    """
    with translated("write", folder):
        free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise StorageError(
            f"cannot write {printable(folder)} — {what} take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free — "
            "free some space or choose another folder"
        )
