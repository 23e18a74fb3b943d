"""The U-Net."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edge_runtime.errors import UsageError
from training.network.shape import ENCODER_STRIDES, EncoderName

if TYPE_CHECKING:
    import keras

    from training.network.blocks import Style

BlockName = Literal["plain", "reparameterised"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetShape:
    """Shape of a U-Net.

    Attributes:
        widths: Filters per level, from the first to the bottleneck; each level but the last is followed by a 2×2 max
            pooling in the encoder and preceded by a 2× upsampling in the decoder.
        batch_norm: Batch normalisation after each convolution, which then has no bias.
        stem_stride: Stride before the first level: 2 adds one strided convolution, 4 adds two, and a sub-pixel head
            restores the resolution. This takes a quarter or a sixteenth of the arithmetic, at a small cost in fine
            borders.
        slim_decoder: Reduce the channels by a 1×1 convolution before each upsampling, and use one block per level of
            the decoder instead of ``convolutions``. The decoder is most of a U-Net's arithmetic.
        block: Kind of block in each level, see ``training.network.blocks``.
        convolutions: Blocks per level of the encoder.
        context: Add global context to the bottleneck: a 1×1 convolution of its mean over the image.
        encoder: Name of a ``keras.applications`` backbone to use as encoder; ``widths`` then gives only the number of
            levels and the decoder's widths.

    Example:
        >>> from training import UNetShape
        >>> shape = UNetShape(widths=(8, 16, 32), batch_norm=True)
        >>> shape.stride
        4
        >>> shape.build(height_px=16, width_px=24, channels=3, logit_channels=2).output_shape
        (None, 16, 24, 2)

    Reference:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015.
        https://arxiv.org/abs/1505.04597
    """

    widths: tuple[int, ...]
    batch_norm: bool
    stem_stride: Literal[1, 2, 4] = 1
    slim_decoder: bool = False
    block: BlockName = "plain"
    convolutions: int = 2
    context: bool = False
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        """Refuse values from which no network can be built."""
        levels = len(self.widths)
        for wrong, problem, remedy in (
            (not levels or min(self.widths) < 1, f"widths {self.widths}", "give one positive number for each level"),
            (self.convolutions < 1, f"convolutions {self.convolutions}", "give 1 or more"),
            (
                self.block == "reparameterised" and not self.batch_norm,
                "reparameterised blocks without batch_norm",
                "their branches differ by their normalisation: give batch_norm=True",
            ),
            (
                self.encoder is not None and (self.stem_stride == 1 or self.stride > ENCODER_STRIDES[-1] or levels < 2),
                f"encoder {self.encoder} with stem_stride {self.stem_stride} and {levels} levels",
                "an encoder begins at stride 2 or 4 and ends at 32: give two to five levels from there",
            ),
        ):
            if wrong:
                raise UsageError(f"network shape — {problem} — {remedy}")

    @property
    def stride(self) -> int:
        """The factor by which the bottleneck is smaller than the input; height and width must be multiples of it."""
        return int(self.stem_stride * 2 ** (len(self.widths) - 1))

    @property
    def decoder_maps(self) -> tuple[str, ...]:
        """Names of the layers that give the decoder's maps, see ``HasDecoderMaps``."""
        count = 1 if self.slim_decoder else self.convolutions
        return tuple(f"{_block_name(f'decoder_{n}', count - 1, count)}_relu" for n in range(1, len(self.widths) - 1))

    def with_encoder(self, name: EncoderName) -> UNetShape:
        """Return the same shape with a ``keras.applications`` backbone as encoder."""
        return replace(self, encoder=name)

    def build(
        self, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
    ) -> keras.Model:
        """Build the network with random weights; see ``Shape.build``.

        Example:
            >>> from training import UNetShape
            >>> shape = UNetShape(widths=(4, 8), batch_norm=False)
            >>> shape.build(height_px=8, width_px=8, channels=1, logit_channels=1).count_params()
            1657
        """
        from training.network.blocks import Style, context, pixel_logits
        from training.network.encoders import encoder_maps
        from training.network.frame import finished_network, scaled_pixels

        style = Style(batch_norm=self.batch_norm, folded=not for_training)
        image, x = scaled_pixels(height_px, width_px, channels)
        if self.encoder:
            *skips, x = encoder_maps(x, self.encoder, first_stride=self.stem_stride, count=len(self.widths))
        else:
            *skips, x = _encoder(x, self, style)
        if self.context:
            x = context(x, style)
        logits = pixel_logits(_decoder(x, skips, self, style), logit_channels, self.stem_stride)
        return finished_network("unet", image, logits, for_training=for_training, borrowed=self.encoder is not None)


def _encoder(x: keras.KerasTensor, shape: UNetShape, style: Style) -> list[keras.KerasTensor]:
    """Return the feature maps of all levels, the bottleneck's last."""
    from keras import layers

    from training.network.blocks import convolution

    if shape.stem_stride == 4:
        x = convolution(x, max(8, shape.widths[0] // 2), "stem_a", style, strides=2)
        x = convolution(x, shape.widths[0], "stem_b", style, strides=2)
    elif shape.stem_stride == 2:
        x = convolution(x, shape.widths[0], "stem", style, strides=2)
    maps = []
    for level, width in enumerate(shape.widths):
        if level:
            x = layers.MaxPooling2D(2, name=f"pool_{level - 1}")(x)
        name = "bottleneck" if level == len(shape.widths) - 1 else f"encoder_{level}"
        x = _blocks(x, width, name, shape, style, shape.convolutions)
        maps.append(x)
    return maps


def _decoder(x: keras.KerasTensor, skips: list[keras.KerasTensor], shape: UNetShape, style: Style) -> keras.KerasTensor:
    """Return the decoder's feature map at the first level."""
    from keras import layers

    from training.network.blocks import convolution

    for level in reversed(range(len(skips))):
        width = shape.widths[level]
        if shape.slim_decoder:
            x = convolution(x, width, f"reduce_{level}", style, size=1)
        x = layers.UpSampling2D(2, name=f"upsample_{level}")(x)
        x = layers.Concatenate(name=f"skip_{level}")([skips[level], x])
        x = _blocks(x, width, f"decoder_{level}", shape, style, 1 if shape.slim_decoder else shape.convolutions)
    return x


def _blocks(
    x: keras.KerasTensor, width: int, name: str, shape: UNetShape, style: Style, count: int
) -> keras.KerasTensor:
    from training.network.blocks import BLOCKS

    for number in range(count):
        x = BLOCKS[shape.block](x, width, _block_name(name, number, count), style)
    return x


def _block_name(name: str, number: int, count: int) -> str:
    """Return the name of one of the blocks of a level."""
    return name if count == 1 else f"{name}_{'abcdefgh'[number]}"
