"""Blocks of small networks for phones: inverted residuals, squeeze-and-excitation, gated skips, refinement."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers

from training.network.blocks import normalisation

Activation = Literal["relu", "hard_swish", "sigmoid"]


def inverted_residual(
    x: keras.KerasTensor,
    name: str,
    *,
    expanded: int,
    width: int,
    size: int,
    strides: int,
    squeezed: int,
    activation: Activation,
    batch_norm: bool,
) -> keras.KerasTensor:
    """Expand the channels, convolve each, gate them, and project them to a few; add the input where it has the same shape.

    Args:
        x: (N, H, W, C).
        name: Name of the block; its convolutions are ``NAME_expand``, ``NAME_depthwise``, ``NAME_squeeze``,
            ``NAME_excite`` and ``NAME_project``.
        expanded: Channels of the depthwise convolution.
        width: Channels of the result.
        size: Kernel size of the depthwise convolution.
        strides: Stride of the depthwise convolution.
        squeezed: Channels between squeeze and excitation; 0 for neither.
        activation: Activation after the expansion and after the depthwise convolution.
        batch_norm: Batch normalisation after each convolution but those of the gate, which then have no bias.

    Reference:
        Sandler et al.: MobileNetV2, CVPR 2018. https://arxiv.org/abs/1801.04381
        Howard et al.: Searching for MobileNetV3, ICCV 2019. https://arxiv.org/abs/1905.02244
    """
    block = pointwise(x, expanded, f"{name}_expand", activation, batch_norm=batch_norm)
    block = depthwise(block, size, f"{name}_depthwise", activation, strides=strides, batch_norm=batch_norm)
    if squeezed:
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(block)
        gate = gate_of(mean, squeezed, expanded, f"{name}_squeeze", f"{name}_excite")
        block = layers.Multiply(name=f"{name}_scale")([block, gate])
    block = pointwise(block, width, f"{name}_project", None, batch_norm=batch_norm)
    if strides == 1 and width == x.shape[-1]:
        block = layers.Add(name=f"{name}_sum")([block, x])
    return block


def pointwise(
    x: keras.KerasTensor, width: int, name: str, activation: Activation | None, *, batch_norm: bool
) -> keras.KerasTensor:
    """Apply a 1×1 convolution, then batch normalisation and the activation if they are asked for."""
    x = layers.Conv2D(width, 1, use_bias=not batch_norm, kernel_initializer="he_normal", name=name)(x)
    return _finished(x, name, activation, batch_norm=batch_norm)


def depthwise(
    x: keras.KerasTensor,
    size: int,
    name: str,
    activation: Activation,
    *,
    strides: int = 1,
    rate: int = 1,
    batch_norm: bool,
) -> keras.KerasTensor:
    """Apply a depthwise convolution, then batch normalisation if it is asked for, and the activation."""
    x = layers.DepthwiseConv2D(
        size,
        strides=strides,
        dilation_rate=rate,
        padding="same",
        use_bias=not batch_norm,
        depthwise_initializer="he_normal",
        name=name,
    )(x)
    return _finished(x, name, activation, batch_norm=batch_norm)


def separable(
    x: keras.KerasTensor,
    width: int,
    name: str,
    *,
    strides: int = 1,
    rate: int = 1,
    activation: Activation | None = "relu",
) -> keras.KerasTensor:
    """Convolve each channel by 3×3, then all of them by 1×1, each with batch normalisation.

    Args:
        x: (N, H, W, C).
        width: Channels of the result.
        name: Name of the block; its convolutions are ``NAME_depthwise`` and ``NAME_pointwise``.
        strides: Stride of the depthwise convolution.
        rate: Distance in pixels between the taps of the depthwise convolution (atrous convolution).
        activation: Activation after the 1×1 convolution; after the other one, it is ReLU.

    Reference:
        Chollet: Xception, CVPR 2017. https://arxiv.org/abs/1610.02357
    """
    x = depthwise(x, 3, f"{name}_depthwise", "relu", strides=strides, rate=rate, batch_norm=True)
    return pointwise(x, width, f"{name}_pointwise", activation, batch_norm=True)


def gate_of(mean: keras.KerasTensor, squeezed: int, width: int, squeeze: str, excite: str) -> keras.KerasTensor:
    """Return a factor per channel, (N, 1, 1, width) in 0–1, from the mean of a feature map.

    Args:
        mean: (N, 1, 1, C).
        squeezed: Channels between the two convolutions.
        width: Channels of the result.
        squeeze: Name of the first convolution.
        excite: Name of the second one.

    Reference:
        Hu, Shen, Sun: Squeeze-and-Excitation Networks, CVPR 2018. https://arxiv.org/abs/1709.01507
    """
    # No batch normalisation: its statistics over one mean per image would be noise.
    x = pointwise(mean, squeezed, squeeze, "relu", batch_norm=False)
    return pointwise(x, width, excite, "sigmoid", batch_norm=False)


def gated_skip(skip: keras.KerasTensor, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Add a feature map of the encoder to one of the decoder, after a gate that sees both decides how much of it counts.

    Args:
        skip: (N, H, W, C) of the encoder.
        x: (N, H, W, C) of the decoder.
        name: Name of the block; its convolutions are ``NAME_squeeze`` and ``NAME_excite``.

    Reference:
        Oktay et al.: Attention U-Net, MIDL 2018, whose gates differ by pixel and not by channel.
        https://arxiv.org/abs/1804.03999
    """
    width = x.shape[-1]
    both = layers.Add(name=f"{name}_both")([skip, x])
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(both)
    gate = gate_of(mean, width, width, f"{name}_squeeze", f"{name}_excite")
    return layers.Add(name=f"{name}_sum")([layers.Multiply(name=f"{name}_scale")([skip, gate]), x])


def _finished(x: keras.KerasTensor, name: str, activation: Activation | None, *, batch_norm: bool) -> keras.KerasTensor:
    if batch_norm:
        x = normalisation(f"{name}_norm")(x)
    if activation == "relu":
        return layers.ReLU(name=f"{name}_relu")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x
