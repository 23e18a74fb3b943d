"""DeepLabV3+: an encoder whose last map is not halved again, atrous convolutions of several rates, a small decoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from training.network.shape import EncoderName

if TYPE_CHECKING:
    import keras

    from training.network.blocks import Style

XceptionWidths = tuple[int, int, int, int, int, int, int, int]
_DEEPEST = 2
"""Rate of the convolutions after the place at which the encoder would halve its map a fifth time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepLabShape:
    """Shape of a DeepLabV3+ with the paper's modified Xception as encoder, at an output stride of 16.

    The paper has widths (32, 64, 128, 256, 728, 1024, 1536, 2048), 16 middle blocks, 256 and 48 channels, and rates of
    6, 12 and 18 for images of 513 pixels. The branch over the mean of the image has no batch normalisation here, whose
    statistics over one mean per image would be noise.

    Attributes:
        widths: Filters of Xception: of its first two convolutions, of the three blocks of its entry, the middle ones as
            the third, of the block of its exit, and of the three convolutions that follow, the first two of which are
            alike.
        middle_blocks: Number of blocks between entry and exit.
        pyramid_width: Channels of each branch of the atrous spatial pyramid, and of the decoder.
        skip_width: Channels to which the map at stride 4 is reduced before it reaches the decoder.
        rates: Rates of the pyramid's 3×3 convolutions.
        encoder: Name of a ``keras.applications`` backbone to use instead of Xception: its layers up to stride 16.

    Example:
        >>> from training import DeepLabShape
        >>> shape = DeepLabShape(
        ...     widths=(4, 8, 8, 8, 8, 8, 8, 8), middle_blocks=1, pyramid_width=8, skip_width=4, rates=(1, 2)
        ... )
        >>> shape.build(height_px=32, width_px=64, channels=3, logit_channels=2).output_shape
        (None, 32, 64, 2)

    Reference:
        Chen et al.: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, ECCV 2018.
        https://arxiv.org/abs/1802.02611
    """

    widths: XceptionWidths
    middle_blocks: int
    pyramid_width: int
    skip_width: int
    rates: tuple[int, ...]
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        """Refuse values from which no network can be built."""
        numbers = (*self.widths, self.pyramid_width, self.skip_width, *self.rates)
        if len(self.widths) != 8 or not self.rates or min(numbers) < 1 or self.middle_blocks < 0:
            raise UsageError(
                f"network shape — widths {self.widths}, middle_blocks {self.middle_blocks}, pyramid_width "
                f"{self.pyramid_width}, skip_width {self.skip_width}, rates {self.rates} — give eight widths and at least "
                "one rate, all positive"
            )

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of it."""
        return 32 if self.encoder else 16

    def with_encoder(self, name: EncoderName) -> DeepLabShape:
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
        from training.network.mobile_blocks import separable

        style = Style(batch_norm=True, folded=not for_training)
        image, x = scaled_pixels(height_px, width_px, channels)
        if self.encoder:
            skip, _, x = encoder_maps(x, self.encoder, first_stride=4, count=3)
        else:
            skip, x = _xception(x, self, style)
        x = _pyramid(x, self, style, dropout=for_training)
        x = layers.UpSampling2D(4, interpolation="bilinear", name="upsample")(x)
        skip = convolution(skip, self.skip_width, "skip", style, size=1)
        x = layers.Concatenate(name="decoder")([skip, x])
        for name in ("decoder_a", "decoder_b"):
            x = separable(x, self.pyramid_width, name)
        x = layers.Conv2D(logit_channels, 1, dtype="float32", name="quarter_logits")(x)
        logits = layers.UpSampling2D(4, interpolation="bilinear", dtype="float32", name="logits")(x)
        return finished_network("deeplab", image, logits, for_training=for_training, borrowed=self.encoder is not None)


def _pyramid(x: keras.KerasTensor, shape: DeepLabShape, style: Style, *, dropout: bool) -> keras.KerasTensor:
    """Return the joined branches: a 1×1 convolution, one of each rate, and the mean of the image."""
    from keras import layers

    from training.network.blocks import Style, convolution
    from training.network.mobile_blocks import separable

    _, rows, columns, _ = x.shape
    width = shape.pyramid_width
    branches = [convolution(x, width, "pyramid_pixel", style, size=1)]
    branches += [separable(x, width, f"pyramid_{rate}", rate=rate) for rate in shape.rates]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_mean")(x)
    mean = convolution(mean, width, "pyramid_image", Style(batch_norm=False, folded=style.folded), size=1)
    branches.append(layers.UpSampling2D((rows, columns), name="pyramid_spread")(mean))
    x = convolution(layers.Concatenate(name="pyramid")(branches), width, "pyramid_joined", style, size=1)
    return layers.Dropout(0.1, name="pyramid_dropout")(x) if dropout else x


def _xception(x: keras.KerasTensor, shape: DeepLabShape, style: Style) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the feature maps at strides 4 and 16 of the modified Xception."""
    from training.network.blocks import convolution
    from training.network.mobile_blocks import separable

    first, second, *entry, exit_width, late, last = shape.widths
    x = convolution(x, first, "entry_a", style, strides=2)
    x = convolution(x, second, "entry_b", style)
    skip = x
    for number, width in enumerate(entry, start=1):
        inner, x = _block(x, (width, width, width), f"entry_{number}", style, strides=2)
        if number == 2:
            skip = inner
    for number in range(1, shape.middle_blocks + 1):
        _, x = _block(x, (entry[-1],) * 3, f"middle_{number}", style)
    _, x = _block(x, (entry[-1], exit_width, exit_width), "exit", style)
    for width, name in ((late, "late_a"), (late, "late_b"), (last, "late_c")):
        x = separable(x, width, name, rate=_DEEPEST)
    return skip, x


def _block(
    x: keras.KerasTensor, widths: tuple[int, int, int], name: str, style: Style, *, strides: int = 1
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Apply three separable convolutions and add the input; return the map after the second one, and the sum."""
    from keras import layers

    from training.network.blocks import convolution
    from training.network.mobile_blocks import separable

    shortcut = x
    if strides > 1 or x.shape[-1] != widths[-1]:
        shortcut = convolution(x, widths[-1], f"{name}_shortcut", style, size=1, strides=strides, relu=False)
    x = separable(x, widths[0], f"{name}_a")
    inner = separable(x, widths[1], f"{name}_b")
    x = separable(inner, widths[2], f"{name}_c", strides=strides, activation=None)
    return inner, layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([shortcut, x]))
