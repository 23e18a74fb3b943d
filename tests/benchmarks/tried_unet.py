"""U-Nets that the search for presets tried and no preset uses, as a shape of their own.

They have separable and inverted blocks, a bilinear head or decoder, decoder widths of their own, levels of unequal
depth, and dropout. The search may run again, and the tests of export use them, because export must handle more than the
presets.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from training.network.unet import UNetShape

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedUNet:
    """U-Net with all options that were tried; fields that are not listed mean the same as in ``UNetShape``.

    Attributes:
        head: Head that restores the image size after a strided stem: upsampled or sub-pixel logits.
        block: Block of ``training.network.blocks`` or of ``tried_unet_layers``.
        convolutions: Blocks per level of the encoder: one number for all levels, or one per level.
        upsampling: Interpolation of the decoder's upsampling.
        decoder_widths: Filters of the decoder's levels, one fewer than ``widths``; None takes those of ``widths``.
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
        """Return the same network as a ``UNetShape``, with changes that ``UNetShape`` does not offer."""
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
