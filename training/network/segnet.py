"""SegNet: a decoder that puts each value back where the encoder's pooling took it from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_runtime.errors import UsageError
from training.network.shape import EncoderName

if TYPE_CHECKING:
    import keras

    from training.network.blocks import Style

POOLING_ENCODERS: tuple[EncoderName, ...] = ("vgg16",)
"""Encoders that pool. The others halve their maps by convolutions, which have no largest value to put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegNetShape:
    """Shape of a SegNet: VGG16's convolutions, and the same in reverse after an unpooling by the indices of each pooling.

    The paper has widths (64, 128, 256, 512, 512).

    Attributes:
        widths: Filters of the five levels.
        encoder: Name of a ``keras.applications`` backbone that pools, to use instead of the convolutions of the encoder.

    Example:
        >>> from training import SegNetShape
        >>> shape = SegNetShape(widths=(4, 8, 8, 8, 8))
        >>> shape.build(height_px=32, width_px=64, channels=3, logit_channels=2).output_shape
        (None, 32, 64, 2)

    Reference:
        Badrinarayanan, Kendall, Cipolla: SegNet, TPAMI 2017. https://arxiv.org/abs/1511.00561
    """

    widths: tuple[int, int, int, int, int]
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        """Refuse values from which no network can be built."""
        if len(self.widths) != 5 or min(self.widths) < 1:
            raise UsageError(f"network shape — widths {self.widths} — give five positive widths")

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of it."""
        return 32

    def with_encoder(self, name: EncoderName) -> SegNetShape:
        """Return the same shape with a ``keras.applications`` backbone that pools as encoder."""
        if name not in POOLING_ENCODERS:
            raise UsageError(
                f"--encoder {name} — has no pooling whose indices SegNet could use — choose {', '.join(POOLING_ENCODERS)}, "
                "or another --preset"
            )
        return replace(self, encoder=name)

    def build(
        self, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
    ) -> keras.Model:
        """Build the network with random weights; see ``Shape.build``."""
        from keras import layers

        from training.network.blocks import Style, unpooled
        from training.network.encoders import pooled_maps
        from training.network.frame import finished_network, scaled_pixels
        from training.network.vgg import CONVOLUTIONS, vgg_level

        style = Style(batch_norm=True, folded=not for_training)
        image, x = scaled_pixels(height_px, width_px, channels)
        if self.encoder:
            maps, x = pooled_maps(x, self.encoder)
        else:
            maps, x = _encoder(x, self, style)
        for level in reversed(range(len(maps))):
            # The last convolution of a level has the filters of the next one; of the last level, it gives the logits.
            after = (self.widths[level - 1],) if level else ()
            widths = (self.widths[level],) * (CONVOLUTIONS[level] - 1) + after
            if x.shape[-1] != maps[level].shape[-1]:  # indices are per channel, and an encoder may have others
                x = layers.Conv2D(maps[level].shape[-1], 1, name=f"widen_{level}")(x)
            x = unpooled(x, maps[level], f"unpool_{level}")
            x = vgg_level(x, widths, f"decoder_{level}", style)
        logits = layers.Conv2D(logit_channels, 3, padding="same", dtype="float32", name="logits")(x)
        return finished_network("segnet", image, logits, for_training=for_training, borrowed=self.encoder is not None)


def _encoder(
    x: keras.KerasTensor, shape: SegNetShape, style: Style
) -> tuple[list[keras.KerasTensor], keras.KerasTensor]:
    """Return the feature map before each pooling, and the one after the last."""
    from keras import layers

    from training.network.vgg import CONVOLUTIONS, vgg_level

    maps = []
    for level, (width, count) in enumerate(zip(shape.widths, CONVOLUTIONS, strict=True)):
        maps.append(vgg_level(x, (width,) * count, f"encoder_{level}", style))
        x = layers.MaxPooling2D(2, name=f"pool_{level}")(maps[-1])
    return maps, x
