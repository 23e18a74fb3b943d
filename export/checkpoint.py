"""Load a Keras checkpoint after checking its contents against a list, because a ``.keras`` file can hold code."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras

from edge_runtime.storage import printable
from export.errors import ConvertError
from export.precise_means import with_precise_means

ALLOWED_LAYERS = frozenset(
    {
        "Activation",
        "Add",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "DepthwiseConv2D",
        "GlobalAveragePooling2D",
        "InputLayer",
        "MaxPooling2D",
        "Multiply",
        "Permute",
        "ReLU",
        "Rescaling",
        "Reshape",
        "UpSampling2D",
        "ZeroPadding2D",
    }
)
"""Layers that the presets use; a file with any other layer is refused before Keras loads it."""
# A flipped bit can turn a member into one that is encrypted (RuntimeError) or packed in another way (zlib.error).
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, EOFError, OSError)
_MODEL = ("keras.src.models.functional", "Functional")
_ALLOWED_ACTIVATIONS = frozenset({"hard_silu", "linear", "relu", "sigmoid", "silu", "softmax"})


def load_checkpoint(path: Path) -> keras.Model:
    """Check the contents of a ``.keras`` archive and load it, with precise global means.

    Raises:
        ConvertError: The archive is missing, damaged, or holds a part that the presets do not use.
    """
    where = printable(path)
    if not path.is_file():
        raise ConvertError(f"{where} — no such file — expected the checkpoint of a finished epoch — train first")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            config = json.loads(archive.read("config.json"))
    except _ZIP_ERRORS as cause:
        raise ConvertError(
            f"{where} — damaged ({cause}) — expected a .keras archive — restore it or train again"
        ) from cause
    if damaged:
        raise ConvertError(f"{where} — damaged (checksum of {damaged}) — restore it or train again")
    for name in _foreign_parts(config):
        raise ConvertError(
            f"{where} — holds {name} — expected only {', '.join(sorted(ALLOWED_LAYERS))} — train one of our presets"
        )
    try:
        return with_precise_means(keras.saving.load_model(path, compile=False, safe_mode=True))
    except (ValueError, TypeError, KeyError, OSError) as cause:
        raise ConvertError(f"{where} — Keras cannot load it ({str(cause).splitlines()[0]}) — train again") from cause


def _foreign_parts(config: object) -> list[str]:
    """Return the names of all parts of a model's configuration that the presets do not use."""
    if not isinstance(config, dict):
        return ["no model"]
    found = []
    if (config.get("module"), config.get("class_name")) != _MODEL or config.get("registered_name") not in _MODEL:
        found.append(f"a {config.get('class_name')} model from '{config.get('module')}'")

    def visit(part: Any, layer: str) -> None:
        if isinstance(part, list):
            for item in part:
                visit(item, layer)
        if not isinstance(part, dict):
            return
        name = part.get("name", layer) if isinstance(part.get("name"), str) else layer
        kind, module = part.get("class_name"), part.get("module")
        if kind is not None and kind != "__keras_tensor__":
            name = part["config"].get("name", name) if isinstance(part.get("config"), dict) else name
            if module == "keras.layers" and str(kind) not in ALLOWED_LAYERS:
                found.append(f"layer {kind} ('{name}')")
            elif not _is_ours(module, kind) or part.get("registered_name"):
                found.append(f"{kind} from '{module}' (layer '{name}')")
        if "activation" in part and str(part["activation"]) not in _ALLOWED_ACTIVATIONS:
            found.append(f"activation {part['activation']} ('{name}')")
        for value in part.values():
            visit(value, name)

    # Only the model itself is checked, because load_model(compile=False) ignores optimizer, loss and metrics.
    visit(config.get("config"), "model")
    return found


def _is_ours(module: object, kind: object) -> bool:
    """Check that a part of a configuration is one of Keras' own layers, an initializer or a data type."""
    return module in ("keras.layers", "keras.initializers") or (module, kind) == ("keras", "DTypePolicy")
