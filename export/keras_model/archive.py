"""Load a Keras model from a file after checking all that is in it against lists, because such a file can hold code.

A ``Lambda`` layer holds Python bytecode, a registered name runs what this process has registered under it, and the
members of an archive may point out of the folder that they are unpacked to. So Keras sees a file only if every part of
its configuration is a layer, an operation or an initializer of Keras' own that computes and does nothing else.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from edge_runtime.errors import ModelError
from edge_runtime.storage import printable, read_bytes
from export.errors import ConvertError

ALLOWED_LAYERS = frozenset(
    {
        "Activation",
        "ActivityRegularization",
        "AdaptiveAveragePooling2D",
        "AdaptiveMaxPooling2D",
        "Add",
        "AlphaDropout",
        "Average",
        "AveragePooling2D",
        "BatchNormalization",
        "CenterCrop",
        "Concatenate",
        "Conv2D",
        "Conv2DTranspose",
        "Cropping2D",
        "Dense",
        "DepthwiseConv2D",
        "Dot",
        "Dropout",
        "ELU",
        "Flatten",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling2D",
        "GroupNormalization",
        "Identity",
        "InputLayer",
        "LayerNormalization",
        "LeakyReLU",
        "MaxPooling2D",
        "Maximum",
        "Minimum",
        "MultiHeadAttention",
        "Multiply",
        "Normalization",
        "PReLU",
        "Permute",
        "RMSNormalization",
        "RandomBrightness",
        "RandomColorJitter",
        "RandomContrast",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHue",
        "RandomInvert",
        "RandomPerspective",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
        "ReLU",
        "RepeatVector",
        "Rescaling",
        "Reshape",
        "Resizing",
        "SeparableConv2D",
        "Softmax",
        "SpatialDropout2D",
        "Subtract",
        "UnitNormalization",
        "UpSampling2D",
        "ZeroPadding2D",
    }
)
"""Layers of Keras that a file may hold: they compute, and read neither code nor files."""
_OPERATIONS: Mapping[str, frozenset[str]] = {
    "keras.src.ops.numpy": frozenset(
        {
            "Abs",
            "Absolute",
            "Add",
            "Amax",
            "Amin",
            "Clip",
            "Concatenate",
            "Divide",
            "Exp",
            "ExpandDims",
            "Log",
            "Matmul",
            "Max",
            "Maximum",
            "Mean",
            "Min",
            "Minimum",
            "Moveaxis",
            "Multiply",
            "Negative",
            "Pad",
            "Power",
            "Repeat",
            "Reshape",
            "Split",
            "Sqrt",
            "Square",
            "Squeeze",
            "Stack",
            "Subtract",
            "Sum",
            "Tanh",
            "Tile",
            "Transpose",
            "TrueDivide",
            "GetItem",
        }
    ),
    "keras.src.ops.nn": frozenset(
        {
            "AveragePool",
            "Elu",
            "Gelu",
            "HardSigmoid",
            "HardSilu",
            "LeakyRelu",
            "LogSigmoid",
            "LogSoftmax",
            "MaxPool",
            "Relu",
            "Relu6",
            "Selu",
            "Sigmoid",
            "Silu",
            "Softmax",
            "Softplus",
            "Softsign",
        }
    ),
    "keras.src.ops.image": frozenset({"Resize"}),
}
_ACTIVATIONS = frozenset(
    {
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "hard_silu",
        "hard_swish",
        "leaky_relu",
        "linear",
        "log_softmax",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "softsign",
        "swish",
        "tanh",
    }
)
_MODELS = frozenset({"Functional", "Model", "Sequential"})
_MODEL_MODULES = frozenset(
    {
        None,
        "keras",
        "keras.models",
        "keras.src.models.functional",
        "keras.src.models.model",
        "keras.src.models.sequential",
    }
)
_PARTS = {
    "keras.initializers": keras.initializers,
    "keras.regularizers": keras.regularizers,
    "keras.constraints": keras.constraints,
}
"""Modules whose classes set, press or limit weights; what they hold beside classes is no part of a configuration."""
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_LARGEST_RATIO = 20
"""Largest ratio of the size of what a file unpacks to and of the file; Keras does not compress weights."""
_LARGEST_SMALL = 64 * 2**20
"""Bytes that may be unpacked whatever the ratio."""
# A flipped bit can turn a member into one that is encrypted (RuntimeError) or packed in another way (zlib.error).
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, EOFError, OSError)
HDF5_SUFFIXES = (".h5", ".hdf5")
"""Suffixes by which Keras knows an HDF5 file."""
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
    for name in _foreign_parts(config):
        raise ConvertError(
            f"{where} — holds {name} — expected only layers of Keras that compute — build the model without it, or pass "
            "the live keras.Model to export.export_model in Python"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except _KERAS_ERRORS as cause:
        raise ConvertError(f"{where} — Keras cannot load it ({_first_line(cause)}) — {_AGAIN}") from cause


def _first_line(cause: Exception) -> str:
    return next(iter(str(cause).splitlines()), type(cause).__name__)


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
        raise ConvertError(f"{where} — damaged ({_first_line(cause)}) — expected HDF5 — {_AGAIN}") from cause


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


def _foreign_parts(config: object) -> list[str]:
    """Return the names of all parts of a model's configuration that are in no list."""
    if not isinstance(config, dict):
        return ["no model"]
    found = []
    if not _is_model(config):
        found.append(f"a {config.get('class_name')} model from '{config.get('module')}'")

    def visit(part: Any, layer: str) -> None:
        if isinstance(part, list):
            for item in part:
                visit(item, layer)
        if not isinstance(part, dict):
            return
        name = part.get("name", layer) if isinstance(part.get("name"), str) else layer
        kind = part.get("class_name")
        if kind is not None and kind != "__keras_tensor__":
            inner = part.get("config")
            name = inner.get("name", name) if isinstance(inner, dict) else name
            if not (_is_model(part) or _is_ours(part)):
                of_keras = part.get("module") in ("keras.layers", None) and not part.get("registered_name")
                found.append(
                    f"layer {kind} ('{name}')" if of_keras else f"{kind} from '{part.get('module')}' ('{name}')"
                )
        for key in ("activation", "recurrent_activation"):
            if isinstance(part.get(key), str) and part[key] not in _ACTIVATIONS:
                found.append(f"activation {part[key]} ('{name}')")
        for value in part.values():
            visit(value, name)

    # Only the model itself is checked, because load_model(compile=False) ignores optimizer, loss and metrics.
    visit(config.get("config"), "model")
    return found


def _is_model(part: Mapping[str, Any]) -> bool:
    kind = part.get("class_name")
    return (
        isinstance(kind, str)
        and kind in _MODELS
        and part.get("module") in _MODEL_MODULES
        and part.get("registered_name") in (None, kind)
    )


def _is_ours(part: Mapping[str, Any]) -> bool:
    """Check that a part is a layer or an operation in the lists, an initializer, a regulariser or a data type.

    HDF5 files and old models name no modules.
    """
    kind, module, registered = part.get("class_name"), part.get("module"), part.get("registered_name")
    if not isinstance(kind, str):
        return False
    if isinstance(module, str) and module in _OPERATIONS:
        return kind in _OPERATIONS[module] and registered in (None, kind)
    if registered:
        return False
    if module == "keras.layers":
        return kind in ALLOWED_LAYERS
    if module in _PARTS:
        return isinstance(getattr(_PARTS[module], kind, None), type)
    if module is None:
        return (
            kind in ALLOWED_LAYERS
            or kind == "DTypePolicy"
            or any(isinstance(getattr(holder, kind, None), type) for holder in _PARTS.values())
        )
    return (module, kind) == ("keras", "DTypePolicy")
