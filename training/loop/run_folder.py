"""Run folder: ``run.json``, the best model and the training states to resume from. It survives kill -9 at any moment.

A state is a file of its own. It is complete before ``run.json`` names it, and the state before it is kept.
``best.keras`` has one name, so that ``run.json`` records the SHA-256 of the new file and of the old one before the file
is replaced. After a crash at any moment, every file that ``run.json`` names is complete, and its epoch is known.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import StorageError, UsageError
from edge_runtime.storage import lock, printable, sha256, write_bytes, write_json
from training.errors import ResumeError
from training.loop.run_record import BestEntry, EpochSums, RunRecord, RunSetup, StateEntry
from training.monitor.records import EpochRecord

RUN_FILE = "run.json"
KEPT_STATES = 2
_LOCK, _PROBE, _TEMPORARY, _STATES = "run.lock", ".probe", ".*.tmp*", "state-*.npz"


class RunFolder:
    """Open run folder; ``open_run`` creates and locks it.

    Attributes:
        root: Path of the folder.
        record: Content of ``run.json`` at the next ``save``; only the methods of this class replace it.
    """

    def __init__(self, root: Path, record: RunRecord) -> None:
        """Wrap a folder and the content of its ``run.json``."""
        self.root = root
        self.record = record

    @property
    def best(self) -> Path:
        """Path of the best model, which may not exist yet."""
        return self.root / "best.keras"

    @property
    def begun(self) -> bool:
        """Whether the run has a state to resume from."""
        return bool(self.record.states)

    def save(self) -> None:
        """Write ``run.json`` atomically."""
        write_json(self.root / RUN_FILE, self.record.to_dict())

    def begin(self, setup: RunSetup) -> None:
        """Set the setup and the status "running"; not saved yet."""
        self.record = replace(self.record, status="running", setup=setup)

    def add_parameters(self, count: int) -> None:
        """Save the number of the model's parameters."""
        self.record = replace(self.record, parameters=count)
        self.save()

    def add_epoch(self, epoch: EpochRecord) -> None:
        """Add a finished epoch; it is saved with the next state."""
        self.record = replace(self.record, history=(*self.record.history, epoch))

    def time_epoch(self, seconds: float) -> None:
        """Set the seconds of the latest epoch, which are known once its state is written; saved with the next state."""
        *before, last = self.record.history
        self.record = replace(self.record, history=(*before, replace(last, seconds=seconds)))

    def best_on_disk(self) -> BestEntry | None:
        """Return the entry of ``best.keras``, or None if the file is missing or was not written by this run."""
        if not self.best.is_file():
            return None
        digest = sha256(self.best)
        return next((entry for entry in self.record.best if entry.sha256 == digest), None)

    @property
    def start(self) -> Path:
        """Path of the model before training; only a run from public weights has it."""
        return self.root / "start.keras"

    def write_best(
        self, archive: bytes, *, epoch: int, val_mean_iou: float, trained_share: float | None = None
    ) -> None:
        """Replace ``best.keras``.

        Args:
            archive: Bytes of the ``.keras`` file.
            epoch: Epoch after which the model was validated, from 1.
            val_mean_iou: Mean IoU of the model on the validation split.
            trained_share: See ``BestEntry``.
        """
        entry = BestEntry(epoch=epoch, sha256="", val_mean_iou=val_mean_iou, trained_share=trained_share)
        self._replace_best(entry, archive)

    def adjust_best(self, adjusted: BestEntry, archive: bytes, adjustment: Mapping[str, float]) -> None:
        """Replace ``best.keras`` by the same model with other logits.

        Args:
            adjusted: Entry of the model that is replaced.
            archive: Bytes of the new ``.keras`` file.
            adjustment: Number that was added to the logit of each class, by its name.
        """
        self._replace_best(replace(adjusted, logit_adjustment=adjustment), archive)

    def _replace_best(self, entry: BestEntry, archive: bytes) -> None:
        entry = replace(entry, sha256=hashlib.sha256(archive).hexdigest())
        on_disk = self.best_on_disk()
        self.record = replace(self.record, best=(entry, on_disk) if on_disk else (entry,))
        self.save()
        write_bytes(self.best, archive)

    def write_state(
        self, arrays: Mapping[str, NDArray[Any]], *, epoch: int, step: int, elapsed_s: float, sums: EpochSums
    ) -> None:
        """Write a training state, name it in ``run.json``, and delete all states but the last two.

        Args:
            arrays: Weights, their averages and the optimizer's variables, by name.
            epoch: Number of finished epochs.
            step: Number of finished steps of the unfinished epoch.
            elapsed_s: Seconds of the run so far.
            sums: Sums over the finished steps of the unfinished epoch.
        """
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        data = buffer.getvalue()
        name = f"state-{epoch:05d}-{step:06d}.npz"
        digest = hashlib.sha256(data).hexdigest()
        entry = StateEntry(file=name, sha256=digest, epoch=epoch, step=step, elapsed_s=elapsed_s, sums=sums)
        write_bytes(self.root / name, data)
        before = (other for other in self.record.states if other.file != name)
        self.record = replace(self.record, elapsed_s=elapsed_s, states=(entry, *before)[:KEPT_STATES])
        self.save()
        self._remove_unnamed_states()

    def read_state(self) -> tuple[dict[str, NDArray[Any]], StateEntry] | None:
        """Return the newest intact state and its entry, and drop later epochs; None if there is no state.

        Raises:
            ResumeError: There are states, but all are damaged or missing.
        """
        for place, entry in enumerate(self.record.states):
            path = self.root / entry.file
            if path.is_file() and sha256(path) == entry.sha256:
                with np.load(path, allow_pickle=False) as archive:
                    arrays = dict(archive)
                on_disk = self.best_on_disk()
                self.record = replace(
                    self.record,
                    history=self.record.history[: entry.epoch],
                    best=(on_disk,) if on_disk else (),
                    states=self.record.states[place:],
                    elapsed_s=entry.elapsed_s,
                )
                self._remove_unnamed_states()
                return arrays, entry
        if self.record.states:
            raise ResumeError(
                f"{printable(self.root / self.record.states[0].file)} — damaged or missing — expected the SHA-256 "
                f"in {RUN_FILE} — start a new run with another --out"
            )
        self.record = self.record.afresh()
        self._remove_unnamed_states()
        return None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Save the status "finished" and the metrics of the best model, and delete all states but the newest."""
        self.record = replace(self.record.finished(metrics), states=self.record.states[:1])
        self.save()
        self._remove_unnamed_states()

    def _remove_unnamed_states(self) -> None:
        named = {entry.file for entry in self.record.states}
        for path in self.root.glob(_STATES):
            if path.name not in named:
                path.unlink()


@contextmanager
def open_run(root: Path, *, resume: bool) -> Iterator[RunFolder]:
    """Lock a run folder, create it if needed, read its ``run.json`` if there is one, and delete a crash's leftovers.

    Args:
        root: Path of the folder.
        resume: Continue an existing run; without it an existing run is an error.

    Raises:
        UsageError: The folder is not empty and ``resume`` is not set.
        ResumeError: ``resume`` is set and the folder has no valid ``run.json``.
        StorageError: The folder cannot be written, or another process uses it.
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
                # The run was refused before it began, for example because of the dataset: leave nothing behind.
                shutil.rmtree(root)


def _is_scaffolding(path: Path) -> bool:
    """Tell whether a file is a leftover of a process that was killed before its run began."""
    return path.name in (_LOCK, _PROBE) or path.match(_TEMPORARY)


def _read_record(path: Path) -> RunRecord:
    if not path.is_file():
        return RunRecord()
    try:
        value = json.loads(path.read_bytes())
    except ValueError as cause:
        raise ResumeError(
            f"{printable(path)} — not valid JSON ({cause}) — start a new run with another --out"
        ) from cause
    return RunRecord.from_dict(value, printable(path))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Lock out a second trainer. The system releases the lock when its owner dies, so that it is never stale."""
    with path.open("a+") as file:
        if not lock(file.fileno()):
            file.seek(0)
            raise StorageError(
                f"--out {printable(path.parent)} — in use by {file.read().strip() or 'another process'} — "
                "wait for it or choose another folder"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
