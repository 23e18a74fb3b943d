"""The parts of a Keras model's configuration that compute and do nothing else, and what a configuration holds besides.

A ``Lambda`` layer holds Python bytecode, and a registered name runs what this process has registered under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

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
            "Argmax",
            "Clip",
            "Concatenate",
            "Divide",
            "Equal",
            "Exp",
            "ExpandDims",
            "GetItem",
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
        }
    ),
    "keras.src.ops.core": frozenset({"Cast"}),
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
            "OneHot",
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


def foreign_parts(config: object) -> list[str]:
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
