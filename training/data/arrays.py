"""Write images and masks that are held in arrays as a dataset folder, which all commands read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.image import encode_png
from edge_runtime.model.contract import MAX_CLASSES
from edge_runtime.storage import new_folder, write_bytes
from training.data.dataset import CONFIG


def write_dataset(
    images: NDArray[Any], masks: NDArray[Any], folder: str | Path, *, classes: Sequence[str] | None = None
) -> Path:
    """Write arrays as a dataset folder: PNG images, PNG masks of class ids, and ``dataset.yaml``.

    Args:
        images: (N, H, W), (N, H, W, 1) or (N, H, W, 3), grey or RGB: uint8, or floats in 0–1, which are rounded to 8
            bits.
        masks: (N, H, W) or (N, H, W, 1) class ids of any type, or (N, H, W, classes) with the largest value for the
            class of each pixel.
        folder: Folder to write; it must not exist.
        classes: Names of the classes, in the order of their ids; "background" and "foreground", or "class 1" and so on
            by default.

    Returns:
        The folder.

    Raises:
        UsageError: Shapes, types or values are not as above, or the folder exists.
        StorageError: The folder cannot be written.

    Example:
        >>> import numpy as np
        >>> from training import check_dataset, write_dataset
        >>> rng = np.random.default_rng(0)
        >>> images, masks = rng.random((4, 16, 16, 3)), np.tile(np.arange(16) % 2, (4, 16, 1))
        >>> report = check_dataset(write_dataset(images, masks, tmp_path / "arrays", classes=["sky", "tree"]))
        >>> [one.name for one in report.info.classes], len(report.dataset.pairs())
        (['sky', 'tree'], 4)
    """
    folder = Path(folder)
    pixels, ids = _pixels(np.asarray(images)), _ids(np.asarray(masks))
    if len(pixels) != len(ids) or pixels.shape[1:3] != ids.shape[1:3]:
        raise UsageError(
            f"images are {pixels.shape}, masks {ids.shape} — expected as many, of the same height and width — check their order"
        )
    names = _names(classes, ids, channels=np.asarray(masks).shape[3] if np.ndim(masks) == 4 else 1)
    with new_folder(folder) as new:
        (new / "images").mkdir()
        (new / "masks").mkdir()
        digits = len(str(len(pixels) - 1))
        for number, (image, mask) in enumerate(zip(pixels, ids, strict=True)):
            name = f"{number:0{digits}d}.png"
            write_bytes(new / "images" / name, encode_png(image, name))
            write_bytes(new / "masks" / name, encode_png(mask, name))
        stated = {"classes": names, "mask_encoding": "index"}
        write_bytes(new / CONFIG, yaml.safe_dump(stated, allow_unicode=True, sort_keys=False).encode())
    return folder


def _pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (N, H, W) grey or (N, H, W, 3) BGR uint8."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise UsageError(f"images are {images.shape} — expected (N, H, W), (N, H, W, 1) or (N, H, W, 3), at least one")
    if images.dtype != np.uint8:
        low, high = float(images.min()), float(images.max())
        floats = np.issubdtype(images.dtype, np.floating)
        if not (low >= 0 and high <= (1 if floats else 255)):  # also if one of them is NaN
            expected = "floats from 0 to 1" if floats else "0 to 255"
            raise UsageError(
                f"images are {images.dtype} from {low:g} to {high:g} — expected uint8, or {expected} — undo the preprocessing"
            )
        images = np.rint(images * 255).astype(np.uint8) if floats else images.astype(np.uint8)
    return images[..., ::-1] if images.ndim == 4 else images


def _ids(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (N, H, W) uint8 class ids."""
    if masks.ndim == 4:
        masks = masks[..., 0] if masks.shape[3] == 1 else masks.argmax(-1)
    if masks.ndim != 3 or 0 in masks.shape:
        raise UsageError(f"masks are {masks.shape} — expected (N, H, W), (N, H, W, 1) or (N, H, W, classes)")
    values = np.unique(masks)
    if set(values.tolist()) <= {0, 255} and 255 in values:
        masks, values = masks // 255, values // 255
    if (values != np.rint(values)).any() or values.min() < 0 or values.max() >= MAX_CLASSES:
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise UsageError(
            f"masks have the values {shown} … — expected class ids, whole numbers from 0 — round them, or divide by 255"
        )
    return masks.astype(np.uint8)


def _names(classes: Sequence[str] | None, ids: NDArray[np.uint8], channels: int) -> list[str]:
    """Return the names of the classes, as many as the masks need."""
    largest = int(ids.max())
    if classes is not None:
        if largest >= len(classes):
            raise UsageError(
                f"masks have class {largest} — only {len(classes)} classes are named — name all, from class 0 on"
            )
        return [str(name) for name in classes]
    count = max(2, largest + 1, channels)
    return ["background", "foreground"] if count == 2 else ["background", *(f"class {i}" for i in range(1, count))]
