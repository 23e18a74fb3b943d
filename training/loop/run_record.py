"""Content of ``run.json`` as frozen objects; ``run_folder`` reads and writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract, Fields, number, text
from training.errors import ResumeError
from training.monitor.records import EpochRecord

FORMAT_VERSION = 2
DIGEST_CHARS = 16
"""Hexadecimal digits that are kept of a file's SHA-256: enough to tell files apart, and a quarter of the space."""
Status = Literal["running", "finished"]
_DIGEST = re.compile(f"([0-9a-f]{{{DIGEST_CHARS}}}){{1,2}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestEntry:
    """Entry of a ``best.keras``.

    Attributes:
        epoch: Epoch after which it was validated, from 1.
        sha256: SHA-256 of the file.
        val_mean_iou: Mean IoU on the validation split after that epoch, before an adjustment.
        logit_adjustment: Number that was added to the logit of each class, by its name; None before the run's end, and
            if nothing was added.
        trained_share: Share of the way from the weights that the run started from to the trained ones, 0–1; None if the
            weights are those of the epoch.
    """

    epoch: int
    sha256: str
    val_mean_iou: float
    logit_adjustment: Mapping[str, float] | None = None
    trained_share: float | None = None

    @classmethod
    def from_dict(cls, value: object, where: str) -> BestEntry:
        """Read an entry; see ``RunRecord.from_dict``."""
        fields = Fields(value, where)
        adjusted = isinstance(value, dict) and "logit_adjustment" in value
        mixed = isinstance(value, dict) and "trained_share" in value
        entry = cls(
            epoch=fields.take("epoch", int),
            sha256=fields.take("sha256", str),
            val_mean_iou=fields.take("val_mean_iou", float),
            logit_adjustment=fields.take_map("logit_adjustment", number) if adjusted else None,
            trained_share=fields.take("trained_share", float) if mixed else None,
        )
        fields.finish()
        return entry

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as a JSON object, without an adjustment that was not made."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochSums:
    """Sums over the finished steps of an unfinished epoch, so that a resumed epoch has a complete record.

    Attributes:
        loss: Sum of the losses.
        accuracy: Sum of the pixel accuracies.
        step_s: Seconds in steps.
        wait_s: Seconds of waiting for batches.
        seconds: Seconds of the epoch so far: steps, waiting, and saving.
    """

    loss: float = 0.0
    accuracy: float = 0.0
    step_s: float = 0.0
    wait_s: float = 0.0
    seconds: float = 0.0

    def plus(self, other: EpochSums) -> EpochSums:
        """Return the sums with those of more steps added."""
        return EpochSums(
            loss=self.loss + other.loss,
            accuracy=self.accuracy + other.accuracy,
            step_s=self.step_s + other.step_s,
            wait_s=self.wait_s + other.wait_s,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateEntry:
    """Entry of a training state to resume from.

    Attributes:
        file: Name of the file in the run folder.
        sha256: SHA-256 of the file.
        epoch: Number of finished epochs.
        step: Number of finished steps of the unfinished epoch.
        elapsed_s: Seconds of the run so far.
        sums: Sums over the finished steps of the unfinished epoch.
    """

    file: str
    sha256: str
    epoch: int
    step: int
    elapsed_s: float
    sums: EpochSums

    @classmethod
    def from_dict(cls, value: object, where: str) -> StateEntry:
        """Read an entry; see ``RunRecord.from_dict``."""
        fields = Fields(value, where)
        entry = cls(
            file=fields.take("file", str),
            sha256=fields.take("sha256", str),
            epoch=fields.take("epoch", int),
            step=fields.take("step", int),
            elapsed_s=fields.take("elapsed_s", float),
            sums=EpochSums(
                loss=fields.take("loss", float),
                accuracy=fields.take("accuracy", float),
                step_s=fields.take("step_s", float),
                wait_s=fields.take("wait_s", float),
                seconds=fields.take("seconds", float),
            ),
        )
        fields.finish()
        return entry

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as a flat JSON object, the sums included."""
        row = asdict(self)
        sums = row.pop("sums")
        return {**row, **sums}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """Dataset of a run.

    Attributes:
        root: Absolute path of the dataset folder.
        fingerprint: SHA-256 over the files, see ``DatasetReport``.
        mask_encoding: Encoding of the masks.
        labels: Label key: the class of each stored mask value.
        splits: Image and mask of each pair by split, relative to the folder; None for an image without a mask.
        digests: Beginnings of the SHA-256 of image and mask, joined, of each pair in the order of ``splits``; None in
            the record of an earlier version.
    """

    root: str
    fingerprint: str
    mask_encoding: str
    labels: LabelKey
    splits: Mapping[str, tuple[tuple[str, str | None], ...]]
    digests: Mapping[str, tuple[str, ...]] | None = None

    @classmethod
    def from_dict(cls, value: object, where: str) -> DataRecord:
        """Read the record; see ``RunRecord.from_dict``."""
        fields = Fields(value, where)
        has_digests = isinstance(value, dict) and "digests" in value
        data = cls(
            root=fields.take("root", str),
            fingerprint=fields.take("fingerprint", str),
            mask_encoding=fields.take("mask_encoding", str),
            labels=LabelKey.from_dict(fields.take("labels", dict), f"{where}: labels"),
            splits=fields.take_map("splits", _pairs),
            digests=fields.take_map("digests", _digests) if has_digests else None,
        )
        fields.finish()
        if data.digests is not None:
            counts = {split: len(pairs) for split, pairs in data.splits.items()}
            if {split: len(digests) for split, digests in data.digests.items()} != counts:
                raise ModelError(f"{where}: digests are not one per pair")
        return data

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {
            "root": self.root,
            "fingerprint": self.fingerprint,
            "mask_encoding": self.mask_encoding,
            "labels": self.labels.to_dict(),
            "splits": {split: [list(pair) for pair in pairs] for split, pairs in self.splits.items()},
            **({} if self.digests is None else {"digests": {s: list(digests) for s, digests in self.digests.items()}}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """Configuration, data and versions of a run.

    Attributes:
        config: ``TrainConfig`` as a JSON object; that of an earlier version may have other keys.
        contract: Input and classes of the model.
        data: Dataset of the run.
        versions: Versions of Python and of the packages that affect the result, by name.
        seed: Random seed.
    """

    config: Mapping[str, Any]
    contract: Contract
    data: DataRecord
    versions: Mapping[str, str]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Content of ``run.json``.

    Attributes:
        history: One record per finished epoch.
        best: Entries of ``best.keras``: the newest, and the one that it replaces.
        states: Entries of the training states, newest first.
        elapsed_s: Seconds of the run so far, over all processes.
        status: Status of the run; None before it has begun.
        setup: Configuration, data and versions of the run; None before it has begun.
        parameters: Number of parameters of the saved model; None before it is built.
        metrics: Metrics of the best model on the validation split; None before the run has finished.
    """

    history: tuple[EpochRecord, ...] = ()
    best: tuple[BestEntry, ...] = ()
    states: tuple[StateEntry, ...] = ()
    elapsed_s: float = 0.0
    status: Status | None = None
    setup: RunSetup | None = None
    parameters: int | None = None
    metrics: Mapping[str, Any] | None = None

    def afresh(self) -> RunRecord:
        """Return the record without all that training has added."""
        return replace(self, history=(), best=(), states=(), elapsed_s=0.0)

    def finished(self, metrics: Mapping[str, Any]) -> RunRecord:
        """Return the record with the status "finished" and the metrics of the best model."""
        return replace(self, status="finished", metrics=dict(metrics))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON object, without the values that are not known yet."""
        value: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "history": [epoch.to_dict() for epoch in self.history],
            "checkpoints": {
                "best": [entry.to_dict() for entry in self.best],
                "states": [entry.to_dict() for entry in self.states],
            },
            "elapsed_s": self.elapsed_s,
        }
        if self.setup is not None:
            value |= {
                "status": self.status,
                "config": dict(self.setup.config),
                "contract": self.setup.contract.to_dict(),
                "data": self.setup.data.to_dict(),
                "versions": dict(self.setup.versions),
                "seed": self.setup.seed,
            }
        value |= {} if self.parameters is None else {"parameters": self.parameters}
        return value | ({} if self.metrics is None else {"metrics": dict(self.metrics)})

    @classmethod
    def from_dict(cls, value: object, where: str) -> RunRecord:
        """Read the record from a JSON object.

        Args:
            value: Parsed JSON value.
            where: File of the record, for messages.

        Raises:
            ResumeError: The format version is another, or a key is missing, unknown or of the wrong type.
        """
        version = value.get("format_version") if isinstance(value, dict) else None
        if not isinstance(value, dict) or version != FORMAT_VERSION:
            raise ResumeError(f"{where} — format_version is {version} — this edge-unet reads {FORMAT_VERSION}")
        try:
            return _record(dict(value))
        except ModelError as cause:
            found = str(cause).partition(" — ")[0].removeprefix("record: ")
            raise ResumeError(f"{where} — {found} — start a new run with another --out") from cause


def _record(value: dict[str, Any]) -> RunRecord:
    fields = Fields(value, "record")
    fields.take("format_version", int)
    history = fields.take("history", list)
    checkpoints = Fields(fields.take("checkpoints", dict), "record: checkpoints")
    best, states = checkpoints.take("best", list), checkpoints.take("states", list)
    checkpoints.finish()
    record = RunRecord(
        history=tuple(_epoch(row) for row in history),
        best=tuple(BestEntry.from_dict(row, "record: checkpoints.best") for row in best),
        states=tuple(StateEntry.from_dict(row, "record: checkpoints.states") for row in states),
        elapsed_s=fields.take("elapsed_s", float),
    )
    if "status" in value:
        record = replace(record, status=_status(fields.take("status", str)), setup=_setup(fields))
    if "parameters" in value:
        record = replace(record, parameters=fields.take("parameters", int))
    if "metrics" in value:
        record = replace(record, metrics=fields.take("metrics", dict))
    fields.finish()
    return record


def _setup(fields: Fields) -> RunSetup:
    return RunSetup(
        config=fields.take("config", dict),
        contract=Contract.from_dict(fields.take("contract", dict), "record: contract"),
        data=DataRecord.from_dict(fields.take("data", dict), "record: data"),
        versions=fields.take_map("versions", text),
        seed=fields.take("seed", int),
    )


def _epoch(row: object) -> EpochRecord:
    if not isinstance(row, dict):
        raise ModelError(f"record: history: found {type(row).__name__}")
    try:
        return EpochRecord.from_dict(row)
    except TypeError as cause:
        raise ModelError(f"record: history: {cause}") from cause


def _status(name: str) -> Status:
    if name not in ("running", "finished"):
        raise ModelError(f"record: status is '{name}'")
    return "running" if name == "running" else "finished"


def _pairs(value: object, where: str) -> tuple[tuple[str, str | None], ...]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ModelError(f"{where} is no list of image and mask")
    return tuple((text(image, where), None if mask is None else text(mask, where)) for image, mask in value)


def _digests(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(d, str) and _DIGEST.fullmatch(d) for d in value):
        raise ModelError(f"{where} is no list of digests")
    return tuple(value)
