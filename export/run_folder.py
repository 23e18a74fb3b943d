"""What export reads of a run folder: its ``run.json``, its best checkpoint, and the images it was validated on."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from edge_runtime.dataset.label_key import LabelKey, MaskEncoding
from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.contract import Contract, parse_json
from edge_runtime.storage import printable, read_bytes, sha256
from export.errors import ConvertError

_RECORD = {"config": dict, "contract": dict, "checkpoints": dict, "history": list, "seed": int}
_DATA = {"root": str, "fingerprint": str, "mask_encoding": str, "splits": dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A run folder whose checkpoint is the one that training wrote.

    Attributes:
        checkpoint: Path of ``best.keras``.
        contract: What the model takes and gives.
        key: What the values of the dataset's masks mean.
        validation: The pairs it was validated on.
        record: All of ``run.json``.
    """

    checkpoint: Path
    contract: Contract
    key: LabelKey
    validation: tuple[Pair, ...]
    record: dict[str, Any]


def read_run(root: Path, data: Path | None = None) -> RunFolder:
    """Read a run folder and check its checkpoint against the SHA-256 that training recorded.

    Args:
        root: The run folder.
        data: Where the dataset is now, if it has moved.

    Raises:
        ConvertError: It is no run folder of ours, has no checkpoint yet, or the checkpoint is not the recorded one.
        InputError: The validation images are not where they were.
    """
    path = root / "run.json"
    where = printable(path)
    if not path.is_file():
        raise ConvertError(
            f"run folder {printable(root)} — no run.json inside — expected what `edge-unet train` writes"
        )
    record = parse_json(read_bytes(path, ModelError), where)
    if not isinstance(record, dict) or not _is_ours(record):
        raise ConvertError(f"{where} — is not what `edge-unet train` writes — train again")
    checkpoint = root / "best.keras"
    known = {entry["sha256"] for entry in record["checkpoints"].get("best", [])}
    if not known:
        raise ConvertError(
            f"run folder {printable(root)} — no finished epoch yet — go on with edge-unet train … --resume"
        )
    if not checkpoint.is_file():
        raise ConvertError(f"{printable(checkpoint)} — missing — restore it or train again")
    _refuse_truncated(checkpoint)
    if sha256(checkpoint, ModelError) not in known:
        raise ConvertError(
            f"{printable(checkpoint)} — not the file that training wrote (SHA-256 differs from run.json) — "
            "only models of our own runs are loaded — restore it or train again"
        )
    if record["data"]["mask_encoding"] not in get_args(MaskEncoding):
        raise ConvertError(f"{where} — mask_encoding is {record['data']['mask_encoding']!r} — train again")
    contract = Contract.from_dict(record["contract"], f"{where}: contract")
    return RunFolder(
        checkpoint=checkpoint,
        contract=contract,
        key=_label_key(record["data"], contract, where),
        validation=_validation_pairs(record, data),
        record=record,
    )


def _label_key(data: dict[str, Any], contract: Contract, where: str) -> LabelKey:
    """Return what mask values mean: as recorded, or from the contract in runs of before that was recorded."""
    if "labels" in data:
        return LabelKey.from_dict(data["labels"], f"{where}: data.labels")
    return LabelKey.of(cast(MaskEncoding, data["mask_encoding"]), contract.classes, ignore_id=contract.ignore_id)


def _is_ours(record: dict[str, Any]) -> bool:
    """Whether ``run.json`` holds everything that export reads from it."""
    data = record.get("data")
    return (
        isinstance(data, dict)
        and all(isinstance(record.get(key), kind) for key, kind in _RECORD.items())
        and all(isinstance(data.get(key), kind) for key, kind in _DATA.items())
        and isinstance(data["splits"].get("val"), list)
    )


def _refuse_truncated(checkpoint: Path) -> None:
    """Say "damaged" rather than "not the file" where the archive has lost its end, which is what a bad copy looks like."""
    if not zipfile.is_zipfile(checkpoint):
        raise ConvertError(f"{printable(checkpoint)} — damaged: no complete .keras archive — restore it or train again")


def _validation_pairs(record: dict[str, Any], data: Path | None) -> tuple[Pair, ...]:
    root = data or Path(record["data"]["root"])
    pairs = tuple(
        Pair(stem=Path(image).stem, image=root / image, mask=root / mask)
        for image, mask in record["data"]["splits"]["val"]
    )
    missing = next((path for pair in pairs for path in (pair.image, pair.mask) if not path.is_file()), None)
    if missing is not None:
        raise InputError(
            f"{printable(missing)} — missing — export compares on the validation images — pass --data DIR if they have moved"
        )
    return pairs
