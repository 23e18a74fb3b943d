"""Refuse to write over anything that is read, or that no earlier run of ours has written.

A folder for results holds a marker from the first run on. Its ``masks``, ``overlays`` and ``overlay.mp4`` may then be
replaced by the next run. JSON lines and a status are recognised by their content.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.model.package import MANIFEST
from edge_runtime.sinks.video import VIDEO_SUFFIX
from edge_runtime.storage import RESULT_FOLDERS, are_results_ours, printable, translated

_HEAD_BYTES = 1 << 16


def check_folder(folder: Path, read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that a run may write its results into a folder.

    Args:
        folder: Folder of ``--save``, which may be missing.
        read: Files that the run reads.
        overwrite: Accept that files of others are replaced, except those that are read.

    Raises:
        UsageError: Something would be written over.
        StorageError: The folder cannot be read.
    """
    where = f"--save {printable(folder)}"
    parts = [folder / part for part in RESULT_FOLDERS]
    with translated("read", folder):
        video = folder / f"overlay{VIDEO_SUFFIX}"
        targets = {part.resolve() for part in parts}
        for path in read:
            if any(path.resolve().is_relative_to(target) for target in targets) or _same(path, video):
                raise UsageError(
                    f"{where} — {printable(path)} is read, and would be written over: choose another folder"
                )
        if any((parent / MANIFEST).is_file() for parent in (folder, *folder.resolve().parents)[:2]):
            raise UsageError(
                f"{where} — is a model package or lies in one, which must not change: choose another folder"
            )
        if overwrite or are_results_ours(folder):
            return
        strangers = [path for part in parts if part.is_dir() for path in _visible(part)]
        found = next((path for path in (video, *strangers) if path.exists()), None)
        if found is not None:
            raise UsageError(
                f"{where} — {printable(found)} is there, and no run of ours has written it: choose another folder, or "
                "pass --overwrite"
            )


def check_file(option: str, target: str | None, read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that a run may write its JSON lines, raw pictures or status into a file.

    Args:
        option: "--json", "--raw" or "--status".
        target: The file; None or "-": none.
        read: Files that the run reads.
        overwrite: Accept that a file of others is replaced, except one that is read.

    Raises:
        UsageError: The file is read by the run, or holds something else than an earlier run has written.
        StorageError: The file cannot be read.
    """
    if target is None or target == "-":
        return
    path = Path(target)
    where = f"{option} {printable(path)}"
    with translated("write", path):
        if any(_same(path, other) for other in read):
            raise UsageError(f"{where} — is read, and would be written over: choose another file")
        if (path.parent / MANIFEST).is_file():
            raise UsageError(f"{where} — lies in a model package, which must not change: choose another folder")
        if overwrite or not path.is_file() or path.stat().st_size == 0:  # named pipes and devices are no files
            return
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    if not _OURS[option](head):
        raise UsageError(
            f"{where} — is there, and no run of ours has written it: choose another file, or pass --overwrite"
        )


def _visible(folder: Path) -> list[Path]:
    """Return one file of a folder that is not hidden, if there is any."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if not entry.name.startswith(".")][:1]


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _are_lines(head: bytes) -> bool:
    """Tell whether a file begins as our JSON lines do, also if its first line is longer than ``head``."""
    return head.startswith((b'{"frame": ', b'{"summary": '))


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
