"""Keras to ONNX: load a checkpoint of ours, trace it, and run the graph passes."""

from __future__ import annotations

import json
import logging
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import tensorflow as tf
import tf2onnx

from edge_runtime.contract import METADATA_KEY, Contract
from edge_runtime.storage import printable
from export.errors import ConvertError
from export.passes.class_map import AddClassMap
from export.passes.names import NameByPlace
from export.passes.normalisation import FoldNormalisation
from export.passes.pixels import TakePixels
from export.passes.upsampling import RestoreUpsampling

ALLOWED_LAYERS = frozenset(
    {
        "Activation",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "InputLayer",
        "MaxPooling2D",
        "ReLU",
        "Rescaling",
        "UpSampling2D",
    }
)
"""Layers of our presets. A ``.keras`` file is code; nothing else is handed to Keras' loader."""
# A flipped bit can turn a member into one that is encrypted (RuntimeError) or packed in another way (zlib.error).
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, EOFError, OSError)
_MODEL = ("keras.src.models.functional", "Functional")
_ALLOWED_ACTIVATIONS = frozenset({"linear", "relu", "sigmoid", "softmax"})


def load_checkpoint(path: Path) -> keras.Model:
    """Load a ``.keras`` archive after a look into it.

    Raises:
        ConvertError: Missing, damaged, or with anything in it that our presets have not.
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
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError) as cause:
        raise ConvertError(f"{where} — Keras cannot load it ({str(cause).splitlines()[0]}) — train again") from cause


def trace(model: keras.Model, opset: int) -> onnx.ModelProto:
    """Convert a U-Net of ours to the ONNX graph that tf2onnx makes of it, with nothing changed.

    Args:
        model: From ``load_checkpoint``.
        opset: Of the ONNX model, 13 to 18.

    Returns:
        A model from ``image``, float32 (1, H, W, C) RGB in 0–255, to ``logits`` and ``probabilities``, (1, H, W, L).
    """
    both = with_logits(model)

    def call(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, probabilities = both(image, training=False)
        return {"logits": logits, "probabilities": probabilities}

    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")]
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    proto, _ = tf2onnx.convert.from_function(tf.function(call), input_signature=signature, opset=opset)
    return proto


def with_logits(model: keras.Model) -> keras.Model:
    """Return the model with two outputs, logits and probabilities.

    Raises:
        ConvertError: It has no layer ``logits``, or not one input and one output of four dimensions.
    """
    shapes = f"{model.input_shape} → {model.output_shape}"
    if not all(isinstance(s, tuple) and len(s) == 4 for s in (model.input_shape, model.output_shape)):
        raise ConvertError(f"model '{model.name}' — is {shapes} — expected one image in, (N, H, W, C), and one out")
    if None in model.input_shape[1:]:
        raise ConvertError(f"model '{model.name}' — is {shapes} — expected a fixed height, width and channels")
    if "logits" not in {layer.name for layer in model.layers}:
        raise ConvertError(f"model '{model.name}' — has no layer 'logits' — expected one of our presets")
    return keras.Model(model.input, [model.get_layer("logits").output, model.output])


def optimise(raw: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """Turn the traced graph into the one that ships: uint8 BGR pixels in, class ids and logits out.

    Raises:
        ConvertError: A pass cannot do its work.
    """
    model = ir.from_proto(raw)
    # tf2onnx has folded batch normalisation into the convolutions before it already.
    for graph_pass in (
        common.ShapeInferencePass(),
        RestoreUpsampling(),
        FoldNormalisation(),
        TakePixels(),
        AddClassMap(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedOpsetsPass(),
        NameByPlace(),
        common.ClearMetadataAndDocStringPass(),
    ):
        graph_pass(model)
    model.producer_name, model.producer_version = "edge-unet", None
    model.graph.name = contract.name
    model.metadata_props[METADATA_KEY] = contract.to_json()
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as cause:
        raise ConvertError(f"model '{contract.name}' — the converted graph is not valid ONNX ({cause})") from cause
    return proto


def gflops(proto: onnx.ModelProto) -> float:
    """Return 10⁹ floating-point operations of all convolutions for one frame; a multiply-add is two."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
    weights = {w.name: list(w.dims) for w in proto.graph.initializer}
    multiply_adds = sum(
        math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        for node in proto.graph.node
        if node.op_type == "Conv"
    )
    return 2 * multiply_adds / 1e9


def _foreign_parts(config: object) -> list[str]:
    """Name everything in a model's configuration that is not a part of our presets."""
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

    # What the model was compiled with is not loaded.
    visit(config.get("config"), "model")
    return found


def _is_ours(module: object, kind: object) -> bool:
    """Whether a part of a configuration is a layer of ours, an initializer or a data type."""
    return module in ("keras.layers", "keras.initializers") or (module, kind) == ("keras", "DTypePolicy")
