"""The convolutions of VGG16, with which the FCN and SegNet begin."""

from __future__ import annotations

import keras

from training.network.blocks import Style, convolution

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""3×3 convolutions per level of VGG16; a 2×2 max pooling follows each level."""


def vgg_level(x: keras.KerasTensor, widths: tuple[int, ...], name: str, style: Style) -> keras.KerasTensor:
    """Apply 3×3 convolutions, ``NAME_1``, ``NAME_2`` and so on, of the widths.

    Reference:
        Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015.
        https://arxiv.org/abs/1409.1556
    """
    for number, width in enumerate(widths, start=1):
        x = convolution(x, width, f"{name}_{number}", style)
    return x
