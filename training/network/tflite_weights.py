"""Load the weights of a TensorFlow Lite file into a Keras network of the same architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edge_runtime.errors import UsageError
from edge_runtime.storage import printable, read_bytes

Array = NDArray[np.float32]
_IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TensorFlow Lite file."""
_MOST_BYTES = 1 << 28
_TYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
}


def load_in_order(model: keras.Model, names: list[str], file: Path) -> None:
    """Load the weights of convolutions, the first of the file into the first layer, and so on.

    The last layer keeps its weights if it answers with another number of classes than that of the file. Weights for
    colours become those of a grey picture, which counts as three equal channels.

    Args:
        model: Network without batch normalisation, because the weights of a file have it folded in.
        names: Names of the layers with weights, in the order of the file's operators.
        file: TensorFlow Lite file, with weights in float32 or float16.

    Raises:
        UsageError: The file is missing, is none of TensorFlow Lite, or is of another network.
    """
    where = f"--start-from {printable(file)}"
    found = _weights(file, where)
    if len(found) != len(names):
        raise UsageError(
            f"{where} — has {len(found)} layers with weights — expected {len(names)}, as {model.name} has — give the file "
            "of that network"
        )
    for number, (name, (kernel, bias)) in enumerate(zip(names, found, strict=True)):
        layer = model.get_layer(name)
        fitted = _fitted(kernel, bias, layer)
        if fitted is not None:
            layer.set_weights(fitted)
        elif number + 1 < len(names):
            raise UsageError(
                f"{where} — weights {kernel.shape} at layer {number + 1} — expected those of '{name}', "
                f"{tuple(layer.weights[0].shape)} — give the file of {model.name}"
            )


def _fitted(kernel: Array, bias: Array, layer: keras.Layer) -> list[Array] | None:
    """Return kernel and bias of a file, (O, H, W, I) and (O,), in the shapes of a layer; None if they do not fit."""
    weight = tuple(layer.weights[0].shape)
    if isinstance(layer, layers.DepthwiseConv2D):
        kernel = kernel.transpose(1, 2, 3, 0)
    elif kernel.shape[:3] == (1, 2, 2) and weight[3] == 4:  # transposed, as a convolution that gives four pixels
        kernel, bias = kernel.reshape(1, 1, 4, -1).transpose(0, 1, 3, 2), np.repeat(bias, 4)
    else:
        kernel = kernel.transpose(1, 2, 3, 0)
        if weight[2] == 1 and kernel.shape[2] == 3:
            kernel = kernel.sum(axis=2, keepdims=True)
    return [kernel, bias] if kernel.shape == weight else None


def _weights(file: Path, where: str) -> list[tuple[Array, Array]]:
    """Return kernel, (O, H, W, I), and bias, (O,), of each operator that has them, in the order of the operators."""
    if not file.is_file():
        raise UsageError(f"{where} — no such file — expected a .tflite file — check the path")
    data = read_bytes(file, UsageError) if file.stat().st_size <= _MOST_BYTES else b""
    if data[4:8] != _IDENTIFIER:
        raise UsageError(f"{where} — is no TensorFlow Lite file — expected .tflite — extract it from its package")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        return _of_graph(model, model.subgraphs[0])
    except Exception as cause:  # the reader does not check offsets, and fails in any way on a damaged file
        raise UsageError(
            f"{where} — is damaged, or of another version ({type(cause).__name__}) — get it again"
        ) from cause


def _of_graph(model: Any, graph: Any) -> list[tuple[Array, Array]]:
    constants: dict[int, Array] = {}
    for number, tensor in enumerate(graph.tensors):
        values = model.buffers[tensor.buffer].data
        if values is not None and len(values) and tensor.type in _TYPES:
            kind = _TYPES[tensor.type]
            constants[number] = np.frombuffer(bytes(values), kind).astype(np.float32).reshape(tensor.shape)
    found = []
    for operator in graph.operators:
        inputs = [int(number) for number in operator.inputs]
        if len(inputs) == 1 and inputs[0] in constants:  # weights in float16 are converted by an operator of their own
            constants[int(operator.outputs[0])] = constants[inputs[0]]
        elif len(inputs) == 3 and inputs[1] in constants and inputs[2] in constants:
            found.append((constants[inputs[1]], constants[inputs[2]]))
    return found
