"""Convert a Keras model to ONNX with tf2onnx. The result is exact and slow; the graph passes start from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import onnx
import tensorflow as tf
import tf2onnx

from export.errors import ConvertError


def trace(model: keras.Model, opset: int) -> onnx.ModelProto:
    """Convert a Keras model to ONNX with tf2onnx, without any graph pass.

    Args:
        model: Keras model from ``load_checkpoint``.
        opset: Opset of the ONNX model, 13 to 18.

    Returns:
        A model from ``image``, float32 (1, H, W, C) RGB in 0–255, to ``logits`` and ``probabilities``, (1, H, W, L).
    """
    both = with_logits(model)

    def call(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, probabilities = both(image, training=False)
        return {"logits": logits, "probabilities": probabilities}

    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")]
    with _errors_only("tf2onnx"):
        proto, _ = tf2onnx.convert.from_function(tf.function(call), input_signature=signature, opset=opset)
    return proto


def with_logits(model: keras.Model) -> keras.Model:
    """Return the model with two outputs, logits and probabilities.

    Raises:
        ConvertError: The model has no layer ``logits``, or not exactly one input and one output of four dimensions.
    """
    shapes = f"{model.input_shape} → {model.output_shape}"
    if not all(isinstance(s, tuple) and len(s) == 4 for s in (model.input_shape, model.output_shape)):
        raise ConvertError(f"model '{model.name}' — is {shapes} — expected one image in, (N, H, W, C), and one out")
    if None in model.input_shape[1:]:
        raise ConvertError(f"model '{model.name}' — is {shapes} — expected a fixed height, width and channels")
    if "logits" not in {layer.name for layer in model.layers}:
        raise ConvertError(f"model '{model.name}' — has no layer 'logits' — expected one of our presets")
    return keras.Model(model.input, [model.get_layer("logits").output, model.output])


def convolution_layers(model: keras.Model) -> list[str]:
    """Return the names of a model's convolution layers, in the order of the model."""
    kinds = keras.layers.Conv2D | keras.layers.Conv2DTranspose | keras.layers.DepthwiseConv2D
    return [layer.name for layer in model.layers if isinstance(layer, kinds)]


def gflops(proto: onnx.ModelProto) -> float:
    """Return the floating-point operations of all convolutions per frame, in 10⁹; a multiply-add counts as two."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    weights = {w.name: list(w.dims) for w in proto.graph.initializer}
    # A convolution multiplies its kernel for each position of its output, a transposed one for each of its input.
    positions = {"Conv": lambda node: node.output[0], "ConvTranspose": lambda node: node.input[0]}
    multiply_adds = sum(
        math.prod(shapes[positions[node.op_type](node)]) * math.prod(weights[node.input[1]][1:])
        for node in proto.graph.node
        if node.op_type in positions
    )
    return 2 * multiply_adds / 1e9


@contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Let a logger report errors only, and restore its level afterwards."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
