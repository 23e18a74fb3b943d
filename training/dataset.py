"""A dataset folder to arrays: what dataset.yaml says, which images are for what, pixels and class ids."""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import MAX_CLASSES, ClassInfo
from edge_runtime.image import read_image
from edge_runtime.labels import MaskEncoding, read_raw_mask, to_class_ids
from edge_runtime.pairs import Pair, Problem, Split, find_pairs, split_folders
from edge_runtime.preprocess import Channels, model_input, resize_mask
from edge_runtime.storage import printable, read_bytes
from training.errors import DataError

CONFIG = "dataset.yaml"
_KEYS = ("classes", "ignore_id", "colors", "mask_encoding")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What the labels of a dataset mean.

    Attributes:
        classes: In order of their ids.
        ignore_id: The stored mask value that counts nowhere.
        encoding: How masks are stored, or "auto" to find out.
    """

    classes: tuple[ClassInfo, ...]
    ignore_id: int | None = None
    encoding: MaskEncoding | Literal["auto"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The pairs of a dataset by split, and what the pairing found wrong."""

    root: Path
    splits: dict[Split, tuple[Pair, ...]]
    problems: tuple[Problem, ...]

    def pairs(self) -> list[Pair]:
        """Return all pairs, split by split."""
        return [pair for pairs in self.splits.values() for pair in pairs]


def read_info(root: Path) -> DatasetInfo | None:
    """Read ``dataset.yaml``; None if there is none.

    Raises:
        DataError: It is not valid, has an unknown key or a value of the wrong kind.
    """
    path = root / CONFIG
    if not path.is_file():
        return None
    import yaml

    where = printable(path)
    try:
        value = yaml.safe_load(read_bytes(path, DataError))
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise DataError(f"{where} — not valid YAML ({' '.join(str(cause).split())}) — correct it") from cause
    if not isinstance(value, dict):
        raise DataError(f"{where} — found {type(value).__name__} — expected keys: {', '.join(_KEYS)}")
    for key in value:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected {', '.join(_KEYS)}"
            raise DataError(f"{where} — unknown key '{key}' — {hint}")
    return _info(value, where)


def find_dataset(root: Path) -> Dataset:
    """Find the pairs of every split; a dataset without split folders is all ``train``.

    Raises:
        InputError: The layout is not that of a dataset.
    """
    folders = split_folders(root) or {"train": root}
    found = {split: find_pairs(folder) for split, folder in folders.items()}
    return Dataset(
        root=root,
        splits={split: pairing.pairs for split, pairing in found.items()},
        problems=tuple(problem for pairing in found.values() for problem in pairing.problems),
    )


def with_validation(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Return the dataset with a ``val`` split, held out of ``train`` by seed where there is none.

    Raises:
        DataError: Too few images for both.
    """
    train = dataset.splits.get("train", ())
    if dataset.splits.get("val"):
        return dataset
    held_out = max(1, round(len(train) * fraction))
    if len(train) - held_out < 1:
        raise DataError(f"dataset {printable(dataset.root)} — {len(train)} pairs to train on — expected at least 2")
    order = np.random.default_rng(seed).permutation(len(train))
    chosen = set(order[:held_out].tolist())
    splits: dict[Split, tuple[Pair, ...]] = {
        **dataset.splits,
        "train": tuple(pair for i, pair in enumerate(train) if i not in chosen),
        "val": tuple(pair for i, pair in enumerate(train) if i in chosen),
    }
    return Dataset(root=dataset.root, splits=splits, problems=dataset.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """A split in memory, at the model's size.

    Attributes:
        images: (N, H, W, C) uint8, RGB or grey.
        masks: (N, H, W) uint8 class ids, or ``IGNORE``.
        names: File names, for messages.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    names: tuple[str, ...]


def load_arrays(
    pairs: Sequence[Pair],
    info: DatasetInfo,
    encoding: MaskEncoding,
    *,
    height_px: int,
    width_px: int,
    channels: Channels,
    on_pair: Callable[[], None] = lambda: None,
) -> Arrays:
    """Decode and resize pairs once, with the runtime's own functions, so that training sees what the device sees.

    Images are BGR as OpenCV decodes them until the very last step, which makes them RGB for Keras.
    """
    images = np.empty((len(pairs), height_px, width_px, channels), np.uint8)
    masks = np.empty((len(pairs), height_px, width_px), np.uint8)

    def load(index: int) -> None:
        pair = pairs[index]
        images[index] = model_input(read_image(pair.image), height_px, width_px, channels)[..., ::-1]
        ids = read_class_ids(pair, info, encoding)
        masks[index] = resize_mask(ids, height_px, width_px)
        on_pair()

    with ThreadPoolExecutor() as pool:  # the decoders release the interpreter lock
        list(pool.map(load, range(len(pairs))))
    return Arrays(images=images, masks=masks, names=tuple(pair.image.name for pair in pairs))


def read_class_ids(pair: Pair, info: DatasetInfo, encoding: MaskEncoding) -> NDArray[np.uint8]:
    """Read a pair's mask as (H, W) uint8 class ids, or ``IGNORE``."""
    values, _ = read_raw_mask(pair.mask)
    return to_class_ids(values, encoding, len(info.classes), info.ignore_id, printable(pair.mask))


def infer_info(values: set[int]) -> DatasetInfo:
    """Make up classes for a dataset without ``dataset.yaml`` from the values that occur in its masks."""
    if values <= {0, 255}:
        return DatasetInfo(classes=make_classes(["background", "foreground"]))
    ids = values - {255}
    highest = max(ids)
    if len(ids) <= highest / 2:
        # So many gaps are no ids. Count up to the first gap; the check then names the other values and what they may be.
        highest = next(i for i in range(1, 256) if i not in ids) - 1
    highest = min(max(highest, 1), MAX_CLASSES - 1)
    names = ["background", *(f"class_{i}" for i in range(1, highest + 1))]
    return DatasetInfo(classes=make_classes(names), ignore_id=255 if 255 in values else None)


def make_classes(names: Sequence[str], colors: Sequence[Sequence[int]] | None = None) -> tuple[ClassInfo, ...]:
    """Return classes with the given RGB colours, or well-separated ones."""
    chosen = colors or [default_color(i) for i in range(len(names))]
    return tuple(
        ClassInfo(id=i, name=name, color=(int(c[0]), int(c[1]), int(c[2])))
        for i, (name, c) in enumerate(zip(names, chosen, strict=True))
    )


def default_color(class_id: int) -> tuple[int, int, int]:
    """Return an RGB colour for a class: black for 0, then bright hues a golden angle apart, so that neighbours differ."""
    if class_id == 0:
        return 0, 0, 0
    value = (1.0, 0.8, 0.6)[class_id // 5 % 3]
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1, 0.8, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _info(value: dict[str, Any], where: str) -> DatasetInfo:
    names = value.get("classes")
    if not isinstance(names, list) or not 2 <= len(names) <= MAX_CLASSES or len({str(n) for n in names}) != len(names):
        raise DataError(f"{where} — classes is {names!r} — expected a list of 2 to {MAX_CLASSES} different names")
    ignore_id = value.get("ignore_id")
    if ignore_id is not None and not (type(ignore_id) is int and 0 <= ignore_id <= 255):
        raise DataError(f"{where} — ignore_id is {ignore_id!r} — expected a mask value from 0 to 255")
    colors = value.get("colors")
    if colors is not None and not _are_colors(colors, len(names)):
        raise DataError(
            f"{where} — colors is {colors!r} — expected {len(names)} lists of red, green, blue from 0 to 255"
        )
    encoding = value.get("mask_encoding", "auto")
    if encoding == "color":
        raise DataError(f"{where} — mask_encoding: color is not read yet — map the colours to ids and save index PNGs")
    if encoding not in ("auto", *get_args(MaskEncoding)):
        raise DataError(f"{where} — mask_encoding is {encoding!r} — expected auto, {', '.join(get_args(MaskEncoding))}")
    return DatasetInfo(classes=make_classes([str(n) for n in names], colors), ignore_id=ignore_id, encoding=encoding)


def _are_colors(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(c, list) and len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c) for c in value)
    )
