"""The shape of a network, as one frozen object that needs no Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_runtime.errors import UsageError

BlockName = Literal["plain", "separable", "inverted", "reparameterised"]
EncoderName = Literal["mobilenetv2", "mobilenetv3small", "mobilenetv3large", "efficientnetb0"]
ENCODER_STRIDES = (2, 4, 8, 16, 32)
"""Where an encoder gives its maps: its input is so many times as large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetPlan:
    """The shape of a U-Net.

    Attributes:
        widths: Filters of each level, from the first to the bottleneck; each level but the last is followed by a 2×2
            pooling on the way down and a 2× upsampling on the way up.
        batch_norm: Batch normalisation after each convolution, which then has no bias.
        stem_stride: 2 puts a strided convolution before the first level, 4 puts two, and the head gives that back: a
            quarter, or a sixteenth, of the work, at a small cost in fine borders.
        head: How logits come to the size of the image behind a strided stem: by bilinear upsampling, or "subpixel", where each
            position of the last map gives the logits of all the pixels that it stands for.
        slim_decoder: A 1×1 convolution halves the channels before each upsampling, and one block follows the skip in place
            of as many as on the way down: the decoder is most of a U-Net's work.
        block: What a level is made of, see ``training.network.blocks``.
        convolutions: Blocks of each level on the way down, one number for all or one for each level.
        upsampling: How the decoder's maps grow.
        decoder_widths: Filters of the decoder's levels in the order of ``widths``, which has one more; None for the same.
        context: Add to the bottleneck what one 1×1 convolution makes of the mean over the whole image.
        dropout: Share of the bottleneck's channels that are dropped in training.
        encoder: Take the way down from a network of ``keras.applications``: ``widths`` then only tells how many levels there
            are, and the widths of the decoder.
    """

    widths: tuple[int, ...]
    batch_norm: bool
    stem_stride: Literal[1, 2, 4] = 1
    head: Literal["bilinear", "subpixel"] = "bilinear"
    slim_decoder: bool = False
    block: BlockName = "plain"
    convolutions: int | tuple[int, ...] = 2
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    decoder_widths: tuple[int, ...] | None = None
    context: bool = False
    dropout: float = 0.0
    encoder: EncoderName | None = None

    def __post_init__(self) -> None:
        """Refuse what no network can be built from."""
        levels = len(self.widths)
        counts = (self.convolutions,) if isinstance(self.convolutions, int) else self.convolutions
        for wrong, problem, remedy in (
            (not levels or min(self.widths) < 1, f"widths {self.widths}", "give one positive number for each level"),
            (min(counts, default=0) < 1, f"convolutions {self.convolutions}", "give 1 or more"),
            (
                len(counts) not in (1, levels),
                f"convolutions {self.convolutions} for {levels} levels",
                "give one for each",
            ),
            (
                self.decoder_widths is not None and len(self.decoder_widths) != levels - 1,
                f"decoder_widths {self.decoder_widths} for {levels} levels",
                f"give {levels - 1}: the bottleneck has none",
            ),
            (not 0 <= self.dropout < 1, f"dropout {self.dropout:g}", "give a share from 0 up to, not including, 1"),
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
                raise UsageError(f"network plan — {problem} — {remedy}")

    @property
    def stride(self) -> int:
        """The factor by which the bottleneck is smaller than the input; height and width must be multiples of it."""
        return int(self.stem_stride * 2 ** (len(self.widths) - 1))

    def blocks_of(self, level: int) -> int:
        """Return how many blocks a level of the way down has, the bottleneck being the last level."""
        return self.convolutions if isinstance(self.convolutions, int) else self.convolutions[level]

    def decoder_width(self, level: int) -> int:
        """Return the filters of a level of the decoder."""
        return (self.decoder_widths or self.widths)[level]
