"""Find the folders of images and masks in a dataset folder, by split: three layouts, and the usual names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.dataset.pairs import PICTURE_SUFFIXES, SPLITS, PairFolders, Split, files_below, leads_nowhere
from edge_runtime.errors import InputError
from edge_runtime.storage import printable, translated

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
}
"""Names of split folders, in lower case."""
_IMAGE_NAMES = ("images", "image", "imgs", "img", "img_dir")
_MASK_NAMES = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "ann_dir"),
    *("gts", "gt", "ground_truth", "groundtruth", "segmentations", "segmentation"),
)
_EXPECTED = "expected images/ and masks/, or train/images and train/masks (val, test)"
_OTHERS = "`edge-unet data import --help` lists the formats that can be converted"
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Folders of a dataset.

    Attributes:
        folders: Folders of the images and masks by split, in order; a dataset without splits is all ``train``.
        has_splits: Whether the dataset states its splits.
        notes: Phrases for a summary: folders that are used under another name than the usual one.
    """

    folders: Mapping[Split, PairFolders] = field(default_factory=dict)
    has_splits: bool = False
    notes: tuple[str, ...] = ()


def find_layout(root: Path) -> Layout:
    """Find where a dataset folder holds its images and masks.

    The layouts are ``images`` and ``masks``, these inside split folders (``train/images``), and split folders inside
    these (``images/train``). Split folders may have any of ``SPLIT_WORDS`` as their name, in any case.

    Raises:
        InputError: The folder has none of the layouts, or two folders could be meant.
    """
    inside = _subfolders(root)
    _refuse_links_to_nowhere(root, inside)
    here = _pair_folders(root, inside)
    splits = _by_split(inside)
    found = {
        split: folders
        for split, folder in _one_each(root, {s: [f for f in names if _holds_images(f)] for s, names in splits.items()})
        if (folders := _pair_folders(folder, _subfolders(folder))) is not None
    }
    if not found and here is not None:
        found = _transposed(root, here)
        here = None if found else here
    if not found and here is None:
        raise InputError(f"dataset {printable(root)} — {_found(root, inside)} — {_EXPECTED} — {_OTHERS}")
    has_splits = bool(found)
    if here is not None and "train" not in found:
        found["train"] = here
    in_order = {split: found[split] for split in SPLITS if split in found}
    return Layout(folders=in_order, has_splits=has_splits, notes=_notes(root, in_order, has_splits))


def describe(folder: Path) -> str:
    """Return what a folder holds, as text for a message: ``labels/ (40 .txt), a.jpg and 39 more``."""
    parts = []
    for inside in _subfolders(folder):
        kinds = Counter(path.suffix.lower() or "other" for path in files_below(inside))
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(2))
        parts.append(f"{printable(inside.name)}/ ({counts or 'empty'})")
    files = [path.name for path in _entries(folder) if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    if files:
        parts.append(printable(files[0]) + (f" and {len(files) - 1} more files like it" if len(files) > 1 else ""))
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + more or "nothing"


def _entries(folder: Path) -> list[Path]:
    """Return the visible entries of a folder by name."""
    with translated("read", folder, InputError), os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if not entry.name.startswith("."))


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()] if folder.is_dir() else []


def _pictures(folder: Path) -> bool:
    """Tell whether there is a picture, or a link in place of one, anywhere below a folder."""
    return any(path.suffix.lower() in PICTURE_SUFFIXES for path in files_below(folder))


def _pair_folders(folder: Path, inside: Iterable[Path]) -> PairFolders | None:
    """Return the folders of images and masks directly inside a folder; None if there is none for images."""
    images = _named(inside, _IMAGE_NAMES)
    if images is None:
        return None
    return PairFolders(images=images, masks=_named(inside, _MASK_NAMES) or folder / "masks")


def _named(inside: Iterable[Path], names: tuple[str, ...]) -> Path | None:
    """Return the folder with the usual name, the first one, or else the only one with another of the names.

    Raises:
        InputError: Several folders have other names.
    """
    named = [path for path in inside if path.name.lower() in names]
    filled = [path for path in named if _pictures(path)]
    for candidates in (filled, named):
        usual = [path for path in candidates if path.name == names[0]]
        if usual or len(candidates) == 1:
            return (usual or candidates)[0]
        if len(candidates) > 1 and candidates is filled:
            raise InputError(
                f"{' and '.join(f'{printable(path)}/' for path in candidates)} — each could be the {names[0]} — expected one — "
                f"rename the one that is meant to {names[0]}"
            )
    return None


def _split_of(name: str) -> Split | None:
    """Return the split that a folder's whole name means; a year may follow, as in ``train2017``."""
    found = re.fullmatch(r"([a-z]+)(?:[_-]?(?:19|20)\d\d)?", name.lower())
    return SPLIT_WORDS.get(found[1]) if found else None


def _by_split(inside: Iterable[Path]) -> dict[Split, list[Path]]:
    """Return the folders whose names mean a split, by split."""
    found: dict[Split, list[Path]] = {}
    for path in inside:
        if (split := _split_of(path.name)) is not None:
            found.setdefault(split, []).append(path)
    return found


def _one_each(root: Path, splits: Mapping[Split, list[Path]]) -> list[tuple[Split, Path]]:
    """Return the only folder of each split.

    Raises:
        InputError: A split has two folders.
    """
    for split, folders in splits.items():
        if len(folders) > 1:
            names = " and ".join(f"{printable(path.relative_to(root))}/" for path in folders)
            raise InputError(
                f"dataset {printable(root)} — {names} — expected one folder for the split '{split}' — join or rename them"
            )
    return [(split, folders[0]) for split, folders in splits.items() if folders]


def _holds_images(folder: Path) -> bool:
    return any(path.name.lower() in _IMAGE_NAMES for path in _subfolders(folder))


def _transposed(root: Path, here: PairFolders) -> dict[Split, PairFolders]:
    """Return the folders by split if all folders with pictures inside ``images`` are splits, else nothing."""
    inside = [path for path in _subfolders(here.images) if _pictures(path)]
    if not inside or any(_split_of(path.name) is None for path in inside):
        return {}
    beside = [path for path in _entries(here.images) if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    if beside and not any(_split_of(path.name) == "train" for path in inside):
        raise InputError(
            f"{printable(here.images)}/ — holds {len(beside)} files as {printable(beside[0].name)} beside "
            f"{printable(inside[0].name)}/ — expected every image in a split — move them to {printable(here.images)}/train/, "
            "and their masks likewise"
        )
    masks = _by_split(_subfolders(here.masks))
    found: dict[Split, PairFolders] = {}
    for split, images in _one_each(root, _by_split(inside)):
        same = [path for path in masks.get(split, []) if path.name == images.name]
        others = dict(_one_each(root, {} if same else {split: masks.get(split, [])}))
        found[split] = PairFolders(images=images, masks=(same or [others.get(split, here.masks / images.name)])[0])
    return found


def _refuse_links_to_nowhere(root: Path, inside: Iterable[Path]) -> None:
    for folder in (root, *(path for path in inside if _split_of(path.name) is not None)):
        for path in _entries(folder) if folder.is_dir() else []:
            name = path.name.lower()
            if (name in (*_IMAGE_NAMES, *_MASK_NAMES) or _split_of(name) is not None) and leads_nowhere(path):
                raise InputError(
                    f"{printable(path)} — a link to {printable(path.readlink())}, which does not exist — expected a "
                    "folder — bring it or correct the link"
                )


def _found(root: Path, inside: list[Path]) -> str:
    if not root.exists():
        return "no such folder"
    if not root.is_dir():
        return "a file"
    nested = [path for path in inside if _holds_images(path)]
    if len(nested) > 1:
        return f"{len(nested)} folders with images/ inside, as {printable(nested[0].name)}/, and none is a split"
    return f"no images/ and no train/images/ inside, but {describe(root)}"


def _notes(root: Path, folders: Mapping[Split, PairFolders], has_splits: bool) -> tuple[str, ...]:
    """Return a phrase for each split whose folders have other names than the usual ones."""
    notes = []
    for split, place in folders.items():
        usual = root / split if has_splits else root
        if (place.images, place.masks) != (usual / "images", usual / "masks"):
            images, masks = (printable(path.relative_to(root)) for path in (place.images, place.masks))
            what = f"split {split}" if has_splits else "pairs"
            notes.append(f"{what}: {images}/ and {masks}/")
    return tuple(notes)
