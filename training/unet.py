"""The U-Net, built from a plan with the Keras functional API."""

from __future__ import annotations

import keras
from keras import layers

from training.config import UNetPlan


def build_unet(plan: UNetPlan, *, height_px: int, width_px: int, channels: int, logit_channels: int) -> keras.Model:
    """Build a U-Net that takes pixels and gives probabilities.

    Args:
        plan: Widths, normalisation and stem.
        height_px: Input height, a multiple of ``plan.stride``.
        width_px: Input width, likewise.
        channels: 1 for grey, 3 for RGB.
        logit_channels: 1 for a binary model (sigmoid), else the number of classes (softmax).

    Returns:
        A model from ``image``, (N, height_px, width_px, channels) float32 in 0–255, to probabilities,
        (N, height_px, width_px, logit_channels) float32. The layer ``logits`` has them before the sigmoid or softmax.

    Reference:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015.
        https://arxiv.org/abs/1505.04597
    """
    image = keras.Input((height_px, width_px, channels), name="image")
    # Scaling alone, no offset: only a factor can be folded exactly into a convolution that pads with zeros.
    x = layers.Rescaling(1 / 255, name="scale")(image)
    if plan.stem_stride == 2:
        x = _convolution(x, plan.widths[0], "stem", plan.batch_norm, strides=2)
    skips = []
    for level, width in enumerate(plan.widths[:-1]):
        x = _double_convolution(x, width, f"encoder_{level}", plan.batch_norm)
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"pool_{level}")(x)
    x = _double_convolution(x, plan.widths[-1], "bottleneck", plan.batch_norm)
    for level in reversed(range(len(skips))):
        if plan.slim_decoder:
            x = _convolution(x, plan.widths[level], f"reduce_{level}", plan.batch_norm, kernel_size=1)
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"upsample_{level}")(x)
        x = layers.Concatenate(name=f"skip_{level}")([skips[level], x])
        if plan.slim_decoder:
            x = _convolution(x, plan.widths[level], f"decoder_{level}", plan.batch_norm)
        else:
            x = _double_convolution(x, plan.widths[level], f"decoder_{level}", plan.batch_norm)
    if plan.stem_stride == 2:
        x = layers.Conv2D(logit_channels, 1, name="half_logits")(x)
        x = layers.UpSampling2D(2, interpolation="bilinear", name="logits")(x)
    else:
        x = layers.Conv2D(logit_channels, 1, name="logits")(x)
    activation = "sigmoid" if logit_channels == 1 else "softmax"
    return keras.Model(image, layers.Activation(activation, name="probabilities")(x), name="unet")


def _double_convolution(x: keras.KerasTensor, width: int, name: str, batch_norm: bool) -> keras.KerasTensor:
    return _convolution(_convolution(x, width, f"{name}_a", batch_norm), width, f"{name}_b", batch_norm)


def _convolution(
    x: keras.KerasTensor, width: int, name: str, batch_norm: bool, *, kernel_size: int = 3, strides: int = 1
) -> keras.KerasTensor:
    """Convolution, batch normalisation if wanted, ReLU."""
    x = layers.Conv2D(
        width,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=not batch_norm,
        kernel_initializer="he_normal" if batch_norm else "glorot_uniform",
        name=name,
    )(x)
    if batch_norm:
        x = layers.BatchNormalization(name=f"{name}_norm", momentum=0.97)(x)
    return layers.ReLU(name=f"{name}_relu")(x)
