"""The run folder: ``run.json`` and the checkpoints, which survive kill -9 at any moment.

``run.json`` names, for ``best.keras`` and ``last.keras``, the SHA-256 of the file that is about to be written and of the
one it replaces, before it is replaced. Whatever moment a crash picks, the file on disk is one of the two, whole, and
its epoch is known.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from edge_runtime.errors import StorageError, UsageError
from edge_runtime.storage import printable, sha256, write_bytes, write_json
from training.errors import ResumeError

RUN_FILE = "run.json"
FORMAT_VERSION = 1
_LOCK, _PROBE, _TEMPORARY = "run.lock", ".probe", ".*.tmp*"
CheckpointName = Literal["best", "last"]


class RunFolder:
    """An open run folder; ``open_run`` makes one and keeps others out."""

    def __init__(self, root: Path, record: dict[str, Any]) -> None:
        """Wrap a folder and the contents of its ``run.json``."""
        self.root = root
        self.record = record

    def save(self) -> None:
        """Write ``run.json`` atomically."""
        write_json(self.root / RUN_FILE, self.record)

    def checkpoint(self, name: CheckpointName) -> Path:
        """Return the path of a checkpoint, which may not exist yet."""
        return self.root / f"{name}.keras"

    def epoch_on_disk(self, name: CheckpointName) -> dict[str, Any] | None:
        """Return the entry of the checkpoint that is on disk, or None if it is missing or is none that we wrote."""
        path = self.checkpoint(name)
        if not path.is_file():
            return None
        digest = sha256(path)
        return next((e for e in self.record["checkpoints"].get(name, []) if e["sha256"] == digest), None)

    def best_mean_iou(self) -> float:
        """Return the validation mean IoU of the best checkpoint, -1 if there is none."""
        entries = self.record["checkpoints"].get("best")
        return float(entries[0]["val_mean_iou"]) if entries else -1.0

    def write_checkpoint(self, archive: bytes, epoch: int, val_mean_iou: float, *, best: bool) -> None:
        """Replace ``last.keras``, and ``best.keras`` if this is the best, and record it.

        Args:
            archive: The bytes of the ``.keras`` file.
            epoch: Epochs finished, from 1.
            val_mean_iou: Mean IoU on the validation split after it.
            best: Whether it is the best so far.
        """
        entry = {"epoch": epoch, "sha256": hashlib.sha256(archive).hexdigest(), "val_mean_iou": val_mean_iou}
        names: list[CheckpointName] = ["best", "last"] if best else ["last"]
        for name in names:
            on_disk = self.epoch_on_disk(name)
            self.record["checkpoints"][name] = [entry, on_disk] if on_disk else [entry]
        self.save()
        for name in names:
            write_bytes(self.checkpoint(name), archive)

    def resume_point(self) -> tuple[Path, dict[str, Any]] | None:
        """Return the newest checkpoint that is whole and its entry, and cut the history after it; None to start afresh.

        Raises:
            ResumeError: There are checkpoints, but each differs from what was written.
        """
        last, best = self.epoch_on_disk("last"), self.epoch_on_disk("best")
        announced = self.record["checkpoints"].get("best", [None])[0]
        if last and best != announced and (announced == last or best is None):
            # Killed between the two files of one epoch; or the best is lost, and the last is the best that there is.
            write_bytes(self.checkpoint("best"), self.checkpoint("last").read_bytes())
            best = last
        found = [(e["epoch"], name, e) for name, e in (("last", last), ("best", best)) if e]
        if not found:
            damaged = [p for name in ("last", "best") if (p := self.root / f"{name}.keras").exists()]
            if damaged:
                raise ResumeError(
                    f"{printable(damaged[0])} — damaged or not of this run — expected the SHA-256 in {RUN_FILE} — "
                    "start a new run with another --out"
                )
            self.record.update(history=[], checkpoints={}, elapsed_s=0.0)
            return None
        epoch, name, entry = max(found, key=lambda item: item[0])
        self.record["history"] = self.record["history"][:epoch]
        self.record["checkpoints"] = {n: [e] for n, e in (("best", best), ("last", last)) if e}
        return self.root / f"{name}.keras", entry


@contextmanager
def open_run(root: Path, *, resume: bool) -> Iterator[RunFolder]:
    """Lock a run folder, make it if needed, read its ``run.json`` if there is one, and clear what a crash left.

    Args:
        root: The folder.
        resume: Take up an existing run; without it an existing one is an error.

    Raises:
        UsageError: The folder holds a run, or anything else, and ``resume`` is not set.
        StorageError: It cannot be written, or another process trains into it.
    """
    existing = root.is_dir() and not all(_is_scaffolding(path) for path in root.iterdir())
    if existing and not resume:
        raise UsageError(
            f"--out {printable(root)} — not empty — pass --resume to go on with it, or choose another folder"
        )
    if existing and not (root / RUN_FILE).is_file():
        raise ResumeError(
            f"--resume {printable(root)} — no {RUN_FILE} inside — expected a run folder — choose another --out"
        )
    made = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / _PROBE
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as cause:
        raise StorageError(
            f"--out {printable(root)} — cannot be written ({(cause.strerror or '').lower()}) — choose another folder"
        ) from cause
    with _lock(root / _LOCK):
        for leftover in root.glob(_TEMPORARY):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            yield RunFolder(root, _read_record(root / RUN_FILE))
        finally:
            if made and all(_is_scaffolding(path) for path in root.iterdir()):
                # Refused before there was a run, by the dataset's faults for instance: nothing is left behind.
                shutil.rmtree(root)


def _is_scaffolding(path: Path) -> bool:
    """Tell whether a file is one that a process leaves behind that is killed before there is a run."""
    return path.name in (_LOCK, _PROBE) or path.match(_TEMPORARY)


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"format_version": FORMAT_VERSION, "history": [], "checkpoints": {}, "elapsed_s": 0.0}
    try:
        record = json.loads(path.read_bytes())
    except ValueError as cause:
        raise ResumeError(
            f"{printable(path)} — not valid JSON ({cause}) — start a new run with another --out"
        ) from cause
    version = record.get("format_version") if isinstance(record, dict) else None
    if version != FORMAT_VERSION:
        raise ResumeError(f"{printable(path)} — format_version is {version} — this edge-unet reads {FORMAT_VERSION}")
    return dict(record)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep a second trainer out. The system drops the lock when its owner dies, so that no stale one is possible."""
    with path.open("a+") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as cause:
                file.seek(0)
                raise StorageError(
                    f"--out {printable(path.parent)} — in use by {file.read().strip() or 'another process'} — "
                    "wait for it or choose another folder"
                ) from cause
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
