"""Find the files of a dataset folder that are not used, so that none is lost without a word."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.dataset.pairs import PICTURE_SUFFIXES, Problem, files_below, leads_nowhere
from edge_runtime.storage import printable
from training.data.check.files import problem
from training.data.dataset import CONFIG, Dataset
from training.data.settings import find_settings
from training.data.splits import GROUPS_FILE

_SHOWN = 3
_YAML = (".yaml", ".yml")
_LISTS = frozenset({".csv", ".json", ".names", ".txt", ".xml"})
_OF_DATASETS = frozenset(
    {
        *("train", "val", "valid", "validation", "test", "trainval", "class", "classes", "label", "labels", "labelmap"),
        *("colors", "instances", "annotation", "annotations", "coco", "names", "dataset", "data", "splits", "split"),
    }
)
"""Words in the names of files with splits, classes or annotations."""
_VIDEOS = frozenset({".avi", ".mkv", ".mov", ".mp4", ".webm"})


def ignored_files(dataset: Dataset) -> int:
    """Count the files in the folders of images and masks that are hidden, or no pictures of any format."""
    hidden = 0
    for folder in _used_folders(dataset):
        for _, folders, names in os.walk(folder):
            hidden += sum(name.startswith(".") for name in names)
            folders[:] = [name for name in folders if not name.startswith(".")]
    return hidden + sum(path.suffix.lower() not in PICTURE_SUFFIXES for path in dataset.unread)


def unused_files(dataset: Dataset) -> list[Problem]:
    """Warn about splits without a pair, once about pictures that are not used, and once about settings files."""
    root = dataset.root
    pictures = [path for path in dataset.unread if path.suffix.lower() in PICTURE_SUFFIXES]
    settings = []
    read = {find_settings(root), root / GROUPS_FILE}
    for path in _beside(dataset):
        if path in read:
            continue
        if _is_settings(path):
            settings.append(path)
        elif path.suffix.lower() in PICTURE_SUFFIXES or (leads_nowhere(path) and not path.suffix):
            pictures.append(path)
    found = [
        problem(
            "warning",
            "empty_split",
            split,
            f"split {split} — no pair in {printable(folders.images)} — expected images and masks — fill it, or remove it",
        )
        for split, folders in dataset.layout.folders.items()
        if not dataset.splits.get(split)
    ]
    if pictures:
        message = (
            f"dataset {printable(root)} — {len(pictures)} picture files below it are not used: {_places(dataset, pictures)} — "
            "expected them in images/ and masks/, of one split or of all — move them there, or take them out"
        )
        found.append(problem("warning", "unused_files", pictures[0], message))
    if settings:
        names = _listed([printable(path.relative_to(root)) for path in settings])
        message = (
            f"dataset {printable(root)} — not read: {names} — expected {CONFIG} and {GROUPS_FILE} beside images/, and splits "
            f"as folders train/, val/ and test/ — write the classes into {CONFIG}, or convert another format (`edge-unet data import --help`)"
        )
        found.append(problem("warning", "unread_settings", settings[0], message))
    return found


def _is_settings(path: Path) -> bool:
    """Tell whether a file looks like one that names classes, splits or annotations."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in _YAML or name == GROUPS_FILE or name.endswith((".yaml.txt", ".yml.txt")):
        return True
    return suffix in _LISTS and not _OF_DATASETS.isdisjoint(re.split("[^a-z]+", path.stem.lower()))


def _used_folders(dataset: Dataset) -> list[Path]:
    return [folder for pair in dataset.layout.folders.values() for folder in (pair.images, pair.masks)]


def _beside(dataset: Dataset) -> Iterator[Path]:
    """Yield the visible files below the dataset's folder that are in no folder of images or masks.

    A folder with a video is passed over: what is in it belongs to the video.
    """
    used = set(_used_folders(dataset))
    videos: dict[Path, bool] = {}
    for path in files_below(dataset.root):
        inside = [folder for folder in path.parents if folder.is_relative_to(dataset.root)]
        if used.intersection(inside):
            continue
        if not any(_has_video(folder, videos) for folder in inside if folder != dataset.root):
            yield path


def _has_video(folder: Path, known: dict[Path, bool]) -> bool:
    if folder not in known:
        with os.scandir(folder) as entries:
            known[folder] = any(Path(entry.name).suffix.lower() in _VIDEOS for entry in entries)
    return known[folder]


def _places(dataset: Dataset, paths: list[Path]) -> str:
    """Return folders with the number of files in them, and the names of files that lie beside folders in use."""
    busy = {parent for folder in _used_folders(dataset) for parent in (folder, *folder.parents)}
    counts: Counter[str] = Counter()
    for path in paths:
        free = [folder for folder in path.parents if folder.is_relative_to(dataset.root) and folder not in busy]
        name = f"{free[-1].relative_to(dataset.root)}/" if free else str(path.relative_to(dataset.root))
        counts[name + (" (a link to nowhere)" if leads_nowhere(path) and not free else "")] += 1
    return _listed(
        [f"{printable(name)} ({n})" if name.endswith("/") else printable(name) for name, n in counts.items()]
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
