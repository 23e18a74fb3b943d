"""Protocol of a network's shape; needs no Keras.

An architecture is one file in this folder with a frozen dataclass that implements ``Shape``, and a preset that names it
in ``training.presets.PRESETS``, the one registry of networks. The file imports Keras only inside ``build``, because the
command line loads every preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    import keras

EncoderName = Literal["mobilenetv2", "mobilenetv3small", "mobilenetv3large", "efficientnetb0", "vgg16"]
ENCODER_STRIDES = (2, 4, 8, 16, 32)
"""Strides of the feature maps that a ``keras.applications`` encoder gives."""


class Shape(Protocol):
    """Shape of a network: everything that determines its layers except the size and channels of input and output.

    A shape is a frozen dataclass: equal shapes build equal networks.

    Example:
        >>> from training import PRESETS
        >>> shape = PRESETS["edge-nano"].shape
        >>> shape.stride
        32
        >>> shape.build(height_px=32, width_px=64, channels=3, logit_channels=4).output_shape
        (None, 32, 64, 4)
    """

    @property
    def stride(self) -> int:
        """Number of pixels that must divide the input's height and width."""

    def build(
        self, *, height_px: int, width_px: int, channels: int, logit_channels: int, for_training: bool = False
    ) -> keras.Model:
        """Build the network with random weights.

        Args:
            height_px: Input height, a multiple of ``stride``.
            width_px: Input width, a multiple of ``stride``.
            channels: 1 for grey, 3 for RGB.
            logit_channels: 1 for a binary model (sigmoid), else the number of classes (softmax).
            for_training: Build the network to train: with the layers and branches that only training needs, in Keras'
                current dtype policy. ``training.network.deploy.deployable`` converts it to the network that is built
                otherwise: stock Keras layers in float32.

        Returns:
            A model from ``image``, (N, height_px, width_px, channels) float32 in 0–255, to probabilities,
            (N, height_px, width_px, logit_channels) float32. The layer ``logits`` gives the logits before the
            activation.
        """


@runtime_checkable
class TakesEncoder(Shape, Protocol):
    """Shape whose encoder can be replaced by a backbone of ``keras.applications``."""

    def with_encoder(self, name: EncoderName) -> Shape:
        """Return the same shape with another encoder.

        Raises:
            UsageError: The backbone has no feature maps at the strides that the shape needs.
        """


@runtime_checkable
class HasDecoderMaps(Shape, Protocol):
    """Shape of a network whose decoder has several maps, on which heads can learn."""

    @property
    def decoder_maps(self) -> tuple[str, ...]:
        """Names of the layers that give them, the finest first, without the one before the network's own head."""


@runtime_checkable
class TakesPublicWeights(Shape, Protocol):
    """Shape for which others have published weights."""

    def for_public_weights(self) -> Shape:
        """Return the shape that the weights fit."""

    def load_public_weights(self, model: keras.Model, file: Path) -> None:
        """Load the weights into a network of that shape; the last layer stays as it is for another number of classes.

        Raises:
            UsageError: The file cannot be read, or has the weights of another network.
        """


def with_encoder(shape: Shape, name: EncoderName, owner: str) -> Shape:
    """Return a shape with a backbone of ``keras.applications`` as its encoder.

    Args:
        shape: Any shape.
        name: Name of the backbone.
        owner: Owner of the shape, for the message: "preset 'edge'".

    Raises:
        UsageError: The encoder of the shape cannot be replaced, or not by this backbone.
    """
    if not isinstance(shape, TakesEncoder):
        raise UsageError(
            f"--encoder {name} — {owner} has an encoder of its own — leave --encoder out, or choose another --preset"
        )
    return shape.with_encoder(name)
