"""Decode the splits and make the batches of a configuration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from edge_runtime.dataset.label_key import IGNORE
from edge_runtime.dataset.pairs import Split
from edge_runtime.progress import OnProgress
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import Dataset, read_class_ids
from training.errors import DataError
from training.input.augment import augment, mix
from training.input.batches import Batches
from training.input.cache import PixelCache, PixelSpec, cache_size, open_cache
from training.input.rarity import repeat_factors


def decode_splits(
    config: TrainConfig, report: DatasetReport, dataset: Dataset, folder: Path, on_progress: OnProgress
) -> tuple[PixelCache, PixelCache]:
    """Decode the training split at a size that allows zooming in, and the validation split at the model's size.

    Args:
        config: Configuration of the run.
        report: The checked dataset.
        dataset: The dataset with its validation split.
        folder: Folder for pixels that do not fit into memory.
        on_progress: Called with "reading train images" or "reading val images" and the number of pairs done and in all.

    Raises:
        DataError: A file cannot be read, an image and its mask differ in size, or no labelled pixel of a split is left
            at its size.
        StorageError: The disk is full or the folder cannot be written.
        WedgedError: Reading a file hangs.
    """
    size = config.height_px, config.width_px
    sizes: dict[Split, tuple[int, int]] = {"train": size, "val": size}
    if config.augment:
        sizes["train"] = cache_size(
            (report.shapes[pair] for pair in dataset.splits["train"]), height_px=size[0], width_px=size[1]
        )
    caches = []
    for split, (height_px, width_px) in sizes.items():
        spec = PixelSpec(
            pairs=dataset.splits[split],
            read_ids=lambda pair: read_class_ids(pair, report.key),
            height_px=height_px,
            width_px=width_px,
            channels=report.channels,
            labels=report.fingerprint,
        )

        def of_split(_what: str, done: int, total: int, split: Split = split) -> None:
            on_progress(f"reading {split} images", done, total)

        cache = open_cache(spec, folder / f"{split}-pixels", on_progress=of_split)
        if not any((mask != IGNORE).any() for mask in cache.masks):
            raise DataError(
                f"{split} masks — no labelled pixel is left at {height_px}x{width_px} — expected some in one mask at least — "
                "label larger areas, or choose a larger --input-size"
            )
        caches.append(cache)
    return caches[0], caches[1]


def make_batches(config: TrainConfig, cache: PixelCache, classes_in: Sequence[Collection[int]]) -> Batches:
    """Return the batches of a training split in random order, augmented and mixed as configured.

    Args:
        config: Configuration of the run.
        cache: The decoded training split.
        classes_in: Class ids in each picture of the split.
    """
    height_px, width_px = config.step_size
    vary = partial(augment, input_size=(config.height_px, config.width_px), flip=config.flip or "horizontal")
    return Batches(
        cache,
        height_px=height_px,
        width_px=width_px,
        batch_size=config.batch_size,
        seed=config.seed,
        factors=repeat_factors(classes_in) if config.recipe.repeat_rare else None,
        augment=vary if config.augment else None,
        mix=(lambda images, masks, rng: mix(images, masks, config.mix, rng)) if config.mix else None,
    )
