"""Read a trained run from its folder: ``run.json``, the best checkpoint, and the paths of the validation images."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from edge_runtime.dataset.label_key import LabelKey, MaskEncoding
from edge_runtime.dataset.pairs import Pair, Split
from edge_runtime.dataset.provenance import DIGEST_BYTES
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.contract import Contract, Fields, number, parse_json
from edge_runtime.storage import printable, read_bytes, sha256
from export.errors import ConvertError

BEST_MODEL = "best.keras"
"""Name of the checkpoint in a run folder."""
RUN_FORMAT_VERSION = 2
"""The ``format_version`` of ``run.json`` that export reads: the one that training writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Figures of one epoch that the report draws.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss.
        val_mean_iou: Mean IoU on the validation split, 0–1.
    """

    epoch: int
    loss: float
    val_mean_iou: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """A trained model: its checkpoint, and what export needs to know of its training and its data.

    Attributes:
        checkpoint: Path of ``best.keras``, or of another model's file; None for a model that was never saved.
        contract: Inputs and outputs of the model.
        key: Meaning of the values in the dataset's masks.
        validation: Image and mask pairs on which Keras and the package are compared: the validation split.
        config: Settings of the training, for the provenance of the package.
        data_fingerprint: Digest of the dataset.
        images: Number of images per split.
        empty_without_mask: Images without a mask were trained on, or validated on, as all background.
        split: Name of the split of ``validation``.
        training_images: Beginning of the SHA-256 of each training image's file, ``DIGEST_BYTES`` long; None if they are
            not known.
        logit_adjustment: Number that training added to the logit of each class, by its name; empty if nothing was added.
        history: Figures of each epoch; empty if they are not known.
        seed: Random seed of the training; None if it is not known.
    """

    checkpoint: Path | None
    contract: Contract
    key: LabelKey
    validation: tuple[Pair, ...]
    config: Mapping[str, Any]
    data_fingerprint: str
    images: Mapping[str, int]
    empty_without_mask: bool
    split: Split = "val"
    training_images: frozenset[bytes] | None = None
    logit_adjustment: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Epoch, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """Part of ``run.json`` that export reads, with checked types; other keys are for training alone.

    ``best`` has the logit adjustment of each ``best.keras``, by the SHA-256 of the file.
    """

    config: Mapping[str, Any]
    contract: Mapping[str, Any]
    best: Mapping[str, Mapping[str, float]]
    history: tuple[Epoch, ...]
    seed: int
    root: Path
    fingerprint: str
    mask_encoding: str
    labels: Mapping[str, Any]
    validation: tuple[tuple[str, str | None], ...]
    training_images: frozenset[bytes] | None
    images: Mapping[str, int]
    empty_without_mask: bool


def read_run(root: Path, data: Path | None = None) -> TrainedRun:
    """Read a run folder and check its checkpoint against the SHA-256 that training recorded.

    Args:
        root: Run folder.
        data: Dataset folder, if it has moved since training.

    Raises:
        ConvertError: The folder is not a run folder, was written by another version, has no checkpoint yet, or has a
            checkpoint that differs from the recorded one.
        InputError: A validation image or mask is missing.
    """
    path = root / "run.json"
    where = printable(path)
    if not path.is_file():
        raise ConvertError(
            f"run folder {printable(root)} — no run.json inside — expected what `edge-unet train` writes"
        )
    record = _read_record(parse_json(read_bytes(path, ModelError), where), where)
    checkpoint, adjustment = _checked_checkpoint(root, record.best)
    if record.mask_encoding not in get_args(MaskEncoding):
        raise ConvertError(f"{where} — mask_encoding is {record.mask_encoding!r} — train again")
    return TrainedRun(
        checkpoint=checkpoint,
        logit_adjustment=adjustment,
        contract=Contract.from_dict(record.contract, f"{where}: contract"),
        key=LabelKey.from_dict(record.labels, f"{where}: data.labels"),
        validation=_validation_pairs(record, data),
        config=record.config,
        data_fingerprint=record.fingerprint,
        training_images=record.training_images,
        images=record.images,
        empty_without_mask=record.empty_without_mask,
        history=record.history,
        seed=record.seed,
    )


def _read_record(value: object, where: str) -> _Record:
    """Check the version first, because another version may have other keys; then read the keys that export needs."""
    version = value.get("format_version") if isinstance(value, dict) else None
    if type(version) is int and version != RUN_FORMAT_VERSION:
        raise ConvertError(
            f"{where} — format_version is {version} — this edge-unet reads {RUN_FORMAT_VERSION} — export with the "
            "edge-unet that trained it, or train again"
        )
    try:
        return _record_of(Fields(value, where))
    except ModelError as cause:
        raise ConvertError(f"{where} — is not what `edge-unet train` writes — train again") from cause


def _record_of(fields: Fields) -> _Record:
    """Take the keys that export needs, and leave the others unread."""
    fields.take("format_version", int)
    checkpoints, data = fields.take("checkpoints", dict), fields.take("data", dict)
    best = Fields(checkpoints, f"{fields.where}: checkpoints").take("best", list) if "best" in checkpoints else []
    of_data = Fields(data, f"{fields.where}: data")
    splits = of_data.take_map("splits", _image_and_mask_names)
    return _Record(
        config=fields.take("config", dict),
        contract=fields.take("contract", dict),
        best=dict(_best(entry, Fields(entry, f"{fields.where}: checkpoints.best")) for entry in best),
        history=tuple(_epoch(Fields(row, f"{fields.where}: history")) for row in fields.take("history", list)),
        seed=fields.take("seed", int),
        root=Path(of_data.take("root", str)),
        fingerprint=of_data.take("fingerprint", str),
        mask_encoding=of_data.take("mask_encoding", str),
        labels=of_data.take("labels", dict),
        validation=Fields(splits, f"{fields.where}: data.splits").take("val", tuple),
        training_images=_training_images(of_data, data),
        images={split: len(names) for split, names in splits.items()},
        empty_without_mask=any(mask is None for names in splits.values() for _, mask in names),
    )


def _best(entry: object, fields: Fields) -> tuple[str, dict[str, float]]:
    """Return the SHA-256 and the logit adjustment of a ``best.keras``."""
    adjusted = isinstance(entry, dict) and "logit_adjustment" in entry
    return fields.take("sha256", str), fields.take_map("logit_adjustment", number) if adjusted else {}


def _image_and_mask_names(value: object, where: str) -> tuple[tuple[str, str | None], ...]:
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str | None)
        for pair in value
    ):
        raise ModelError(f"{where}: expected a list of [image, mask or null]")
    return tuple((image, mask) for image, mask in value)


def _training_images(of_data: Fields, data: Mapping[str, Any]) -> frozenset[bytes] | None:
    """Read the digests of the training images, each at the beginning of those of its pair."""
    if "digests" not in data:
        return None
    digests = of_data.take("digests", dict).get("train", [])
    try:
        return frozenset(bytes.fromhex(digest)[:DIGEST_BYTES] for digest in digests)
    except (TypeError, ValueError) as cause:
        raise ModelError(f"{of_data.where}: digests are {cause}") from cause


def _epoch(row: Fields) -> Epoch:
    return Epoch(
        epoch=row.take("epoch", int), loss=row.take("loss", float), val_mean_iou=row.take("val_mean_iou", float)
    )


def _checked_checkpoint(root: Path, known: Mapping[str, Mapping[str, float]]) -> tuple[Path, Mapping[str, float]]:
    """Return the path of ``best.keras`` and its logit adjustment, if it is the file that training recorded."""
    checkpoint = root / BEST_MODEL
    if not known:
        raise ConvertError(
            f"run folder {printable(root)} — no finished epoch yet — go on with edge-unet train … --resume"
        )
    if not checkpoint.is_file():
        raise ConvertError(f"{printable(checkpoint)} — missing — restore it or train again")
    # A bad copy leaves an archive without its end, so the message says damaged and not another file.
    if not zipfile.is_zipfile(checkpoint):
        raise ConvertError(f"{printable(checkpoint)} — damaged: no complete .keras archive — restore it or train again")
    digest = sha256(checkpoint, ModelError)
    if digest not in known:
        raise ConvertError(
            f"{printable(checkpoint)} — not the file that training wrote (SHA-256 differs from run.json) — "
            "only models of our own runs are loaded — restore it or train again"
        )
    return checkpoint, known[digest]


def _validation_pairs(record: _Record, data: Path | None) -> tuple[Pair, ...]:
    root = data or record.root
    pairs = tuple(
        Pair(stem=Path(image).stem, image=root / image, mask=None if mask is None else root / mask)
        for image, mask in record.validation
    )
    files = (path for pair in pairs for path in (pair.image, pair.mask) if path is not None)
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise InputError(
            f"{printable(missing)} — missing — export compares on the validation images — pass --data DIR if they have moved"
        )
    return pairs
