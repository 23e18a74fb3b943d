"""The U-Net, built from a plan with the Keras functional API."""

from __future__ import annotations

import keras
from keras import layers

from training.network.blocks import BLOCKS, Style, context, convolution
from training.network.deploy import SCALE, copy_weights, for_deployment, for_speed
from training.network.encoders import encoder_maps
from training.network.plan import UNetPlan


def build_unet(
    plan: UNetPlan, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
) -> keras.Model:
    """Build a U-Net that takes pixels and gives probabilities.

    Args:
        plan: Widths, blocks, stem, decoder.
        height_px: Input height, a multiple of ``plan.stride``.
        width_px: Input width, likewise.
        channels: 1 for grey, 3 for RGB.
        logit_channels: 1 for a binary model (sigmoid), else the number of classes (softmax).
        for_training: Build what is trained: with dropout, with all branches of re-parameterised blocks, with a faster batch
            normalisation, in Keras' present dtype policy. ``deployable`` makes of it what this gives otherwise: Keras' own
            layers in float32.

    Returns:
        A model from ``image``, (N, height_px, width_px, channels) float32 in 0–255, to probabilities,
        (N, height_px, width_px, logit_channels) float32. The layer ``logits`` has them before the sigmoid or softmax.

    Reference:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015.
        https://arxiv.org/abs/1505.04597
    """
    style = Style(batch_norm=plan.batch_norm, folded=not for_training)
    image = keras.Input((height_px, width_px, channels), name="image")
    # Scaling alone, no offset: only a factor can be folded exactly into a convolution that pads with zeros.
    x = layers.Rescaling(1 / 255, name=SCALE)(image)
    *skips, x = encoder_maps(x, plan, plan.encoder) if plan.encoder else _way_down(x, plan, style)
    if plan.context:
        x = context(x, style)
    if plan.dropout and for_training:
        x = layers.SpatialDropout2D(plan.dropout, name="dropout")(x)
    x = _decoder(x, skips, plan, style)
    activation = "sigmoid" if logit_channels == 1 else "softmax"
    x = layers.Activation(activation, name="probabilities", dtype="float32")(_logits(x, plan, logit_channels))
    model = keras.Model(image, x, name="unet")
    if for_training:
        return for_speed(model)
    # Else all of its layers are ours, and in float32 already.
    return for_deployment(model) if plan.encoder or model.dtype_policy.name != "float32" else model


def deployable(trained: keras.Model, plan: UNetPlan) -> keras.Model:
    """Return the network that is saved: Keras' own layers in float32, with the weights that were trained.

    Args:
        trained: From ``build_unet`` with ``for_training=True``; it is left as it is.
        plan: The one it was built from.
    """
    _, height_px, width_px, channels = trained.input_shape
    plain = build_unet(
        plan, height_px=height_px, width_px=width_px, channels=channels, logit_channels=trained.output_shape[-1]
    )
    copy_weights(trained, plain)
    return plain


def _way_down(x: keras.KerasTensor, plan: UNetPlan, style: Style) -> list[keras.KerasTensor]:
    """Return the maps of all levels, the bottleneck's last."""
    if plan.stem_stride == 4:
        x = convolution(x, max(8, plan.widths[0] // 2), "stem_a", style, strides=2)
        x = convolution(x, plan.widths[0], "stem_b", style, strides=2)
    elif plan.stem_stride == 2 or plan.block in ("separable", "inverted"):
        # Whatever the blocks are, pixels meet a whole convolution first: three channels give a depthwise one too little.
        x = convolution(x, plan.widths[0], "stem", style, strides=plan.stem_stride)
    maps = []
    for level, width in enumerate(plan.widths):
        if level:
            x = layers.MaxPooling2D(2, name=f"pool_{level - 1}")(x)
        name = "bottleneck" if level == len(plan.widths) - 1 else f"encoder_{level}"
        x = _blocks(x, width, name, plan, style, plan.blocks_of(level))
        maps.append(x)
    return maps


def _decoder(x: keras.KerasTensor, skips: list[keras.KerasTensor], plan: UNetPlan, style: Style) -> keras.KerasTensor:
    for level in reversed(range(len(skips))):
        width = plan.decoder_width(level)
        if plan.slim_decoder:
            # Inverted blocks leave their narrow ends without a ReLU, and what is concatenated with them is one.
            x = convolution(x, width, f"reduce_{level}", style, size=1, relu=plan.block != "inverted")
        x = layers.UpSampling2D(2, interpolation=plan.upsampling, name=f"upsample_{level}")(x)
        x = layers.Concatenate(name=f"skip_{level}")([skips[level], x])
        x = _blocks(x, width, f"decoder_{level}", plan, style, 1 if plan.slim_decoder else plan.blocks_of(level))
    return x


def _blocks(x: keras.KerasTensor, width: int, name: str, plan: UNetPlan, style: Style, count: int) -> keras.KerasTensor:
    for number in range(count):
        x = BLOCKS[plan.block](x, width, name if count == 1 else f"{name}_{'abcdefgh'[number]}", style)
    return x


def _logits(x: keras.KerasTensor, plan: UNetPlan, logit_channels: int) -> keras.KerasTensor:
    """Return the logits at the size of the image, in float32 whatever the policy.

    Reference for the sub-pixel head: Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient
    Sub-Pixel Convolutional Neural Network, CVPR 2016. https://arxiv.org/abs/1609.05158
    """
    stride = plan.stem_stride
    if stride == 1:
        return layers.Conv2D(logit_channels, 1, name="logits", dtype="float32")(x)
    name = "half_logits" if stride == 2 else "quarter_logits"
    if plan.head == "bilinear":
        x = layers.Conv2D(logit_channels, 1, name=name, dtype="float32")(x)
        return layers.UpSampling2D(stride, interpolation="bilinear", name="logits", dtype="float32")(x)
    _, rows, columns, _ = x.shape
    x = layers.Conv2D(stride * stride * logit_channels, 1, name=name, dtype="float32")(x)
    # A position's channels are its pixels, row by row; what lies side by side in a row stays so in memory.
    x = layers.Reshape((rows, columns, stride, stride * logit_channels), name="pixels", dtype="float32")(x)
    x = layers.Permute((1, 3, 2, 4), name="pixel_rows", dtype="float32")(x)
    return layers.Reshape((rows * stride, columns * stride, logit_channels), name="logits", dtype="float32")(x)
