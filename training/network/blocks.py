"""Building blocks of networks: convolutions with their normalisation, the blocks of a level, the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

MOMENTUM = 0.97
"""Momentum of the moving statistics: lower than Keras' 0.99, because small datasets see few steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Style of the blocks of one network.

    Attributes:
        batch_norm: Batch normalisation after each convolution, which then has no bias.
        folded: Re-parameterised blocks are the one convolution that they come to, as they are saved.
    """

    batch_norm: bool
    folded: bool


BlockFunction = Callable[[keras.KerasTensor, int, str, Style], keras.KerasTensor]
"""``block(x, width, name, style)``: a map to one of a given width, of the same size."""


def convolution(
    x: keras.KerasTensor, width: int, name: str, style: Style, *, size: int = 3, strides: int = 1, relu: bool = True
) -> keras.KerasTensor:
    """Convolution, batch normalisation if wanted, ReLU if wanted."""
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
    """3×3 convolution."""
    return convolution(x, width, name, style)


def reparameterised(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """3×3 convolution that is trained as a sum of 3×3, 1×1 and identity, each with its own normalisation.

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
    """Add to every pixel what a 1×1 convolution makes of the mean over the map.

    Reference: Liu, Rabinovich, Berg: ParseNet, 2015. https://arxiv.org/abs/1506.04579
    """
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(x)
    # Without batch normalisation: over a handful of means its statistics would be noise.
    unnormalised = Style(batch_norm=False, folded=style.folded)
    return layers.Add(name="context_add")([x, convolution(mean, x.shape[-1], "context", unnormalised, size=1)])


def pixel_logits(x: keras.KerasTensor, logit_channels: int, stride: int) -> keras.KerasTensor:
    """Return the logits at the size of the image, in float32 whatever the policy: a sub-pixel head.

    Args:
        x: The last map, (N, H / stride, W / stride, C).
        logit_channels: L.
        stride: 1, 2 or 4; above 1 each position of the map gives the logits of all the pixels that it stands for.

    Returns:
        (N, H, W, L), the output of the layer ``logits``.

    Reference:
        Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
        Network, CVPR 2016. https://arxiv.org/abs/1609.05158
    """
    if stride == 1:
        return layers.Conv2D(logit_channels, 1, name="logits", dtype="float32")(x)
    _, rows, columns, _ = x.shape
    name = "half_logits" if stride == 2 else "quarter_logits"
    x = layers.Conv2D(stride * stride * logit_channels, 1, name=name, dtype="float32")(x)
    # A position's channels are its pixels, row by row; what lies side by side in a row stays so in memory.
    x = layers.Reshape((rows, columns, stride, stride * logit_channels), name="pixels", dtype="float32")(x)
    x = layers.Permute((1, 3, 2, 4), name="pixel_rows", dtype="float32")(x)
    return layers.Reshape((rows * stride, columns * stride, logit_channels), name="logits", dtype="float32")(x)


def normalisation(name: str) -> layers.BatchNormalization:
    """Return the batch normalisation that every block uses."""
    return layers.BatchNormalization(name=name, momentum=MOMENTUM)


def normalised(x: keras.KerasTensor, name: str, style: Style, *, relu: bool = True) -> keras.KerasTensor:
    """Batch normalisation if the style wants it, ReLU if wanted."""
    if style.batch_norm:
        x = normalisation(f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
