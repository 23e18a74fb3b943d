"""Pair the images of one folder with the masks of another, by their names below the folders."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_runtime.dataset.affixes import common_affixes, parts_of_name
from edge_runtime.errors import InputError
from edge_runtime.headers import IMAGE_SUFFIXES, UNREAD_FORMATS
from edge_runtime.storage import printable, translated

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
UNPAIRED = ("missing_mask", "orphan_mask")
"""Codes of the problems of an image without a mask and of a mask without an image."""
BROKEN_LINK = "broken_link"
"""Code of the problem of a link to nowhere."""
PICTURE_SUFFIXES = IMAGE_SUFFIXES | UNREAD_FORMATS.keys()
"""Suffixes of files that hold a picture or a mask, whether this project reads them or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFolders:
    """Folder of the images and folder of the masks of one split."""

    images: Path
    masks: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Files of one image and its mask.

    Attributes:
        stem: Name of the image below its folder, without the suffix and in Unicode's composed form: ``a``, ``cam1/a``.
        image: Path of the image.
        mask: Path of the mask; None if the image has none and counts as all background (class 0).
    """

    stem: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Problem of a dataset.

    Attributes:
        severity: Errors stop training, warnings do not.
        code: Stable name of the kind of problem.
        file: File to correct.
        message: Complete line of parts: "the place — found — expected — the remedy".
        detail: Values of this file, for a list under the title of its kind: "24x20, image 32x32"; empty if a part of the
            message says it.
    """

    severity: Literal["error", "warning"]
    code: str
    file: str
    message: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Result of pairing two folders.

    Attributes:
        pairs: Pairs in order of their stems.
        problems: Images and masks that do not pair, names that occur twice, links to nowhere.
        unread: Visible files that are not read as images, and that no problem names.
        notes: Phrases for a summary, such as how the masks' names differ from those of the images.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[Problem, ...]
    unread: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def find_pairs(folders: PairFolders, *, empty_without_mask: bool = False) -> Pairing:
    """Pair images and masks of the same name below their folders, subfolders included; hidden files are left out.

    Names are the same apart from suffix, case and Unicode form. If no name of an image is that of a mask, and all masks
    (or all images) have one ending or beginning more, as in ``a.jpg`` and ``a_mask.png``, they pair without it.

    Args:
        folders: Folder of the images and folder of the masks.
        empty_without_mask: Take images that have no mask as all background.

    Raises:
        InputError: A folder cannot be read.
    """
    images, masks = _listed(folders.images), _listed(folders.masks)
    notes = _align(images, masks, folders)
    matched = images.files.keys() & masks.files.keys()
    unpaired = _Unpaired(
        folders,
        images=[path for key, path in images.files.items() if key not in matched],
        masks=[path for key, path in masks.files.items() if key not in matched],
        unread=[*images.unread, *masks.unread],
    )
    pairs, problems = [], [*images.problems, *masks.problems]
    broken = images.broken | masks.broken
    # Where nobody drew a mask, the images are more likely unlabelled, as those to submit results for, than all empty.
    unlabelled = "--allow-unpaired to leave out images without a mask, or " if not masks.files else ""
    for key in sorted(images.files.keys() | masks.files.keys()):
        image, mask = images.files.get(key), masks.files.get(key)
        if image is not None and mask is not None:
            pairs.append(Pair(stem=_stem(image, folders.images), image=image, mask=mask))
        elif key in broken:
            continue  # the link to nowhere is named
        elif image is not None:
            partner = unpaired.in_place_of_mask(image)
            if empty_without_mask and not partner:
                pairs.append(Pair(stem=_stem(image, folders.images), image=image, mask=None))
                continue
            expected = f"expected {printable(folders.masks / image.relative_to(folders.images).with_suffix('.png'))}"
            remedy = partner or (
                f"{expected} — add it or remove the image, or pass {unlabelled}--empty-without-mask if it shows no object"
            )
            message = f"no mask for image {printable(image)} — {remedy}"
            problems.append(Problem(severity="error", code="missing_mask", file=str(image), message=message))
        elif mask is not None:
            partner = unpaired.in_place_of_image(mask)
            expected = printable(folders.images / mask.relative_to(folders.masks).with_suffix(""))
            remedy = partner or f"expected {expected}.jpg or .png — add it or remove the mask"
            message = f"no image for mask {printable(mask)} — {remedy}"
            problems.append(Problem(severity="error", code="orphan_mask", file=str(mask), message=message))
    unread = [path for path in (*images.unread, *masks.unread) if path not in unpaired.named]
    pairs.sort(key=lambda pair: pair.stem)
    return Pairing(pairs=tuple(pairs), problems=tuple(problems), unread=tuple(unread), notes=tuple(notes))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order, hidden ones left out; links are followed, but no folder twice.

    Raises:
        InputError: A folder cannot be read.
    """

    def refuse(cause: OSError) -> None:
        with translated("read", Path(cause.filename or folder), InputError):
            raise cause

    seen = set()
    for place, inside, names in os.walk(folder, followlinks=True, onerror=refuse):
        status = os.stat(place)  # noqa: PTH116 - walk gives text
        if (status.st_dev, status.st_ino) in seen:
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def leads_nowhere(path: Path) -> bool:
    """Tell whether a path is a link to something that does not exist."""
    return path.is_symlink() and not path.exists()


def same_name(name: str) -> str:
    """Return a name in the form in which names are compared: composed Unicode, without case."""
    return unicodedata.normalize("NFC", name.lower())  # not casefold(), which takes "straße" for "strasse"


@dataclass(slots=True, kw_only=True)
class _Listing:
    """Files below a folder: images by compared name, keys of links to nowhere, other files, problems."""

    files: dict[str, Path]
    broken: set[str]
    unread: list[Path]
    problems: list[Problem]


def _listed(folder: Path) -> _Listing:
    """List the files below a folder; two files whose names differ at most in case or Unicode form are a problem."""
    found = _Listing(files={}, broken=set(), unread=[], problems=[])
    if not folder.is_dir():
        return found
    for path in files_below(folder):
        key, suffix = _key(path, folder), path.suffix.lower()
        if leads_nowhere(path) and (suffix in PICTURE_SUFFIXES or not suffix):
            message = (
                f"{printable(path)} — a link to {printable(path.readlink())}, which does not exist — expected a file — "
                "bring the file (git annex get, dvc pull) or remove the link"
            )
            found.problems.append(Problem(severity="error", code=BROKEN_LINK, file=str(path), message=message))
            found.broken.add(key)
        elif not path.is_file():
            continue
        elif suffix not in IMAGE_SUFFIXES:
            found.unread.append(path)
        elif (other := found.files.setdefault(key, path)) is not path:
            message = (
                f"two files of one name: {printable(other)} and {printable(path)} — expected one — rename or remove one"
            )
            beside = f"beside {printable(other.name)}"
            found.problems.append(
                Problem(severity="error", code="duplicate_stem", file=str(path), message=message, detail=beside)
            )
    return found


def _stem(path: Path, folder: Path) -> str:
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def _key(path: Path, folder: Path) -> str:
    return same_name(path.relative_to(folder).with_suffix("").as_posix())


def _align(images: _Listing, masks: _Listing, folders: PairFolders) -> list[str]:
    """Take off the beginnings or endings that all names of one folder share, if no name is in both; return notes."""
    if not images.files or not masks.files or images.files.keys() & masks.files.keys():
        return []
    found = common_affixes(images.files, masks.files)
    if found is None:
        return []
    notes = []
    for listing, affix, folder in ((images, found[0], folders.images), (masks, found[1], folders.masks)):
        if affix:
            listing.files = {affix.off(key): path for key, path in listing.files.items()}
            listing.broken = {affix.off(key) for key in listing.broken}
            notes.append(f"{printable(folder)}: files named {affix} are paired by what * stands for")
    return notes


class _Unpaired:
    """Finder of what stands in place of the other half of a pair: a file of another format, folder or name."""

    def __init__(
        self, folders: PairFolders, *, images: Sequence[Path], masks: Sequence[Path], unread: Sequence[Path]
    ) -> None:
        self.named: set[Path] = set()
        self._folders = folders
        self._images, self._masks = _by_name(images), _by_name(masks)
        self._image_parts, self._mask_parts = _by_part(images), _by_part(masks)
        self._mask_folders = _grouped((path.parent.name, path) for path in masks if path.parent != folders.masks)
        self._unread = _grouped((_bare(path), path) for path in unread)

    def in_place_of_mask(self, image: Path) -> str:
        """Return what is found in place of an image's mask, and the remedy; empty if nothing is."""
        inside, name = image.relative_to(self._folders.images), same_name(image.stem)
        if found := self._unread_at(self._folders.masks / inside):
            return found
        if len(elsewhere := self._masks.get(name, [])) > 1:
            return f"found {_names(elsewhere)}: a folder per class — {_JOIN}"
        if elsewhere:
            return _moved(elsewhere[0], self._folders.masks / inside.parent)
        above = self._folders.masks.parent
        if outside := [path for suffix in IMAGE_SUFFIXES if (path := above / f"{image.stem}{suffix}").is_file()]:
            return _moved(outside[0], self._folders.masks / inside.parent)
        if parts := self._mask_folders.get(name):
            return f"found {len(parts)} masks in {printable(parts[0].parent)}/ — {_JOIN}"
        return _renamed(self._mask_parts.get(name, []), [self._masks.get(part, []) for part in parts_of_name(name)])

    def in_place_of_image(self, mask: Path) -> str:
        """Return what is found in place of a mask's image, and the remedy; empty if nothing is."""
        inside, name = mask.relative_to(self._folders.masks), same_name(mask.stem)
        if found := self._unread_at(self._folders.images / inside):
            return found
        elsewhere = self._images.get(name, [])
        if elsewhere and len(self._masks[name]) > 1:
            return f"it is one of {len(self._masks[name])} of that name, a folder per class — {_JOIN}"
        if elsewhere:
            return _moved(elsewhere[0], self._folders.images / inside.parent)
        if same_name(mask.parent.name) in self._images:
            return f"it is one of the masks in {printable(mask.parent)}/ — {_JOIN}"
        return _renamed(self._image_parts.get(name, []), [self._images.get(part, []) for part in parts_of_name(name)])

    def _unread_at(self, place: Path) -> str:
        """Return the remedy for a file of this name that is not read; empty if there is none."""
        found = [path for path in self._unread.get(_bare(place), []) if path.parent == place.parent]
        self.named.update(found)
        if not found:
            return ""
        if not any(path.suffix.lower() in PICTURE_SUFFIXES for path in found):
            return (
                f"found {_names(found)} — expected a picture — `edge-unet data import --help` lists the formats that can "
                "be converted"
            )
        suffixes = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        return f"found {_names(found)}, which is not read — expected {suffixes} — save it as png"


_JOIN = "expected one mask per image — join them: `edge-unet data import object-masks`"


def _grouped(items: Iterable[tuple[str, Path]]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for name, path in items:
        found[same_name(name)].append(path)
    return dict(found)


def _by_name(paths: Iterable[Path]) -> dict[str, list[Path]]:
    return _grouped((path.stem, path) for path in paths)


def _by_part(paths: Iterable[Path]) -> dict[str, list[Path]]:
    return _grouped((part, path) for path in paths for part in parts_of_name(path.stem))


def _bare(path: Path) -> str:
    """Return a file's name without its suffix, ``.nii.gz`` included."""
    return same_name(path.stem.removesuffix(".nii"))


def _moved(path: Path, folder: Path) -> str:
    return f"found {printable(path)} — expected the same folders for images and masks — move it to {printable(folder)}/"


def _renamed(longer: Sequence[Path], shorter: Iterable[Sequence[Path]]) -> str:
    """Return the remedy for files whose names are the beginning or ending of each other."""
    similar = [*longer, *(path for paths in shorter for path in paths)]
    if not similar:
        return ""
    return (
        f"found {_names(similar)} — expected one name for both — rename the mask to the image's; if the rest of its name is "
        "its class: `edge-unet data import object-masks`"
    )


def _names(paths: Sequence[Path]) -> str:
    shown = " and ".join(printable(path) for path in paths[:2])
    return shown + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")
