"""Build the Keras layers of ``TriedUNet``; in its own module, because the search must not load Keras while it times."""

from __future__ import annotations

import keras
from keras import layers
from tried_unet import TriedUNet

from training.network.blocks import BLOCKS, Style, context, convolution, normalised, pixel_logits
from training.network.frame import finished_network, scaled_pixels

EXPANSION = 4
"""Factor by which an inverted block is wider inside than at its narrower end."""


def build_tried(
    shape: TriedUNet, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool
) -> keras.Model:
    style = Style(batch_norm=shape.batch_norm, folded=not for_training)
    image, x = scaled_pixels(height_px, width_px, channels)
    *skips, x = _encoder(x, shape, style)
    if shape.context:
        x = context(x, style)
    if shape.dropout and for_training:
        x = layers.SpatialDropout2D(shape.dropout, name="dropout")(x)
    logits = _logits(_decoder(x, skips, shape, style), shape, logit_channels)
    return finished_network("unet", image, logits, for_training=for_training)


def _encoder(x: keras.KerasTensor, shape: TriedUNet, style: Style) -> list[keras.KerasTensor]:
    if shape.stem_stride == 4:
        x = convolution(x, max(8, shape.widths[0] // 2), "stem_a", style, strides=2)
        x = convolution(x, shape.widths[0], "stem_b", style, strides=2)
    elif shape.stem_stride == 2 or shape.block in ("separable", "inverted"):
        # A full convolution comes first, because three channels are too few for a depthwise one.
        x = convolution(x, shape.widths[0], "stem", style, strides=shape.stem_stride)
    maps = []
    for level, width in enumerate(shape.widths):
        if level:
            x = layers.MaxPooling2D(2, name=f"pool_{level - 1}")(x)
        name = "bottleneck" if level == len(shape.widths) - 1 else f"encoder_{level}"
        x = _blocks(x, width, name, shape, style, _count(shape, level))
        maps.append(x)
    return maps


def _decoder(x: keras.KerasTensor, skips: list[keras.KerasTensor], shape: TriedUNet, style: Style) -> keras.KerasTensor:
    for level in reversed(range(len(skips))):
        width = (shape.decoder_widths or shape.widths)[level]
        if shape.slim_decoder:
            # Inverted blocks have no ReLU at their narrow ends, and this map is concatenated with such ends.
            x = convolution(x, width, f"reduce_{level}", style, size=1, relu=shape.block != "inverted")
        x = layers.UpSampling2D(2, interpolation=shape.upsampling, name=f"upsample_{level}")(x)
        x = layers.Concatenate(name=f"skip_{level}")([skips[level], x])
        x = _blocks(x, width, f"decoder_{level}", shape, style, 1 if shape.slim_decoder else _count(shape, level))
    return x


def _blocks(
    x: keras.KerasTensor, width: int, name: str, shape: TriedUNet, style: Style, count: int
) -> keras.KerasTensor:
    blocks = {**BLOCKS, "separable": separable, "inverted": inverted}
    for number in range(count):
        x = blocks[shape.block](x, width, name if count == 1 else f"{name}_{'abcdefgh'[number]}", style)
    return x


def _count(shape: TriedUNet, level: int) -> int:
    return shape.convolutions if isinstance(shape.convolutions, int) else shape.convolutions[level]


def _logits(x: keras.KerasTensor, shape: TriedUNet, logit_channels: int) -> keras.KerasTensor:
    if shape.stem_stride == 1 or shape.head == "subpixel":
        return pixel_logits(x, logit_channels, shape.stem_stride)
    name = "half_logits" if shape.stem_stride == 2 else "quarter_logits"
    x = layers.Conv2D(logit_channels, 1, name=name, dtype="float32")(x)
    return layers.UpSampling2D(shape.stem_stride, interpolation="bilinear", name="logits", dtype="float32")(x)


def depthwise(x: keras.KerasTensor, name: str, style: Style) -> keras.KerasTensor:
    """Apply a 3×3 convolution to each channel, batch normalisation if wanted, and a ReLU."""
    layer = layers.DepthwiseConv2D(
        3,
        padding="same",
        use_bias=not style.batch_norm,
        depthwise_initializer="he_normal" if style.batch_norm else "glorot_uniform",
        name=name,
    )
    return normalised(layer(x), name, style)


def separable(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """Apply a 3×3 depthwise and a 1×1 convolution.

    Reference: Howard et al.: MobileNets, 2017. https://arxiv.org/abs/1704.04861
    """
    return convolution(depthwise(x, f"{name}_depthwise", style), width, name, style, size=1)


def inverted(x: keras.KerasTensor, width: int, name: str, style: Style) -> keras.KerasTensor:
    """Apply an inverted residual: 1×1 to a wider map, 3×3 depthwise, 1×1 back without ReLU; add the input if as wide.

    Reference: Sandler et al.: MobileNetV2, CVPR 2018. https://arxiv.org/abs/1801.04381
    """
    hidden = EXPANSION * min(x.shape[-1], width)
    inside = depthwise(convolution(x, hidden, f"{name}_expand", style, size=1), f"{name}_depthwise", style)
    result = convolution(inside, width, name, style, size=1, relu=False)
    return layers.Add(name=f"{name}_add")([x, result]) if x.shape[-1] == width else result
