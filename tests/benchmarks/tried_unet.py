"""U-Nets of kinds that the search for presets tried and no preset took, as a shape of their own beside the product's.

Export must carry more than the presets, and the search may be run again: so both find here the separable and inverted
blocks, the bilinear head and decoder, the decoder of its own widths, the levels of unequal depth, and dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from training.network.unet import UNetShape

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedUNet:
    """A U-Net with everything that was tried; what it shares with ``UNetShape`` means the same.

    Attributes:
        head: How logits come to the size of the image behind a strided stem.
        block: Of ``training.network.blocks``, or one of those here.
        convolutions: Blocks of each level of the encoder, one number for all or one for each level.
        upsampling: How the decoder's maps grow.
        decoder_widths: Filters of the decoder's levels, one fewer than ``widths``; None for the same.
        dropout: Share of the bottleneck's channels that are dropped in training.
    """

    widths: tuple[int, ...]
    batch_norm: bool
    stem_stride: Literal[1, 2, 4] = 1
    head: Literal["bilinear", "subpixel"] = "bilinear"
    slim_decoder: bool = False
    block: Literal["plain", "separable", "inverted", "reparameterised"] = "plain"
    convolutions: int | tuple[int, ...] = 2
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    decoder_widths: tuple[int, ...] | None = None
    context: bool = False
    dropout: float = 0.0

    @classmethod
    def of(cls, shape: UNetShape, **changes: Any) -> TriedUNet:
        """The same network as one of the product's, with changes that the product does not know."""
        own = {field.name: getattr(shape, field.name) for field in fields(shape) if field.name != "encoder"}
        return cls(**{**own, "head": "subpixel", **changes})

    @property
    def stride(self) -> int:
        return int(self.stem_stride * 2 ** (len(self.widths) - 1))

    def build(
        self, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
    ) -> keras.Model:
        from tried_unet_layers import build_tried

        return build_tried(
            self,
            height_px=height_px,
            width_px=width_px,
            channels=channels,
            logit_channels=logit_channels,
            for_training=for_training,
        )
