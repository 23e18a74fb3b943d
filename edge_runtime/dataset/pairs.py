"""Pair images and masks on disk by stem: ``ROOT/[SPLIT/]images`` beside ``ROOT/[SPLIT/]masks``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_runtime.errors import InputError
from edge_runtime.image import image_files
from edge_runtime.storage import printable

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Files of one image and its mask."""

    stem: str
    image: Path
    mask: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Problem of a dataset: ``severity`` error or warning, a stable ``code``, the file, and a message of one line."""

    severity: Literal["error", "warning"]
    code: str
    file: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Pairs and problems of one folder that holds ``images`` and ``masks``."""

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]


def split_folders(root: Path) -> dict[Split, Path]:
    """Return the split folders of a dataset; empty if ``images`` and ``masks`` are directly inside.

    Raises:
        InputError: The folder has neither layout.
    """
    folders = {split: root / split for split in SPLITS if (root / split / "images").is_dir()}
    if not folders and not (root / "images").is_dir():
        found = "no such folder" if not root.is_dir() else "no images/ and no train/images/ inside"
        raise InputError(
            f"dataset {printable(root)} — {found} — expected images/ and masks/, or train/images and train/masks (val, test)"
        )
    return folders


def find_pairs(folder: Path) -> Pairing:
    """Pair ``folder/images`` and ``folder/masks`` by stem, in order of the stems; hidden files are left out."""
    images, image_problems = _by_stem(folder / "images")
    masks, mask_problems = _by_stem(folder / "masks")
    problems = image_problems + mask_problems
    for stem in sorted(images.keys() - masks.keys()):
        message = f"no mask for image {printable(images[stem])} — expected {printable(folder / 'masks' / stem)}.png — add it or remove the image"
        problems.append(Problem(severity="error", code="missing_mask", file=str(images[stem]), message=message))
    for stem in sorted(masks.keys() - images.keys()):
        message = f"no image for mask {printable(masks[stem])} — expected {printable(folder / 'images' / stem)}.jpg or .png — add it or remove the mask"
        problems.append(Problem(severity="error", code="orphan_mask", file=str(masks[stem]), message=message))
    pairs = [Pair(stem=s, image=images[s], mask=masks[s]) for s in sorted(images.keys() & masks.keys())]
    return Pairing(pairs=tuple(pairs), problems=tuple(problems))


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Index image files by stem; two files whose stems differ at most in case are a problem."""
    files: dict[str, Path] = {}
    folded: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in image_files(folder):
        other = folded.setdefault(path.stem.casefold(), path)
        if other is not path:
            message = (
                f"two files of one name: {printable(other)} and {printable(path)} — expected one — rename or remove one"
            )
            problems.append(Problem(severity="error", code="duplicate_stem", file=str(path), message=message))
        else:
            files[path.stem] = path
    return files, problems
