"""Convert the trained network to the one that is saved: stock Keras layers, float32, branches folded."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from training.network.blocks import MOMENTUM
from training.network.shape import Shape

Array = NDArray[np.float32]
SCALE = "scale"
"""Name of the layer that scales pixels from 0–255 to 0–1."""


@keras.saving.register_keras_serializable(package="edge_unet")
class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """Batch normalisation over (N, H, W, C) that trains with one fused operator, where Keras' layer takes five.

    It saves a fifth of a training step on a CPU. Weights and results are those of Keras' layer, except that the moving
    variance has Bessel's correction.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise by the batch's statistics in training and by the moving ones otherwise."""
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        x = tf.cast(inputs, self.compute_dtype)
        size = self.moving_mean.shape
        gamma = self.gamma if self.scale else tf.ones(size)
        beta = self.beta if self.center else tf.zeros(size)
        result, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.convert_to_tensor(gamma),
            offset=tf.convert_to_tensor(beta),
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return result


def deployable(trained: keras.Model, shape: Shape, input_size: tuple[int, int] | None = None) -> keras.Model:
    """Return the network that is saved: stock Keras layers in float32, with the trained weights.

    Args:
        trained: Network that ``shape`` built with ``for_training=True``; it is not changed.
        shape: Shape of the network.
        input_size: (height, width) of the saved network's input in pixels, of which the trained one may have seen
            parts; by default that of the trained one.
    """
    height_px, width_px = input_size or trained.input_shape[1:3]
    plain = shape.build(
        height_px=height_px,
        width_px=width_px,
        channels=trained.input_shape[-1],
        logit_channels=trained.output_shape[-1],
    )
    copy_weights(trained, plain)
    return plain


def for_speed(model: keras.Model) -> keras.Model:
    """Return a copy of a model with the same weights, whose batch normalisation is one fused operator."""

    def clone(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, keras.Layer):
            return layer
        if type(layer) is layers.BatchNormalization:
            # keras.applications uses a slower momentum, for many more steps than most trainings have.
            return FusedBatchNormalization.from_config({**layer.get_config(), "momentum": MOMENTUM})
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone, call_function=_call)
    copy_weights(model, copy)
    return copy


def for_deployment(model: keras.Model) -> keras.Model:
    """Return a copy of a model with new weights, in float32, without the layers that only training needs."""

    def clone(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, keras.Layer):
            return layer
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, layers.Dropout | layers.SpatialDropout2D) else _call(layer, *args, **kwargs)

    return keras.models.clone_model(model, clone_function=clone, call_function=call)


def _call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
    """Call a layer of the copy; leave out the encoder's preprocessing, and replace bare arithmetic by layers.

    The preprocessing is folded into the encoder's first convolution, see ``load_encoder``. Arithmetic without a layer,
    such as MobileNetV3's ``x + 3`` and ``x / 6``, would be saved under the names of Keras-internal functions.
    """
    if isinstance(layer, layers.Normalization) or (isinstance(layer, layers.Rescaling) and layer.name != SCALE):
        return args[0]
    name = layer.__class__.__name__
    number = args[1] if len(args) == 2 else None
    if isinstance(layer, keras.Layer) or not isinstance(number, int | float):
        return layer(*args, **kwargs)
    options = {"scale": 1.0, "offset": number} if name == "Add" else {"scale": number}
    return layers.Rescaling(**options, dtype=args[0].dtype, name=layer.name)(args[0])


def copy_weights(trained: keras.Model, plain: keras.Model) -> None:
    """Copy the weights of a training network to the deployment network of the same shape.

    Layers are matched by name; a folded convolution receives the sum of its branches.
    """
    sources = {layer.name: layer for layer in trained.layers}
    for layer in plain.layers:
        if not layer.weights:
            continue
        if layer.name in sources:
            layer.set_weights(sources[layer.name].get_weights())
        else:
            layer.set_weights(_folded(layer.name, sources))


def _folded(name: str, sources: dict[str, keras.Layer]) -> list[Array]:
    """Return kernel, (3, 3, I, O), and bias, (O,), of a re-parameterised block."""
    kernel, bias = _normalised(sources[f"{name}_3x3"].kernel.numpy(), sources[f"{name}_3x3_norm"])
    for branch, norm in (("1x1", "1x1_norm"), ("identity", "identity")):
        if f"{name}_{norm}" not in sources:
            continue
        center = np.eye(kernel.shape[2])[np.newaxis, np.newaxis]
        if branch == "1x1":
            center = sources[f"{name}_1x1"].kernel.numpy()
        center, offset = _normalised(center, sources[f"{name}_{norm}"])
        kernel[1:2, 1:2] += center
        bias += offset
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def _normalised(kernel: NDArray[Any], norm: layers.BatchNormalization) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fold the normalisation after a convolution without bias into kernel and bias, in double precision."""
    gamma, beta, mean, variance = (np.float64(weight) for weight in norm.get_weights())
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return kernel.astype(np.float64) * scale, beta - mean * scale
