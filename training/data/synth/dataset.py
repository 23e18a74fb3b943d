"""Write the synthetic dataset: three splits of images and masks, a video, and the dataset.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from edge_runtime.image import encode_png
from edge_runtime.progress import OnProgress, silent
from edge_runtime.storage import printable, translated, write_bytes
from training.data.synth.objects import CLASS_COLORS_RGB, CLASS_NAMES
from training.data.synth.scene import render_scene
from training.data.synth.video import write_video
from training.errors import DataError

IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX = 192, 256
_EMPTY_EVERY = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthSize:
    """Number of pictures in each part of the dataset.

    Attributes:
        train: image and mask pairs in ``train/``.
        val: image and mask pairs in ``val/``.
        test: image and mask pairs in ``test/``.
        video_frames: frames of the video, each with a mask.

    Example:
        >>> from training import SynthSize
        >>> SynthSize(train=4, val=2, test=1, video_frames=1).image_count
        8
    """

    train: int = 240
    val: int = 40
    test: int = 60
    video_frames: int = 125

    def __post_init__(self) -> None:
        for name in ("train", "val", "test", "video_frames"):
            count = getattr(self, name)
            if count < 1:
                raise DataError(f"SynthSize.{name} — found {count} — expected at least 1 — ask for more pictures")

    @property
    def image_count(self) -> int:
        """Stills and video frames together."""
        return self.train + self.val + self.test + self.video_frames


DEFAULT_SIZE = SynthSize()


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthSummary:
    """Paths and counts that ``write_synthetic_dataset`` wrote.

    Attributes:
        root: the dataset folder.
        config_path: ``root/dataset.yaml``.
        video_path: the encoded video.
        video_masks_path: folder with one index mask per video frame.
        size: counts per part.
    """

    root: Path
    config_path: Path
    video_path: Path
    video_masks_path: Path
    size: SynthSize


def write_synthetic_dataset(
    root: str | Path,
    *,
    seed: int = 0,
    size: SynthSize = DEFAULT_SIZE,
    on_progress: OnProgress = silent,
) -> SynthSummary:
    """Write the dataset and its video into a new or empty folder.

    The same seed, size and library versions give the same PNG bytes; the video is encoded lossily.

    Args:
        root: folder to fill; created when it does not exist.
        seed: random seed, 0 or more; picture i of split s is drawn from ``default_rng([seed, s, i])``.
        size: number of pictures in each part.
        on_progress: called with "drawing" and the number of stills and video frames done and in all.

    Returns:
        The paths and counts written.

    Raises:
        DataError: root is a file or is not empty, or the video cannot be encoded.
        StorageError: a folder or file cannot be written.

    Example:
        >>> from training import SynthSize, write_synthetic_dataset
        >>> size = SynthSize(train=2, val=1, test=1, video_frames=1)
        >>> summary = write_synthetic_dataset(tmp_path / "bench", size=size)
        >>> sorted(path.name for path in summary.root.iterdir())
        ['dataset.yaml', 'test', 'train', 'val', 'video']
    """
    root = Path(root)
    _require_empty(root)
    drawn = count()

    def done() -> None:
        on_progress("drawing", next(drawn), size.image_count)

    done()
    splits = (("train", size.train), ("val", size.val), ("test", size.test))
    for split_index, (split, images) in enumerate(splits):
        _write_split(root / split, [seed, split_index], images, done)
    video_masks_path = root / "video" / "masks"
    video_path = write_video(root / "video", video_masks_path, seed, size.video_frames, done)
    # Written last: a folder with a dataset.yaml is a complete dataset.
    config_path = root / "dataset.yaml"
    write_bytes(config_path, _config_text().encode())
    return SynthSummary(
        root=root,
        config_path=config_path,
        video_path=video_path,
        video_masks_path=video_masks_path,
        size=size,
    )


def _write_split(folder: Path, stream: list[int], images: int, done: Callable[[], None]) -> None:
    """Write the pairs of one split; one in ``_EMPTY_EVERY`` shows no object, and the first object's class rotates."""
    images_path, masks_path = folder / "images", folder / "masks"
    for path in (images_path, masks_path):
        with translated("create", path):
            path.mkdir(parents=True, exist_ok=True)
    for index in range(images):
        image_bgr, mask = render_scene(
            np.random.default_rng([*stream, index]),
            IMAGE_HEIGHT_PX,
            IMAGE_WIDTH_PX,
            object_count=0 if index % _EMPTY_EVERY == _EMPTY_EVERY // 2 else None,
            first_class=1 + index % (len(CLASS_NAMES) - 1),
        )
        for path, pixels in ((images_path, image_bgr), (masks_path, mask)):
            write_bytes(path / f"{index:06d}.png", encode_png(pixels, printable(path)))
        done()


def _require_empty(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise DataError(f"{printable(root)} — found a file — expected a new or empty folder — pass another path")
    if root.is_dir() and (entry := next(root.iterdir(), None)) is not None:
        raise DataError(
            f"{printable(root)} — folder is not empty, it holds {printable(entry.name)} — "
            "expected a new or empty folder — pass another path or remove the old dataset"
        )


def _config_text() -> str:
    colors = ", ".join(str(list(color)) for color in CLASS_COLORS_RGB)
    return (
        "# Written by `edge-unet data synth`; masks hold the index into classes, colors are RGB.\n"
        f"classes: [{', '.join(CLASS_NAMES)}]\n"
        f"colors: [{colors}]\n"
    )
