"""Building blocks of networks: convolutions with their normalisation, the blocks of a level, the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers, ops

MOMENTUM = 0.97
"""Momentum of the moving statistics: lower than Keras' 0.99, because small datasets see few steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Settings that all blocks of a network share.

    Attributes:
        batch_norm: Batch normalisation after each convolution, which then has no bias.
        folded: Build each re-parameterised block as the single convolution that it is folded to when saved.
    """

    batch_norm: bool
    folded: bool


BlockFunction = Callable[[keras.KerasTensor, int, str, Style], keras.KerasTensor]
"""``block(x, width, name, style)``: feature map (N, H, W, C) to (N, H, W, width)."""


def convolution(
    x: keras.KerasTensor, width: int, name: str, style: Style, *, size: int = 3, strides: int = 1, relu: bool = True
) -> keras.KerasTensor:
    """Apply a convolution, then batch normalisation if the style has it, then ReLU if ``relu`` is set."""
    layer = layers.Conv2D(
        width,
        size,
        strides=strides,
        padding="same",
        use_bias=not style.batch_norm,
        kernel_initializer="he_normal" if style.batch_norm else "glorot_uniform",
        name=name,
    )
    return normalised(layer(x), name, style, relu=relu)


def plain(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """Apply a 3×3 convolution with normalisation and ReLU."""
    return convolution(x, width, name, style)


def reparameterised(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """Apply a 3×3 convolution that is trained as the sum of a 3×3, a 1×1 and an identity branch, each normalised.

    Reference: Ding et al.: RepVGG, CVPR 2021. https://arxiv.org/abs/2101.03697
    """
    if style.folded:
        x = layers.Conv2D(width, 3, padding="same", name=name)(x)
        return layers.ReLU(name=f"{name}_relu")(x)
    branches = [convolution(x, width, f"{name}_{size}x{size}", style, size=size, relu=False) for size in (3, 1)]
    if x.shape[-1] == width:
        branches.append(normalisation(f"{name}_identity")(x))
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")(branches))


BLOCKS: dict[str, BlockFunction] = {"plain": plain, "reparameterised": reparameterised}


def context(x: keras.KerasTensor, style: Style) -> keras.KerasTensor:
    """Add global context: a 1×1 convolution of the feature map's mean, added to every pixel.

    Reference: Liu, Rabinovich, Berg: ParseNet, 2015. https://arxiv.org/abs/1506.04579
    """
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(x)
    # No batch normalisation here: its statistics over one mean per image would be noise.
    unnormalised = Style(batch_norm=False, folded=style.folded)
    return layers.Add(name="context_add")([x, convolution(mean, x.shape[-1], "context", unnormalised, size=1)])


def unpooled(x: keras.KerasTensor, before: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Undo a 2×2 max pooling: put each value where the largest one of its window was, and zeros elsewhere.

    Of several largest ones, the first counts, row by row, as ONNX' MaxPool numbers them. Export turns these operations
    into MaxUnpool.

    Args:
        x: (N, H / 2, W / 2, C).
        before: (N, H, W, C), the map that was pooled.
        name: Name of the result.

    Reference:
        Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014, section 2.1.
        https://arxiv.org/abs/1311.2901
    """
    _, rows, columns, width = x.shape
    windows = ops.transpose(ops.reshape(before, (-1, rows, 2, columns, 2, width)), (0, 1, 3, 2, 4, 5))
    windows = ops.reshape(windows, (-1, rows, columns, 4, width))
    # Of integers, because Keras tells -0 from 0 where it searches among floats.
    largest = ops.cast(ops.equal(windows, ops.max(windows, axis=3, keepdims=True)), "int32")
    places = ops.one_hot(ops.argmax(largest, axis=3), 4, axis=3, dtype=x.dtype)
    spread = ops.reshape(ops.expand_dims(x, 3) * places, (-1, rows, columns, 2, 2, width))
    whole = ops.reshape(ops.transpose(spread, (0, 1, 3, 2, 4, 5)), (-1, 2 * rows, 2 * columns, width))
    return layers.Identity(name=name)(whole)


def pixel_logits(x: keras.KerasTensor, logit_channels: int, stride: int) -> keras.KerasTensor:
    """Return the logits at image size by a sub-pixel head, in float32 whatever the dtype policy.

    Args:
        x: (N, H / stride, W / stride, C), the decoder's output.
        logit_channels: L, the number of logits per pixel.
        stride: 1, 2 or 4; each position of ``x`` gives the logits of stride × stride pixels.

    Returns:
        (N, H, W, L) float32, the output of the layer ``logits``.

    Reference:
        Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
        Network, CVPR 2016. https://arxiv.org/abs/1609.05158
    """
    if stride == 1:
        return layers.Conv2D(logit_channels, 1, name="logits", dtype="float32")(x)
    _, rows, columns, _ = x.shape
    name = "half_logits" if stride == 2 else "quarter_logits"
    x = layers.Conv2D(stride * stride * logit_channels, 1, name=name, dtype="float32")(x)
    # The channels of a position are its pixels, row by row; neighbours in a row of pixels stay neighbours in memory.
    x = layers.Reshape((rows, columns, stride, stride * logit_channels), name="pixels", dtype="float32")(x)
    x = layers.Permute((1, 3, 2, 4), name="pixel_rows", dtype="float32")(x)
    return layers.Reshape((rows * stride, columns * stride, logit_channels), name="logits", dtype="float32")(x)


def normalisation(name: str) -> layers.BatchNormalization:
    """Return the batch normalisation that every block uses."""
    return layers.BatchNormalization(name=name, momentum=MOMENTUM)


def normalised(x: keras.KerasTensor, name: str, style: Style, *, relu: bool = True) -> keras.KerasTensor:
    """Apply batch normalisation if the style has it, then ReLU if ``relu`` is set."""
    if style.batch_norm:
        x = normalisation(f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
