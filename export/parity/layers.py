"""Compare the values inside a graph with those inside Keras, layer by layer, and find the first layer that differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from export.convert import convolution_layers
from export.keras_model.convertible import ConvolutionByGroups
from export.passes.names import LayerValues, values_of_layer

LOGITS = "logits"
"""Output of the graph at every stage, (1, H, W, L); the values inside the graph are (1, C, H, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifference:
    """Difference between a layer's result in ONNX and in Keras, after its batch normalisation and ReLU.

    Attributes:
        layer: Name of the convolution layer in Keras.
        relative_diff: Largest difference on the images, relative to the layer's largest value there.
    """

    layer: str
    relative_diff: float


class Probe:
    """Session that runs the ONNX graph of any stage and returns any value inside it."""

    def __init__(self, model: onnx.ModelProto, values: Sequence[str] = ()) -> None:
        """Create a session that returns ``values`` in addition to the model's own outputs."""
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
        # Before the pass ``pixels``, the graph takes float RGB, as Keras does.
        fed = image[np.newaxis] if self._takes_pixels else image[np.newaxis, ..., ::-1].astype(np.float32)
        return self._session.run(list(values), {self._session.get_inputs()[0].name: fed}, self._run_options)


def layer_differences(
    model: keras.Model, graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]]
) -> list[LayerDifference]:
    """Compare the results of all convolution layers that a graph still has, in the order of the layers.

    Args:
        model: The Keras model.
        graph: Its graph at any float stage; a layer that a pass has dissolved is left out.
        images: (height_px, width_px, channels) uint8 pixels, BGR or grey.
    """
    # A layer with an activation of its own returns in Keras the result after the activation; one that is computed in
    # parts has no value in the graph that is its result.
    layers = [
        name
        for name in convolution_layers(model)
        if (layer := model.get_layer(name)).activation is keras.activations.linear
        and not isinstance(layer, ConvolutionByGroups)
    ]
    if not layers:
        return []
    results = [_result(model, model.get_layer(layer)) for layer in layers]
    inner = keras.Model(model.input, [result.output for result in results])
    found = {value for node in graph.graph.node for value in node.output}
    sources = {
        layer: values
        for layer, result in zip(layers, results, strict=True)
        if (values := values_of_layer(layer, found, rectified=_is_relu(result))) is not None
    }
    probe = Probe(graph, [name for values in sources.values() for name in values.names])
    worst: dict[str, float] = {}
    for image in images:
        # Called directly, because predict would compile every such model, and TensorFlow warns at the fifth.
        expected = [np.asarray(x) for x in keras.tree.flatten(inner(image[np.newaxis, ..., ::-1].astype(np.float32)))]
        for layer, result in zip(layers, expected, strict=True):
            if layer in sources:
                value = _whole(sources[layer], probe.run(image, sources[layer].names))
                largest = max(float(np.abs(result).max()), 1e-12)
                diff = float(np.abs(value - result).max()) / largest
                worst[layer] = float(np.maximum(worst.get(layer, 0.0), diff))  # np.maximum keeps a NaN
    return [LayerDifference(layer=layer, relative_diff=diff) for layer, diff in worst.items()]


def first_diverging(differences: Sequence[LayerDifference], limit: float) -> LayerDifference | None:
    """Return the first layer that differs by more than ``limit``, or by NaN."""
    return next((d for d in differences if not d.relative_diff <= limit), None)


def _result(model: keras.Model, layer: keras.Layer) -> keras.Layer:
    """Return the layer that gives a convolution's result: its ReLU, its batch normalisation, or the layer itself."""
    while True:
        users = [other for other in model.layers if any(t is layer.output for t in keras.tree.flatten(other.input))]
        if len(users) != 1 or not (isinstance(users[0], keras.layers.BatchNormalization) or _is_relu(users[0])):
            return layer
        layer = users[0]


def _is_relu(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) and layer.max_value is None


def _whole(source: LayerValues, values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return a layer's result as (1, H, W, C), put together from its parts."""
    if source.names == (LOGITS,):
        return values[0]
    maps = [value.transpose(0, 2, 3, 1) for value in values]
    if source.parts == "whole":
        return maps[0]
    if source.parts == "rows":
        return np.concatenate(maps, axis=3)
    count, height, width, channels = maps[0].shape
    return (
        np.stack(maps, 1)
        .reshape(count, 2, 2, height, width, channels)
        .transpose(0, 3, 1, 4, 2, 5)
        .reshape(count, 2 * height, 2 * width, channels)
    )
