"""A small U-Net with gated skips: the network of MediaPipe's selfie segmentation, for any task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import keras

_SKIP_WIDTHS = (16, 16, 24)
"""Channels of the feature maps at strides 2, 4 and 8."""


class _Block(NamedTuple):
    """Settings of an inverted residual, see ``training.network.mobile_blocks.inverted_residual``."""

    expanded: int
    width: int
    size: int
    strides: int
    squeezed: int
    activation: Literal["relu", "hard_swish"]


_ENCODER = (
    _Block(16, 16, 3, 2, 8, "relu"),
    _Block(72, 24, 3, 2, 0, "relu"),
    _Block(88, 24, 3, 1, 0, "relu"),
    _Block(96, 32, 5, 2, 24, "hard_swish"),
    _Block(128, 32, 5, 1, 32, "hard_swish"),
    _Block(128, 32, 5, 1, 32, "hard_swish"),
    _Block(96, 32, 5, 1, 24, "hard_swish"),
    _Block(96, 32, 5, 1, 24, "hard_swish"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfieShape:
    """Shape of the network of MediaPipe's selfie segmentation: 106,404 parameters without batch normalisation.

    The encoder is of MobileNetV3's inverted residuals, up to stride 16. The decoder adds the skips after a gate per
    channel.

    Attributes:
        batch_norm: Batch normalisation after each convolution but those of the gates. It is needed to train from random
            weights. The public weights have none.

    Example:
        >>> from training import PRESETS
        >>> shape = PRESETS["selfie"].shape
        >>> shape.build(height_px=32, width_px=48, channels=3, logit_channels=2).output_shape
        (None, 32, 48, 2)

    Reference:
        Model card of MediaPipe Selfie Segmentation, 2021. https://developers.google.com/mediapipe
    """

    batch_norm: bool = True

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of it."""
        return 16

    def build(
        self, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
    ) -> keras.Model:
        """Build the network with random weights; see ``Shape.build``."""
        from keras import layers

        from training.network.blocks import pixel_logits
        from training.network.frame import finished_network, scaled_pixels
        from training.network.mobile_blocks import depthwise, gated_skip, pointwise

        norm = self.batch_norm
        image, x = scaled_pixels(height_px, width_px, channels)
        *skips, x = _encoder(x, norm)
        gate = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(x)
        gate = pointwise(gate, 128, "context_gate", "sigmoid", batch_norm=False)
        x = layers.Multiply(name="context_scale")([pointwise(x, 128, "context", "relu", batch_norm=norm), gate])
        for level in reversed(range(len(skips))):
            # Before the upsampling, with which it commutes, the convolution takes a quarter of the time.
            x = pointwise(x, _SKIP_WIDTHS[level], f"reduce_{level}", None, batch_norm=norm)
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"upsample_{level}")(x)
            x = gated_skip(skips[level], x, f"skip_{level}")
            x = pointwise(x, _SKIP_WIDTHS[level], f"decoder_{level}", "relu", batch_norm=norm)
            refined = depthwise(x, 3, f"refine_{level}", "relu", batch_norm=norm)
            x = layers.Add(name=f"refine_{level}_sum")([x, refined])
        logits = pixel_logits(x, logit_channels, 2)
        return finished_network("selfie", image, logits, for_training=for_training)

    def for_public_weights(self) -> SelfieShape:
        """Return the shape that takes public weights: without batch normalisation."""
        return replace(self, batch_norm=False)

    def load_public_weights(self, model: keras.Model, file: Path) -> None:
        """Load the weights of MediaPipe's model; see ``training.network.tflite_weights``."""
        from training.network.tflite_weights import load_in_order

        load_in_order(model, list(_convolutions()), file)


def _encoder(x: keras.KerasTensor, batch_norm: bool) -> list[keras.KerasTensor]:
    """Return the feature maps at strides 2, 4, 8 and 16."""
    from keras import layers

    from training.network.blocks import normalisation
    from training.network.mobile_blocks import inverted_residual

    x = layers.Conv2D(
        16, 3, strides=2, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name="stem"
    )(x)
    if batch_norm:
        x = normalisation("stem_norm")(x)
    x = layers.Activation("hard_swish", name="stem_hard_swish")(x)
    maps = []
    for number, block in enumerate(_ENCODER):
        if block.strides == 2:
            maps.append(x)
        x = inverted_residual(x, f"encoder_{number}", batch_norm=batch_norm, **block._asdict())
    return [*maps, x]


def _convolutions() -> Iterator[str]:
    """Yield the names of the layers with weights, in the order of the public model's operators."""
    yield "stem"
    for number, block in enumerate(_ENCODER):
        yield from (f"encoder_{number}_expand", f"encoder_{number}_depthwise")
        if block.squeezed:
            yield from (f"encoder_{number}_squeeze", f"encoder_{number}_excite")
        yield f"encoder_{number}_project"
    yield from ("context", "context_gate")
    for level in reversed(range(len(_SKIP_WIDTHS))):
        yield from (f"reduce_{level}", f"skip_{level}_squeeze", f"skip_{level}_excite")
        yield from (f"decoder_{level}", f"refine_{level}")
    yield "half_logits"
