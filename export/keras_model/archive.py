"""Load a Keras model from a file after checking all that is in it, because such a file can hold code.

Keras sees a file only if every part of its configuration is a layer, an operation or an initializer of its own that
computes, see ``configuration``, and if its members and its HDF5 parts are weights and stay inside of it.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras

from edge_runtime.errors import ModelError
from edge_runtime.storage import printable, read_bytes
from export.config import HDF5_SUFFIXES
from export.errors import ConvertError, first_line
from export.keras_model.configuration import foreign_parts

_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_LARGEST_RATIO = 20
"""Largest ratio of the size of what a file unpacks to and of the file; Keras does not compress weights."""
_LARGEST_SMALL = 64 * 2**20
"""Bytes that may be unpacked whatever the ratio."""
# A flipped bit can turn a member into one that is encrypted (RuntimeError) or packed in another way (zlib.error).
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, EOFError, OSError)
_HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
"""What h5py raises for a damaged file, wherever the damage is read."""
_KERAS_ERRORS = (*_HDF5_ERRORS, AttributeError, IndexError, AssertionError, ArithmeticError, EOFError, ImportError)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_AGAIN = "restore it, or save the model again"


def read_model(path: Path) -> keras.Model:
    """Read a model from a ``.keras`` or an HDF5 file, as ``model.save`` writes them.

    Raises:
        ConvertError: The file is missing or damaged, has no model, or holds a part that is not in the lists.
    """
    where = printable(path)
    if not path.is_file():
        raise ConvertError(f"{where} — no such file — expected a Keras model, .keras or .h5 — check the path")
    data = read_bytes(path, ModelError)
    if data.startswith(_HDF5) != (path.suffix.lower() in HDF5_SUFFIXES):
        kind, suffix = ("HDF5", ".h5") if data.startswith(_HDF5) else ("no HDF5", ".keras")
        raise ConvertError(
            f"{where} — is {kind} inside — expected the suffix {suffix} — rename it, or save the model again"
        )
    config = _config_of_hdf5(data, where) if data.startswith(_HDF5) else _config_of_archive(data, where)
    for name in foreign_parts(config):
        raise ConvertError(
            f"{where} — holds {name} — expected only layers of Keras that compute — build the model without it, or pass "
            "the live keras.Model to export.export_model in Python"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except _KERAS_ERRORS as cause:
        raise ConvertError(f"{where} — Keras cannot load it ({first_line(cause)}) — {_AGAIN}") from cause


def _config_of_archive(data: bytes, where: str) -> object:
    """Return the configuration in a ``.keras`` archive, after checking its members."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                _refuse_inflated(info.filename, info.file_size, info.compress_size, where)
            damaged = archive.testzip()
            names = archive.namelist()
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5") if "model.weights.h5" in names else None
    except _ZIP_ERRORS as cause:
        raise ConvertError(f"{where} — damaged ({cause}) — expected a .keras archive — {_AGAIN}") from cause
    if damaged:
        raise ConvertError(f"{where} — damaged (checksum of {damaged}) — {_AGAIN}")
    stranger = next((name for name in names if name not in _MEMBERS or names.count(name) > 1), None)
    if stranger is not None:
        raise ConvertError(
            f"{where} — holds the file {printable(Path(stranger))} — expected only {', '.join(_MEMBERS)}, once each — {_AGAIN}"
        )
    if weights is not None:
        with _opened(weights, f"{where}: model.weights.h5") as file:
            _refuse_hdf5(file, len(weights), where)
    return config


def _config_of_hdf5(data: bytes, where: str) -> object:
    """Return the configuration in an HDF5 file of a whole model, after checking its contents."""
    with _opened(data, where) as file:
        _refuse_hdf5(file, len(data), where)
        text = file.attrs.get("model_config")
    if text is None:
        raise ConvertError(
            f"{where} — holds weights alone — expected a whole model — load them into your model, and save it by model.save"
        )
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as cause:
        raise ConvertError(f"{where} — damaged (its model_config is no JSON) — {_AGAIN}") from cause


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[h5py.File]:
    """Open an HDF5 file, and turn the errors of what is read from it into ours."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    except _HDF5_ERRORS as cause:
        raise ConvertError(f"{where} — damaged ({first_line(cause)}) — expected HDF5 — {_AGAIN}") from cause


def _refuse_inflated(name: str, unpacked: int, packed: int, where: str) -> None:
    if unpacked > max(_LARGEST_RATIO * packed, _LARGEST_SMALL):
        raise ConvertError(
            f"{where} — {printable(Path(name))} unpacks {packed:,} bytes to {unpacked:,} — expected weights, which hardly "
            f"shrink — {_AGAIN}"
        )


def _refuse_hdf5(file: h5py.File, size: int, where: str) -> None:
    """Refuse links to other files, data outside of the file, data that is no numbers, and data that inflates."""
    total = 0
    for name, item in _items(file):
        if isinstance(item, h5py.SoftLink | h5py.ExternalLink):
            raise ConvertError(f"{where} — '{name}' is a link — expected weights, inside of the file — {_AGAIN}")
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ConvertError(f"{where} — '{name}' lies in another file — expected weights inside — {_AGAIN}")
            if item.dtype.kind not in "biuf":
                raise ConvertError(
                    f"{where} — '{name}' holds {item.dtype} — expected only numbers, which are no code — {_AGAIN}"
                )
            total += item.size * item.dtype.itemsize
    _refuse_inflated("its weights", total, size, where)


def _items(file: h5py.File) -> Iterator[tuple[str, object]]:
    """Yield the path and the object of all that a file holds, each once, and links instead of what they lead to."""
    groups, seen = [("", file)], {h5py.h5o.get_info(file.id).addr}
    while groups:
        before, group = groups.pop()
        for name in group:
            path = f"{before}{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield path, link
                continue
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:  # groups may hold one another
                continue
            seen.add(place)
            yield path, item
            if isinstance(item, h5py.Group):
                groups.append((f"{path}/", item))
