"""Write files and folders atomically (temporary name, fsync, rename), name them in errors, and mark what is ours."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeUnetError, StorageError, UsageError

RESULTS_MARKER = ".edge-unet-results"
RESULT_FOLDERS = ("masks", "overlays")
"""Folders for the results of ``edge-unet run`` inside a marked folder."""
_MARKER_TEXT = b"edge-unet run wrote the masks and overlays in this folder; its next run may replace them.\n"
_KNOWN_BYTES = 1 << 16
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def translated(action: str, path: Path, error: type[EdgeUnetError] = StorageError) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into an error whose one line names the file and the remedy.

    Args:
        action: Verb of the failed operation, such as "write" or "read".
        path: File or folder of the operation.
        error: Class of the error to raise.
    """
    try:
        yield
    except OSError as cause:
        raise error(f"cannot {action} {printable(path)} — {os_problem(cause)}") from cause


def os_problem(cause: OSError) -> str:
    """Return what an ``OSError`` found, and the remedy, as the end of a message."""
    remedy = {
        errno.ENOSPC: "free some space or choose another folder",
        errno.EDQUOT: "free some of your quota or choose another folder",
        errno.EFBIG: "raise the file size limit or choose another folder",
        errno.EROFS: "choose a folder on a writable file system",
        errno.EACCES: "check the permissions or choose another folder",
        errno.ENOENT: "check the path",
        errno.ENOTDIR: "check the path: a part of it is a file",
        errno.ENAMETOOLONG: "choose a shorter name",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
    }.get(cause.errno or 0, "check the path and the disk")
    return f"{(cause.strerror or str(cause)).lower()} — {remedy}"


def printable(path: Path | str) -> str:
    """Return a path as printable text on one line: control and undecodable characters are escaped."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def read_bytes(path: Path, error: type[EdgeUnetError] = StorageError) -> bytes:
    """Return the bytes of a file, or raise ``error`` with a message that names it."""
    with translated("read", path, error):
        return path.read_bytes()


def system_text(path: Path) -> str:
    """Return the text of a file in /proc or /sys without trailing whitespace; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def write_bytes(path: Path, data: bytes | memoryview, *, sync_folder: bool = True) -> None:
    """Write a file atomically: after a crash it has the old content or the new, never a mixture.

    Args:
        path: File to write. A link is replaced, and what it leads to stays.
        data: New content of the file.
        sync_folder: Make the file's name durable, too. This takes half of the time of a small file. To write many
            files, turn it off and call ``sync_names`` from time to time.

    Raises:
        StorageError: The folder is missing or read-only, or the disk is full; the old file is untouched.
    """
    with translated("write", path):
        if path.is_char_device():  # /dev/null and /dev/stderr must not be replaced by a file
            path.write_bytes(data)
            return
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError(errno.EEXIST, "it is no regular file")
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
        StorageError: The folder no longer exists.
    """
    with translated("write", folder):
        _sync(folder)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write one JSON object atomically, indented, ending in a newline; NaN is refused because JSON lacks it."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def replace_file(temporary: Path, path: Path) -> None:
    """Fsync a finished temporary file and rename it to ``path``; on failure the temporary file is removed."""
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
def new_folder(
    path: Path, *, overwrite: bool = False, is_ours: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` when the block ends without an error.

    Args:
        path: Folder to write. A missing parent is made.
        overwrite: Replace an existing folder in one step; otherwise an existing folder is an error.
        is_ours: Tells whether an existing folder is of the kind that may be replaced.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is not set.
        StorageError: Writing failed; what was at ``path`` is untouched.
    """
    with translated("write", path):
        _refuse_existing(path, overwrite, is_ours)  # before the work, and again after it
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        temporary.mkdir()
    try:
        with translated("write", path):
            yield temporary
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            _refuse_existing(path, overwrite, is_ours)
            if path.exists():
                _exchange(temporary, path)
            else:
                temporary.rename(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def mark_results(folder: Path) -> None:
    """Note in a folder that its results are ours, so that the next run may replace them.

    Raises:
        StorageError: The folder cannot be written.
    """
    marker = folder / RESULTS_MARKER
    # Made and never replaced, because two runs that start at once must hold the same file.
    with translated("write", marker), suppress(FileExistsError), marker.open("xb") as file:
        file.write(_MARKER_TEXT)


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Hold a file inside the block, so that no other process can; it is let go in any case when the process ends.

    Raises:
        StorageError: Another process holds it, or it cannot be read.
    """
    with translated("read", path):
        file = path.open("rb")
    with file:  # errors inside the block are not about this file
        hold(file.fileno(), path)
        yield


def hold(descriptor: int, path: Path) -> None:
    """Hold an open file until it is closed; does nothing where files cannot be locked, as on some network disks.

    Raises:
        StorageError: Another process, or another part of this one, holds it.
    """
    with suppress(OSError):
        if not lock(descriptor):
            raise StorageError(
                f"{printable(path)} — another run is writing there — wait for its end, or choose another name"
            )


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; the system lets go of it when its owner dies. False if somebody has it.

    Raises:
        OSError: Files cannot be locked here.
    """
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def are_results_ours(folder: Path) -> bool:
    """Tell whether an earlier run has written the results in a folder."""
    return (folder / RESULTS_MARKER).exists()


def is_result(path: Path) -> bool:
    """Tell whether a file is a result of an earlier run."""
    return any(folder.name in RESULT_FOLDERS and are_results_ours(folder.parent) for folder in path.parents)


def refuse_stranger(option: str, path: Path, is_ours: Callable[[bytes], bool], *, overwrite: bool) -> None:
    """Refuse to replace a file that an earlier command of ours has not written.

    Args:
        option: Option that names the file, for the message.
        path: The file, which may be missing; named pipes and devices are no files.
        is_ours: Tells by the beginning and the end of a file whether it is ours; a small file is given whole.
        overwrite: Accept to replace any file.

    Raises:
        UsageError: The file is somebody else's.
        StorageError: It cannot be read.
    """
    with translated("write", path):
        if overwrite or not path.is_file() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            known = file.read(_KNOWN_BYTES)
            file.seek(max(len(known), path.stat().st_size - _KNOWN_BYTES))
            known += file.read(_KNOWN_BYTES)
    if not is_ours(known):
        raise UsageError(
            f"{option} {printable(path)} — is there, and no command of ours has written it: choose another file, or pass "
            "--overwrite"
        )


def temporary_name(path: Path) -> Path:
    """Return an unused hidden name in the folder of ``path``, with the same ending, for a file that will replace it."""
    return path.parent / f".{path.stem[:40]}.{secrets.token_hex(4)}.tmp{path.suffix}"


def sha256(path: Path, error: type[EdgeUnetError] = StorageError) -> str:
    """Return the SHA-256 digest of a file as 64 hexadecimal digits."""
    with translated("read", path, error), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders: in one step with Linux's renameat2, elsewhere in two with a backup between them."""
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


def _refuse_existing(path: Path, overwrite: bool, is_ours: Callable[[Path], bool]) -> None:
    if path.exists() and not overwrite:
        raise UsageError(f"output folder {printable(path)} — exists — choose another name or pass --overwrite")
    if path.exists() and not path.is_dir():
        raise UsageError(f"output folder {printable(path)} — is a file — choose another name or remove it")
    if path.exists() and any(path.iterdir()) and not is_ours(path):
        raise UsageError(
            f"output folder {printable(path)} — holds something else than an earlier command of this kind has written — choose "
            "another name or remove it"
        )


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable; does nothing for folders on Windows, which cannot open them."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
