"""Layer by layer: how far the values inside a graph are from those inside Keras, and which layer departs first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import keras
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from export.convert import convolution_layers
from export.passes.phases import phase_names
from export.passes.pixel_rows import FIRST_ROW, row_names

LOGITS = "logits"
"""The output that every stage has, (1, H, W, L); the values inside are (1, C, H, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifference:
    """How far one layer's result, after its normalisation and ReLU, is from that in Keras.

    Attributes:
        layer: Name of the convolution layer in Keras.
        relative_diff: Largest difference on the images, as a share of the layer's largest number there.
    """

    layer: str
    relative_diff: float


class Probe:
    """Runs an ONNX graph at any stage between tf2onnx and the finished one, up to any value in it."""

    def __init__(self, model: onnx.ModelProto, values: Sequence[str] = ()) -> None:
        """Create a session that gives ``values`` besides the model's own outputs."""
        model = onnx.ModelProto.FromString(model.SerializeToString())
        own = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in values if name not in own)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self._takes_pixels = self._session.get_inputs()[0].type == "tensor(uint8)"
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, image: NDArray[np.uint8], values: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return values of the graph for (height_px, width_px, channels) uint8 pixels, BGR or grey."""
        # Before the pass that takes them in, pixels are float RGB, as in Keras.
        fed = image[np.newaxis] if self._takes_pixels else image[np.newaxis, ..., ::-1].astype(np.float32)
        return self._session.run(list(values), {self._session.get_inputs()[0].name: fed}, self._run_options)


def layer_differences(
    model: keras.Model, graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]]
) -> list[LayerDifference]:
    """Compare the results of all convolution layers that a graph still has, in the order of the layers.

    Args:
        model: The Keras model.
        graph: The same at any stage in float; a layer that a pass has dissolved is passed over.
        images: (height_px, width_px, channels) uint8 pixels, BGR or grey.
    """
    # One with an activation of its own gives in Keras what comes after it.
    layers = [
        name for name in convolution_layers(model) if model.get_layer(name).activation is keras.activations.linear
    ]
    results = [_result(model, model.get_layer(layer)) for layer in layers]
    inner = keras.Model(model.input, [result.output for result in results])
    found = {value for node in graph.graph.node for value in node.output}
    sources = {
        layer: _values_of(f"{layer}_relu" if _is_relu(result) else layer, found)
        for layer, result in zip(layers, results, strict=True)
    }
    probe = Probe(graph, [name for values in sources.values() for name in values])
    worst: dict[str, float] = {}
    for image in images:
        # Called, not predicted with: that would compile every such model, and TensorFlow warns of the fifth.
        expected = [np.asarray(x) for x in keras.tree.flatten(inner(image[np.newaxis, ..., ::-1].astype(np.float32)))]
        for layer, result in zip(layers, expected, strict=True):
            if sources[layer]:
                value = _whole(sources[layer], probe.run(image, sources[layer]))
                largest = max(float(np.abs(result).max()), 1e-12)
                diff = float(np.abs(value - result).max()) / largest
                worst[layer] = float(np.maximum(worst.get(layer, 0.0), diff))  # NumPy's: a NaN stays one
    return [LayerDifference(layer=layer, relative_diff=diff) for layer, diff in worst.items()]


def first_diverging(differences: Sequence[LayerDifference], limit: float) -> LayerDifference | None:
    """Return the first layer that differs by more than ``limit``, or by NaN."""
    return next((d for d in differences if not d.relative_diff <= limit), None)


def _result(model: keras.Model, layer: keras.Layer) -> keras.Layer:
    """Return the layer that gives the result of a convolution: its normalisation or ReLU where it has one, or itself."""
    while True:
        users = [other for other in model.layers if any(t is layer.output for t in keras.tree.flatten(other.input))]
        if len(users) != 1 or not (isinstance(users[0], keras.layers.BatchNormalization) or _is_relu(users[0])):
            return layer
        layer = users[0]


def _is_relu(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) and layer.max_value is None


def _values_of(result: str, found: set[str]) -> list[str]:
    """Return the names under which a graph has a layer's result: one, or one a phase or a row of pixels, or none."""
    for names in ([result], [f"{result}_nchw"], phase_names(result), phase_names(f"{result}_nchw")):
        if found.issuperset(names):
            return list(names)
    return list(takewhile(found.__contains__, row_names(result)))


def _whole(names: Sequence[str], values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return a value as (1, H, W, C), put together where it comes in phases or rows of pixels."""
    if names == [LOGITS]:
        return values[0]
    maps = [value.transpose(0, 2, 3, 1) for value in values]
    if len(maps) == 1:
        return maps[0]
    if names[0].endswith(FIRST_ROW):
        return np.concatenate(maps, axis=3)
    count, height, width, channels = maps[0].shape
    return (
        np.stack(maps, 1)
        .reshape(count, 2, 2, height, width, channels)
        .transpose(0, 3, 1, 4, 2, 5)
        .reshape(count, 2 * height, 2 * width, channels)
    )
