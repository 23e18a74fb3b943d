"""Encoders of ``keras.applications``, with weights from ImageNet or from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import applications
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.storage import printable
from training.network.shape import ENCODER_STRIDES, EncoderName

Array = NDArray[np.float32]
EncoderWeights = Literal["imagenet"] | Path
_Colors = tuple[float, float, float]
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Backbone of ``keras.applications`` that is used as encoder.

    Attributes:
        build: Function of ``keras.applications`` that builds the backbone.
        options: Further keyword arguments of that function.
        maps: Names of the layers whose output is used, one per stride of ``ENCODER_STRIDES``: the ends of blocks, where
            there are the fewest channels.
        first: Name of the first convolution.
        first_norm: Name of the batch normalisation after the first convolution, if there is one.
        mean: Mean per colour channel that the backbone expects to be subtracted from pixels in 0–1.
        deviation: Standard deviation per colour channel by which it expects the difference to be divided.
        bgr: Whether the backbone expects blue first.
        pooled: Names of the layers before each 2×2 max pooling, if nothing else halves the maps.
    """

    build: Callable[..., keras.Model]
    options: dict[str, Any]
    maps: tuple[str, str, str, str, str]
    first: str
    first_norm: str | None
    mean: _Colors
    deviation: _Colors
    bgr: bool = False
    pooled: tuple[str, ...] = ()


ENCODERS: dict[EncoderName, Encoder] = {
    # Sandler et al.: MobileNetV2, CVPR 2018. https://arxiv.org/abs/1801.04381
    "mobilenetv2": Encoder(
        build=applications.MobileNetV2,
        options={},
        maps=("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "block_16_project_BN"),
        first="Conv1",
        first_norm="bn_Conv1",
        mean=_HALF,
        deviation=_HALF,
    ),
    # Howard et al.: Searching for MobileNetV3, ICCV 2019. https://arxiv.org/abs/1905.02244
    "mobilenetv3small": Encoder(
        build=applications.MobileNetV3Small,
        options={"include_preprocessing": False},
        maps=(
            "conv_bn",
            "expanded_conv_project_bn",
            "expanded_conv_2_add",
            "expanded_conv_7_add",
            "expanded_conv_10_add",
        ),
        first="conv",
        first_norm="conv_bn",
        mean=_HALF,
        deviation=_HALF,
    ),
    "mobilenetv3large": Encoder(
        build=applications.MobileNetV3Large,
        options={"include_preprocessing": False},
        maps=(
            "expanded_conv_add",
            "expanded_conv_2_add",
            "expanded_conv_5_add",
            "expanded_conv_11_add",
            "expanded_conv_14_add",
        ),
        first="conv",
        first_norm="conv_bn",
        mean=_HALF,
        deviation=_HALF,
    ),
    # Tan, Le: EfficientNet, ICML 2019. https://arxiv.org/abs/1905.11946
    "efficientnetb0": Encoder(
        build=applications.EfficientNetB0,
        options={},
        maps=("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "block7a_project_bn"),
        first="stem_conv",
        first_norm="stem_bn",
        mean=_IMAGENET_MEAN,
        deviation=_IMAGENET_DEVIATION,
    ),
    # Simonyan, Zisserman: Very Deep Convolutional Networks, ICLR 2015. https://arxiv.org/abs/1409.1556
    "vgg16": Encoder(
        build=applications.VGG16,
        options={},
        maps=("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
        first="block1_conv1",
        first_norm=None,
        mean=(103.939 / 255, 116.779 / 255, 123.68 / 255),
        deviation=(1 / 255, 1 / 255, 1 / 255),
        bgr=True,
        pooled=("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"),
    ),
}


def encoder_maps(x: keras.KerasTensor, name: EncoderName, *, first_stride: int, count: int) -> list[keras.KerasTensor]:
    """Return the feature maps of an encoder, each half as large as the one before.

    Args:
        x: Pixels in 0–1, (N, H, W, C). The rest of the preprocessing that the encoder expects is folded into its first
            convolution by ``load_encoder``.
        name: Name of the backbone.
        first_stride: Stride of the first map, one of ``ENCODER_STRIDES``.
        count: Number of maps.
    """
    model = _backbone(x, name)
    first = ENCODER_STRIDES.index(first_stride)
    return [model.get_layer(layer).output for layer in ENCODERS[name].maps[first : first + count]]


def pooled_maps(x: keras.KerasTensor, name: EncoderName) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
    """Return the feature map before each max pooling of an encoder, and the one after the last.

    Args:
        x: Pixels in 0–1, (N, H, W, C), see ``encoder_maps``.
        name: Name of a backbone with ``pooled``.
    """
    model = _backbone(x, name)
    encoder = ENCODERS[name]
    return [model.get_layer(layer).output for layer in encoder.pooled], model.get_layer(encoder.maps[-1]).output


def _backbone(x: keras.KerasTensor, name: EncoderName) -> keras.Model:
    encoder = ENCODERS[name]
    return encoder.build(input_tensor=x, include_top=False, weights=None, **encoder.options)


def encoder_layers(model: keras.Model, name: EncoderName) -> list[str]:
    """Return the names of the layers of a network that are its encoder's and have weights."""
    image = keras.Input((64, 64, model.input_shape[-1]))
    theirs = {layer.name for layer in _backbone(image, name).layers}
    return [layer.name for layer in model.layers if layer.weights and layer.name in theirs]


def load_encoder(model: keras.Model, name: EncoderName, weights: EncoderWeights) -> None:
    """Load pre-trained weights into the encoder of a network.

    Args:
        model: Network that was built with this encoder.
        name: Name of the backbone.
        weights: "imagenet", which Keras downloads the first time, or the path of a ``.weights.h5`` or ``.h5`` file of
            the ``keras.applications`` model without top.

    Raises:
        UsageError: The weights cannot be loaded, or belong to another network.
    """
    encoder = ENCODERS[name]
    sources = {layer.name: layer.get_weights() for layer in _loaded(encoder, weights).layers if layer.weights}
    sources |= _for_pixels(sources, encoder, model.input_shape[-1])
    for layer in model.layers:
        if layer.name in sources:
            layer.set_weights(sources[layer.name])


def _loaded(encoder: Encoder, weights: EncoderWeights) -> keras.Model:
    """Return the backbone with its weights, built at ImageNet's size; its weights fit any size."""
    from_file = isinstance(weights, Path)
    where = f"--encoder-weights {printable(weights) if from_file else weights}"
    if isinstance(weights, Path) and not weights.is_file():
        raise UsageError(f"{where} — no such file — expected .weights.h5 or .h5 — give its path, or imagenet")
    try:
        model = encoder.build(
            input_shape=(224, 224, 3), include_top=False, weights=None if from_file else weights, **encoder.options
        )
        if from_file:
            model.load_weights(weights)
    except Exception as cause:  # Keras raises a plain one where it cannot download
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise UsageError(
            f"{where} — cannot be loaded ({reason}) — expected the weights of keras.applications.{encoder.build.__name__} "
            "without top — give a file of them, or none"
        ) from cause
    return model


def _for_pixels(sources: dict[str, list[Array]], encoder: Encoder, channels: int) -> dict[str, list[Array]]:
    """Fold the backbone's preprocessing of pixels in 0–1 into the weights of its first convolution and normalisation.

    ``conv(k, (x - m) / d) = conv(k / d, x) - sum(k · m / d)``, and the moving mean or the bias takes the constant. Only
    the border differs: it is padded with black here, and was padded with the mean colour when the backbone was trained.
    A grey image counts as three equal channels.
    """
    kernel, *bias = sources[encoder.first]
    kernel = kernel / np.array(encoder.deviation)[:, np.newaxis]
    offset = np.einsum("hwio,i->o", kernel, np.array(encoder.mean))
    if encoder.bgr:
        kernel = kernel[:, :, ::-1]
    if channels == 1:
        kernel = kernel.sum(axis=2, keepdims=True)
    kernel = kernel.astype(np.float32)
    if encoder.first_norm is None:
        return {encoder.first: [kernel, (bias[0] - offset).astype(np.float32)]}
    gamma, beta, mean, variance = sources[encoder.first_norm]
    norm = [gamma, beta, (mean + offset).astype(np.float32), variance]
    return {encoder.first: [kernel], encoder.first_norm: norm}
