"""Find the files that annotations name, inside one folder only; recognise split names and choose new file names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from urllib.parse import unquote

from edge_runtime.dataset.layout import SPLIT_WORDS
from edge_runtime.dataset.pairs import Split, files_below
from edge_runtime.headers import IMAGE_SUFFIXES
from edge_runtime.storage import printable
from training.data.dataset import CONFIG
from training.errors import DataError
from training.importers.documents import read_yaml
from training.importers.plan import Item, Tally

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_MAX_STEM_BYTES = 200  # file systems allow 255 with the suffix


def split_of(name: str) -> Split | None:
    """Return the split that a file or folder name contains: "train" for ``instances_train2017`` and for ``Train``."""
    words = re.findall("[a-z]+", name.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def split_called(name: str) -> Split | None:
    """Return the split that a name means as a whole, apart from case, numbers and marks: "val" for ``Valid_2017``."""
    words = re.findall("[a-z]+", name.lower())
    return SPLIT_WORDS.get(words[0]) if len(words) == 1 else None


def deepest_split(folder: PurePath) -> Split | None:
    """Return the split that a folder names, or else one above it; the path is relative to the source.

    A folder that is called as a split counts before those that have the word among others: ``training_set/val`` and
    ``val/train_station`` are both of "val".
    """
    found = (split for read in (split_called, split_of) for part in reversed(folder.parts) if (split := read(part)))
    return next(found, None)


def without_lone_split(items: Sequence[Item], notes: Tally) -> list[Item]:
    """Return images whose splits come from names; without a split if that is val alone or test alone."""
    is_lone = _is_lone([item.split for item in items], notes)
    return [replace(item, split=None) for item in items] if is_lone else list(items)


def _is_lone(splits: Sequence[Split | None], notes: Tally) -> bool:
    """Tell whether names put all images in val or test: the word then often means something else (``test_pieces``)."""
    first = splits[0] if splits else None
    if first in (None, "train") or len(set(splits)) > 1:
        return False
    notes.add(f"images are all in {first} by the names of files or folders: no splits are made", count=len(splits))
    return True


def source_files(root: Path) -> list[Path]:
    """Return the files below a folder, without those in ``datasets_inside``."""
    found = list(files_below(root))
    inside = _datasets(found, root)
    return [path for path in found if inside.isdisjoint(path.parents)] if inside else found


def datasets_inside(root: Path) -> list[Path]:
    """Return the dataset folders below a folder, such as an earlier import; their images are copies of the source's."""
    return sorted(_datasets(files_below(root), root))


def _datasets(paths: Iterable[Path], root: Path) -> set[Path]:
    return {path.parent for path in paths if path.name == CONFIG and path.parent != root and _has_classes(path)}


def _has_classes(config: Path) -> bool:
    """Tell whether a dataset.yaml is one of ours; other tools write "names" into a file of this name."""
    try:
        return "classes" in read_yaml(config)
    except DataError:
        return False


class FileFinder:
    """Finder of the files that annotations name.

    Annotations come from other machines: their paths may be absolute, lead out of the root or be web addresses, and have
    backslashes, another case or another Unicode form. Nothing outside the root is read; links in the user's own folders
    are followed.

    Args:
        root: Folder outside of which nothing is read.
    """

    def __init__(self, root: Path) -> None:
        self._root = _absolute(root)
        self._folders: dict[Path, dict[str, Path | None]] = {}
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, folders: Sequence[Path], where: str) -> Path | None:
        """Return the file that a path means.

        It is the file at this path relative to one of the folders; or else the one of this file name directly in one; or
        else the one below a folder that shares most of the path's last parts.

        Args:
            name: Path, file name or web address in the annotation.
            folders: Folders to search, the likeliest first.
            where: The annotation, for messages.

        Raises:
            DataError: Several files below the folders may be meant.
        """
        bases = [base for folder in folders if (base := _absolute(folder)).is_relative_to(self._root)]
        spellings = [parts for parts in _spellings(name) if parts]
        for parts in spellings:
            for base in bases:
                target = Path(os.path.normpath(base.joinpath(*parts)))
                if target.is_relative_to(self._root) and (found := self._in_folder(target.parent, target.name)):
                    return found
        for parts in spellings:
            if found := next((found for base in bases if (found := self._in_folder(base, parts[-1]))), None):
                return found
        return next((found for parts in spellings if (found := self._below(parts, bases, where))), None)

    def find_image(self, name: str, folders: Sequence[Path], where: str) -> Path | None:
        """Return the image that a path means: the file that ``find`` returns, or else that of the same stem in a folder.

        Images are often converted after they were annotated, as from a.png to a.jpg.
        """
        if found := self.find(name, folders, where):
            return found
        named = [parts for parts in _spellings(name) if parts and Path(parts[-1]).suffix.lower() in IMAGE_SUFFIXES]
        places = [
            (_absolute(place), Path(parts[-1]).stem)
            for parts in named
            for folder in folders
            for place in (folder.joinpath(*parts[:-1]), folder)
        ]
        inside = ((place, stem) for place, stem in places if place.is_relative_to(self._root))
        candidates = (self.with_stem(place, stem, IMAGE_SUFFIXES) for place, stem in inside)
        return next((path for path in candidates if path), None)

    def name(self, path: Path) -> str:
        """Return a found file's path relative to the root."""
        return _absolute(path).relative_to(self._root).as_posix()

    def with_stem(self, folder: Path, stem: str, suffixes: frozenset[str]) -> Path | None:
        """Return the file of this stem in a folder, with any of the suffixes."""
        candidates = (self._in_folder(_absolute(folder), f"{stem}{suffix}") for suffix in sorted(suffixes))
        return next((path for path in candidates if path), None)

    def _in_folder(self, folder: Path, name: str) -> Path | None:
        names = self._folders.get(folder)
        if names is None:
            names = self._folders[folder] = _listing(folder)
        return names.get(name) or names.get(_folded(name))

    def _below(self, parts: Sequence[str], bases: Sequence[Path], where: str) -> Path | None:
        """Return the file anywhere below the bases whose path ends most like these parts."""
        if self._by_name is None:
            self._by_name = {}
            for path in source_files(self._root):
                self._by_name.setdefault(_folded(path.name), []).append(path)
        wanted = [_folded(part) for part in reversed(parts)]
        found: dict[int, list[Path]] = {}
        for path in self._by_name.get(wanted[0], ()):
            if any(path.is_relative_to(base) for base in bases):
                own = [_folded(part) for part in reversed(path.relative_to(self._root).parts)]
                alike = [one == other for one, other in zip(wanted, own, strict=False)]
                found.setdefault([*alike, False].index(False), []).append(path)
        best = _nearest(found[max(found)], bases[0]) if found else []
        if len(best) > 1:
            first, second = (printable(self.name(path)) for path in best[:2])
            raise DataError(
                f"{where} — file name '{printable('/'.join(parts))}' — may be {first} or {second} — expected one: add its "
                "folder to the name"
            )
        return best[0] if best else None


def _nearest(paths: Sequence[Path], base: Path) -> list[Path]:
    """Return the files whose folders are called as a folder and those above it: images/cam1 for annotations/cam1."""
    own = [_folded(part) for part in reversed(base.parts)]
    shared = []
    for path in paths:
        parts = [_folded(part) for part in reversed(path.parent.parts)]
        shared.append([*(one == other for one, other in zip(own, parts, strict=False)), False].index(False))
    return [path for path, count in zip(paths, shared, strict=True) if count == max(shared)]


def unlisted_images(root: Path, listed: Collection[Path | bytes]) -> list[Path]:
    """Return the image files below a folder that are not among the listed ones."""
    return [p for p in source_files(root) if p.suffix.lower() in IMAGE_SUFFIXES and _absolute(p) not in listed]


def folder_splits(names: Sequence[str], notes: Tally) -> list[Split | None]:
    """Return the split that the folders of each path name; None for all, unless each path has one and train has some."""
    found = [deepest_split(PurePath(*name_parts(name)[:-1])) for name in names]
    without = [name for name, split in zip(names, found, strict=True) if split is None]
    if 0 < len(without) < len(found):
        what = "files are in no folder of a split, others are: no splits are made"
        notes.add(what, printable(without[0]), count=len(without))
    return [None] * len(found) if without or _is_lone(found, notes) else found


def name_parts(name: str) -> list[str]:
    """Return the parts of a path of any operating system."""
    parts = re.sub("^[A-Za-z]:", "", name).replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".")]


def _spellings(name: str) -> Iterator[list[str]]:
    """Yield the parts of the paths that a name may mean, the likeliest first.

    A name may be an address with a query ("a.jpg?token=1"), have characters in the form of one ("a%20b.jpg"), or be the
    address of a server that has the path in its query ("/data/local-files/?d=images/a.jpg").
    """
    if "\0" in name:
        return
    yield name_parts(name)
    address, _, query = name.partition("#")[0].partition("?")
    for text in (
        address,
        *(value for key, _, value in (pair.partition("=") for pair in query.split("&")) if key == "d"),
    ):
        for one in dict.fromkeys((text, unquote(text))):
            if one != name and "\0" not in one:
                yield name_parts(re.sub(r"^[A-Za-z][A-Za-z0-9+.-]+://[^/]*", "", one))


def new_stems(items: Sequence[Item]) -> list[str]:
    """Return one stem per item, unique in the whole dataset in any case or Unicode form.

    It is the image's own stem. If several images share it, their folders are put before it; if that is not unique, a
    number is put after it.
    """
    plain = [_safe_stem(name_parts(item.name)[-1:]) for item in items]
    shared = Counter(_folded(stem) for stem in plain)
    taken: set[str] = set()
    stems = []
    for item, stem in zip(items, plain, strict=True):
        if shared[_folded(stem)] > 1:
            stem = _safe_stem(name_parts(item.name))
        unique, number = stem, 1
        while _folded(unique) in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(_folded(unique))
        stems.append(unique)
    return stems


def _safe_stem(parts: Sequence[str]) -> str:
    """Join parts to a stem that every operating system accepts and that is not hidden."""
    stem = _UNSAFE.sub("_", "_".join(parts).rpartition(".")[0] or "_".join(parts)).strip(" .") or "image"
    data = os.fsencode(stem)
    return stem if len(data) <= _MAX_STEM_BYTES else data[-_MAX_STEM_BYTES:].decode(errors="ignore").lstrip(" .")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _listing(folder: Path) -> dict[str, Path | None]:
    """Return the files of a folder by name and by folded name; None for a folded name that two files share."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:  # no such folder, or a name that cannot be one
        return {}
    found: dict[str, Path | None] = {}
    for name in names:
        found[_folded(name)] = None if _folded(name) in found else folder / name
    return found | {name: folder / name for name in names}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
