"""Refuse to write over anything that is read, or that no earlier run of ours has written.

A folder for results holds a marker from the first run on. Its ``masks``, ``overlays`` and ``overlay.mp4`` may then be
replaced by the next run. JSON lines and a status are recognised by their content.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.model.package import MANIFEST
from edge_runtime.sinks.bytestream import is_stdout
from edge_runtime.sinks.folder import PICTURE_SUFFIXES, TEMPORARY
from edge_runtime.sinks.video import VIDEO_SUFFIX
from edge_runtime.storage import RESULT_FOLDERS, are_results_ours, printable, refuse_stranger, translated

_STDOUT = "/dev/stdout"


def check_folder(folder: Path, read: Iterable[Path], *, overwrite: bool, limited: bool = False) -> None:
    """Check that a run may write its results into a folder.

    Args:
        folder: Folder of ``--save``, which may be missing.
        read: Files that the run reads.
        overwrite: Accept that files of others are replaced, except those that are read.
        limited: Whether the oldest results are deleted, which are then not read either.

    Raises:
        UsageError: Something would be written over or deleted.
        StorageError: The folder cannot be read.
    """
    where = f"--save {printable(folder)}"
    parts = [folder / part for part in RESULT_FOLDERS]
    video = folder / f"overlay{VIDEO_SUFFIX}"
    with translated("read", folder):
        if package := _package_around(folder):
            raise UsageError(
                f"{where} — lies in the model package {printable(package)}, which must not change: choose another folder"
            )
        pieces = sorted(folder.glob(f"overlay-*{VIDEO_SUFFIX}"))  # of a service, which --keep-mb deletes
        there = [path for path in (*parts, video, *pieces) if path.exists()]
        if not there:
            return
        targets = [_real(part) for part in parts]
        read = list(read)
        # Each folder once, because there may be a million files.
        inside = {
            place for place in {path.parent for path in read} if any(_real(place).is_relative_to(t) for t in targets)
        }
        if limited and (found := _same(pieces, read)):
            raise UsageError(
                f"{where} — {printable(found)} is read, and might be deleted by --keep-mb: choose another folder"
            )
        found = next((path for path in read if path.parent in inside or _leads_into(path, targets)), None)
        found = found or _same([video], read)
        if found is not None:
            raise UsageError(f"{where} — {printable(found)} is read, and would be written over: choose another folder")
        if overwrite or are_results_ours(folder):
            return
        strangers = [path for part in parts if part.is_dir() for path in _results(part)]
        stranger = next((path for path in (video, *pieces, *strangers) if path.exists()), None)
        if stranger is not None:
            raise UsageError(
                f"{where} — {printable(stranger)} is there, and no run of ours has written it: choose another folder, or "
                "pass --overwrite"
            )


def check_file(option: str, target: str | None, read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that a run may write its JSON lines, raw pictures or status into a file.

    Args:
        option: "--json", "--raw" or "--status".
        target: The file; "-" for standard output, of which only a file that is read is refused; None: none.
        read: Files that the run reads.
        overwrite: Accept that a file of others is replaced, except one that is read.

    Raises:
        UsageError: The file is read by the run, or holds something else than an earlier run has written.
        StorageError: The file cannot be read.
    """
    if target is None:
        return
    path, where = _place(target), f"{option} {printable(target)}"
    with translated("write", path):
        if is_stdout(target):
            if _same([path], read) is not None:
                raise UsageError(f"{where} — is read, and would be written over: choose another file")
            return
        if package := _package_around(path.parent):
            raise UsageError(
                f"{where} — lies in the model package {printable(package)}, which must not change: choose another folder"
            )
        if _same([path], read) is not None:
            raise UsageError(f"{where} — is read, and would be written over: choose another file")
    refuse_stranger(option, path, _OURS[option], overwrite=overwrite)


def check_apart(targets: Mapping[str, str | Path | None]) -> None:
    """Check that no two outputs, by option, are one file.

    Raises:
        UsageError: Two of them are.
    """
    named = [(option, target) for option, target in targets.items() if target is not None]
    for (first, one), (second, other) in itertools.combinations(named, 2):
        places = _place(one), _place(other)
        with translated("write", places[1]):  # the working folder may be gone
            same = _real(places[0]) == _real(places[1]) and not places[1].is_char_device()
            if same or _same(places[:1], places[1:]) is not None:
                raise UsageError(
                    f"{first} and {second} — both write {printable(other)} — name another file for one of them"
                )


def _place(target: str | Path) -> Path:
    """Return the path of a target; that of standard output leads to the file into which a shell sends it."""
    return Path(_STDOUT if is_stdout(target) else target)


def _package_around(folder: Path) -> Path | None:
    """Return the model package in which a folder lies, or which it is; None if there is none."""
    for place in (folder.absolute(), *_real(folder).parents):
        try:
            manifest = json.loads((place / MANIFEST).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(manifest, dict) and {"format_version", "variants"} <= manifest.keys():
            return place
    return None


def _leads_into(path: Path, folders: Sequence[Path]) -> bool:
    """Tell whether a path is a link to a file in one of some folders."""
    return path.is_symlink() and any(_real(path).is_relative_to(folder) for folder in folders)


def _real(path: Path) -> Path:
    """Return where a path leads; a link to itself, which ``Path.resolve`` does not survive, leads to itself."""
    return Path(os.path.realpath(path))


def _results(folder: Path) -> list[Path]:
    """Return one entry of a folder for results that a run might replace, if there is any.

    Hidden files are no matter unless they are pictures, because a picture may have a hidden name. Those of a killed run
    and of macOS ("._a.png") are none.
    """
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if not entry.name.startswith(".") or _is_picture(entry)][:1]


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """Tell whether a hidden entry is a picture, or a folder that holds one."""
    if entry.is_dir(follow_symlinks=False):
        with os.scandir(entry) as entries:
            return any(map(_is_picture, entries))
    name = entry.name
    return name.endswith(PICTURE_SUFFIXES) and not name.startswith("._") and not TEMPORARY.fullmatch(name)


def _same(paths: Iterable[Path], others: Iterable[Path]) -> Path | None:
    """Return the first of the others that is one of some files, whatever its name; None if none is."""
    mine = set()
    for path in paths:
        with suppress(FileNotFoundError):
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                mine.add((found.st_dev, found.st_ino))
    for other in others if mine else ():
        with suppress(OSError):  # reading it says what is wrong
            found = other.stat()
            if (found.st_dev, found.st_ino) in mine:
                return other
    return None


def _are_lines(head: bytes) -> bool:
    """Tell whether a file begins as our JSON lines do, also if its first line is longer than ``head``."""
    return re.match(rb'\{"(frame": \d+, "source|summary": \{"captured)": ', head) is not None


def _is_status(head: bytes) -> bool:
    try:
        value = json.loads(head)
    except ValueError:
        return False
    return isinstance(value, dict) and {"uptime_s", "fps_now", "state"} <= value.keys()


_OURS: dict[str, Callable[[bytes], bool]] = {
    "--json": _are_lines,
    "--raw": lambda head: False,  # pixels do not tell who has written them
    "--status": _is_status,
}
