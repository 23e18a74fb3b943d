"""Files that are either the old ones or the new ones, never half: temporary name, fsync, rename."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeUnetError, StorageError, UsageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def translated(action: str, path: Path, error: type[EdgeUnetError] = StorageError) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into one line that names the file and the remedy.

    Args:
        action: What was being done, as a verb phrase ("write", "read").
        path: The file or folder it was done to.
        error: The class to raise.
    """
    try:
        yield
    except OSError as cause:
        remedy = {
            errno.ENOSPC: "free some space or choose another folder",
            errno.EDQUOT: "free some of your quota or choose another folder",
            errno.EFBIG: "raise the file size limit or choose another folder",
            errno.EROFS: "choose a folder on a writable file system",
            errno.EACCES: "check the permissions or choose another folder",
            errno.ENOENT: "check the path",
            errno.ENOTDIR: "check the path: a part of it is a file",
        }.get(cause.errno or 0, "check the path and the disk")
        reason = cause.strerror or str(cause)
        raise error(f"cannot {action} {printable(path)} — {reason.lower()} — {remedy}") from cause


def printable(path: Path | str) -> str:
    """Return a path as text that fits on one line of any terminal: control and undecodable characters are escaped."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def read_bytes(path: Path, error: type[EdgeUnetError] = StorageError) -> bytes:
    """Return the bytes of a file, or raise ``error`` with a message that names it."""
    with translated("read", path, error):
        return path.read_bytes()


def system_text(path: Path) -> str:
    """Return the text of a file of /proc or /sys without its end, or nothing where there is none to be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def write_bytes(path: Path, data: bytes | memoryview, *, sync_folder: bool = True) -> None:
    """Write a file atomically: after a crash there is the old content or the new, never a mixture.

    Args:
        path: The file.
        data: Its new content.
        sync_folder: Make its name durable too. That is half of the time a small file takes; who writes many calls
            ``sync_names`` once in a while instead.

    Raises:
        StorageError: The folder is missing or read-only, or the disk is full; the old file is untouched.
    """
    with translated("write", path):
        temporary = temporary_name(path)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if sync_folder:
            _sync(path.parent)


def sync_names(folder: Path) -> None:
    """Make the names of the files in a folder durable.

    Raises:
        StorageError: The folder has gone.
    """
    with translated("write", folder):
        _sync(folder)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write one JSON object atomically, indented, ending in a newline; NaN is refused, for JSON has none."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def replace_file(temporary: Path, path: Path) -> None:
    """Fsync a finished temporary file and give it its real name; on failure the temporary file is removed."""
    with translated("write", path):
        try:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: The folder to appear. Its parent is made when missing.
        overwrite: Exchange an existing folder for the new one in one step; otherwise an existing one is an error.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is not set.
        StorageError: Writing failed; what was at ``path`` is untouched.
    """
    with translated("write", path):
        _refuse_existing(path, overwrite)  # before the work, and again after it
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        temporary.mkdir()
    try:
        with translated("write", path):
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            _refuse_existing(path, overwrite)
            if path.exists():
                _exchange(temporary, path)
            else:
                temporary.rename(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(path: Path) -> Path:
    """Return an unused hidden name beside ``path`` with the same ending, for a file on its way there."""
    return path.parent / f".{path.stem[:40]}.{secrets.token_hex(4)}.tmp{path.suffix}"


def sha256(path: Path, error: type[EdgeUnetError] = StorageError) -> str:
    """Return the SHA-256 digest of a file as 64 hexadecimal digits."""
    with translated("read", path, error), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders; in one step where the system can (Linux renameat2), else with a moment where only a backup is."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(new), os.fsencode(old)
        if (
            hasattr(libc, "renameat2")
            and libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
        ):
            return
    backup = new.with_suffix(".old")
    old.rename(backup)
    try:
        new.rename(old)
    except BaseException:
        backup.rename(old)
        raise
    shutil.rmtree(backup, ignore_errors=True)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise UsageError(f"output folder {printable(path)} — exists — choose another name or pass --overwrite")
    if path.exists() and not path.is_dir():
        raise UsageError(f"output folder {printable(path)} — is a file — choose another name or remove it")


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable; a system that cannot open folders (Windows) is passed over."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
