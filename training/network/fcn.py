"""The fully convolutional network that the U-Net was compared with: FCN-8s."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from training.network.shape import EncoderName

if TYPE_CHECKING:
    import keras

    from training.network.blocks import Style

DROPOUT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FCNShape:
    """Shape of an FCN-8s: VGG16 whose dense layers are convolutions, with logits at strides 8, 16 and 32 that are summed.

    The paper has widths (64, 128, 256, 512, 512), a head of 4096 filters and no batch normalisation, which a training
    from random weights needs. It pads the image by 100 pixels and crops the logits; here, convolutions pad by zeros.

    Attributes:
        widths: Filters of the five levels of VGG16.
        head_width: Filters of the 7×7 and of the 1×1 convolution in place of VGG16's dense layers.
        batch_norm: Batch normalisation after each convolution but those that give logits.
        encoder: Name of a ``keras.applications`` backbone to use instead of the five levels.

    Example:
        >>> from training import FCNShape
        >>> shape = FCNShape(widths=(4, 8, 8, 8, 8), head_width=16)
        >>> shape.build(height_px=32, width_px=64, channels=3, logit_channels=2).output_shape
        (None, 32, 64, 2)

    Reference:
        Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015.
        https://arxiv.org/abs/1411.4038
    """

    widths: tuple[int, int, int, int, int]
    head_width: int
    batch_norm: bool = True
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        """Refuse values from which no network can be built."""
        if len(self.widths) != 5 or min(*self.widths, self.head_width) < 1:
            raise UsageError(
                f"network shape — widths {self.widths}, head_width {self.head_width} — give five positive widths and one"
            )

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of it."""
        return 32

    def with_encoder(self, name: EncoderName) -> FCNShape:
        """Return the same shape with a ``keras.applications`` backbone as encoder."""
        return replace(self, encoder=name)

    def build(
        self, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
    ) -> keras.Model:
        """Build the network with random weights; see ``Shape.build``."""
        from keras import layers

        from training.network.blocks import Style, convolution
        from training.network.encoders import encoder_maps
        from training.network.frame import finished_network, scaled_pixels

        style = Style(batch_norm=self.batch_norm, folded=not for_training)
        image, x = scaled_pixels(height_px, width_px, channels)
        if self.encoder:
            eighth, sixteenth, x = encoder_maps(x, self.encoder, first_stride=8, count=3)
        else:
            eighth, sixteenth, x = _encoder(x, self, style)
        for name, size in (("head_a", 7), ("head_b", 1)):
            x = convolution(x, self.head_width, name, style, size=size)
            if for_training:
                x = layers.Dropout(DROPOUT, name=f"{name}_dropout")(x)
        x = _logits(x, logit_channels, "logits_32")
        for skip, stride in ((sixteenth, 16), (eighth, 8)):
            x = _doubled(x, f"upsample_{stride}")
            x = layers.Add(name=f"sum_{stride}", dtype="float32")(
                [_logits(skip, logit_channels, f"logits_{stride}"), x]
            )
        # The paper's last transposed convolution is fixed to bilinear interpolation.
        logits = layers.UpSampling2D(8, interpolation="bilinear", dtype="float32", name="logits")(x)
        return finished_network("fcn", image, logits, for_training=for_training, borrowed=self.encoder is not None)


def _encoder(x: keras.KerasTensor, shape: FCNShape, style: Style) -> tuple[keras.KerasTensor, ...]:
    """Return the feature maps at strides 8, 16 and 32."""
    from keras import layers

    from training.network.vgg import CONVOLUTIONS, vgg_level

    pooled = []
    for level, (width, count) in enumerate(zip(shape.widths, CONVOLUTIONS, strict=True)):
        x = vgg_level(x, (width,) * count, f"encoder_{level}", style)
        x = layers.MaxPooling2D(2, name=f"pool_{level}")(x)
        pooled.append(x)
    return tuple(pooled[2:])


def _logits(x: keras.KerasTensor, logit_channels: int, name: str) -> keras.KerasTensor:
    from keras import layers

    return layers.Conv2D(logit_channels, 1, dtype="float32", name=name)(x)


def _doubled(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Apply a transposed convolution of stride 2 that begins as bilinear interpolation."""
    from keras import layers

    from training.network.start import bilinear_kernel

    layer = layers.Conv2DTranspose(
        x.shape[-1], 4, strides=2, padding="same", use_bias=False, dtype="float32", name=name
    )
    x = layer(x)
    layer.kernel.assign(bilinear_kernel(x.shape[-1]))
    return x
