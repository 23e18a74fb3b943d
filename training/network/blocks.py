"""What the levels of a U-Net are made of: each block takes a map to one of a given width, of the same size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from training.network.plan import BlockName

EXPANSION = 4
"""By how much an inverted block is wider inside than at its narrower end."""
MOMENTUM = 0.97
"""Of the moving statistics: small datasets see few steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How the blocks of one network are built.

    Attributes:
        batch_norm: Batch normalisation after each convolution, which then has no bias.
        folded: Re-parameterised blocks are the one convolution that they come to, as they are saved.
    """

    batch_norm: bool
    folded: bool


BlockFunction = Callable[[keras.KerasTensor, int, str, Style], keras.KerasTensor]


def convolution(
    x: keras.KerasTensor, width: int, name: str, style: Style, *, size: int = 3, strides: int = 1, relu: bool = True
) -> keras.KerasTensor:
    """Convolution, batch normalisation if wanted, ReLU if wanted."""
    layer = layers.Conv2D(width, size, strides=strides, name=name, **_weights("kernel", style))
    return _normalised(layer(x), name, style, relu=relu)


def depthwise(x: keras.KerasTensor, name: str, style: Style) -> keras.KerasTensor:
    """3×3 convolution of each channel by itself, batch normalisation if wanted, ReLU."""
    return _normalised(layers.DepthwiseConv2D(3, name=name, **_weights("depthwise", style))(x), name, style)


def plain(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """3×3 convolution."""
    return convolution(x, width, name, style)


def separable(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """3×3 depthwise and 1×1 convolution.

    Reference: Howard et al.: MobileNets, 2017. https://arxiv.org/abs/1704.04861
    """
    return convolution(depthwise(x, f"{name}_depthwise", style), width, name, style, size=1)


def inverted(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """Inverted residual: 1×1 to a wider map, 3×3 depthwise, 1×1 back without ReLU, and the input added if as wide.

    Reference: Sandler et al.: MobileNetV2, CVPR 2018. https://arxiv.org/abs/1801.04381
    """
    hidden = EXPANSION * min(x.shape[-1], width)
    inside = depthwise(convolution(x, hidden, f"{name}_expand", style, size=1), f"{name}_depthwise", style)
    result = convolution(inside, width, name, style, size=1, relu=False)
    return layers.Add(name=f"{name}_add")([x, result]) if x.shape[-1] == width else result


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


BLOCKS: dict[BlockName, BlockFunction] = {
    "plain": plain,
    "separable": separable,
    "inverted": inverted,
    "reparameterised": reparameterised,
}


def context(x: keras.KerasTensor, style: Style) -> keras.KerasTensor:
    """Add to every pixel what a 1×1 convolution makes of the mean over the map.

    Reference: Liu, Rabinovich, Berg: ParseNet, 2015. https://arxiv.org/abs/1506.04579
    """
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(x)
    # Without batch normalisation: over a handful of means its statistics would be noise.
    unnormalised = Style(batch_norm=False, folded=style.folded)
    return layers.Add(name="context_add")([x, convolution(mean, x.shape[-1], "context", unnormalised, size=1)])


def normalisation(name: str) -> layers.BatchNormalization:
    """Return the batch normalisation that every block uses."""
    return layers.BatchNormalization(name=name, momentum=MOMENTUM)


def _normalised(x: keras.KerasTensor, name: str, style: Style, *, relu: bool = True) -> keras.KerasTensor:
    if style.batch_norm:
        x = normalisation(f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _weights(kind: str, style: Style) -> dict[str, Any]:
    return {
        "padding": "same",
        "use_bias": not style.batch_norm,
        f"{kind}_initializer": "he_normal" if style.batch_norm else "glorot_uniform",
    }
