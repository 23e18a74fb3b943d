"""The presets: networks with their training settings, the one registry of networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edge_runtime.errors import UsageError
from training.network.deeplab import DeepLabShape
from training.network.fcn import FCNShape
from training.network.segnet import SegNetShape
from training.network.selfie import SelfieShape
from training.network.shape import Shape
from training.network.unet import UNetShape

if TYPE_CHECKING:
    import keras

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of a preset that are rarely changed.

    Attributes:
        optimizer: Adam, AdamW with ``weight_decay``, or Muon, which is AdamW for all but the kernels of convolutions, see
            ``training.loop.muon``. A training from pretrained weights has AdamW instead of Muon.
        schedule: Learning rate schedule.
        weight_decay: Weight decay of the kernels; biases and normalisation parameters are not decayed.
        average_over: Time constant of the moving average of the weights, in steps; the averaged weights are saved. 0
            turns averaging off.
        informed_start: Begin with the shares of the classes as the network's answer, with first filters that answer to
            differences and not to brightness, and with batch normalisation that has seen a batch.
        repeat_rare: Show pictures of rare classes more often, see ``training.input.rarity``.
        deep_supervision: Let heads on the decoder's coarser maps learn, too, see ``training.network.sides``.
        adjust_logits: Adjust the best model's logits to the validation images, see ``training.fit.adjust``.

    Example:
        >>> from training import PRESETS
        >>> PRESETS["seed"].recipe.optimizer
        'adam'
    """

    optimizer: Literal["adam", "adamw", "muon"] = "muon"
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 1e-2
    average_over: int = 500
    informed_start: bool = True
    repeat_rare: bool = True
    deep_supervision: bool = True
    adjust_logits: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A network with its default training settings; ``training.config.TrainConfig`` describes the fields that are not listed here.

    Attributes:
        shape: Shape of the network.
        input_size: (height, width) of the input in pixels; unless ``fixed_size`` is set, only their product is used,
            see ``training.loop.sizes``.
        fixed_size: Use ``input_size`` and ``batch_size`` as given instead of choosing them from the data.
        recipe: Settings that are rarely changed.

    Example:
        >>> from training import PRESETS
        >>> list(PRESETS)[:2]
        ['seed', 'classic']
        >>> PRESETS["classic"].shape.widths
        (64, 128, 256, 512, 1024)
    """

    shape: Shape
    input_size: tuple[int, int] = (256, 256)
    fixed_size: bool = False
    epochs: int = 60
    batch_size: int = 4
    learning_rate: float = 4e-3
    loss: str = "cross_entropy+2*dice"
    class_weights: bool = True
    label_smoothing: float = 0.0
    augment: bool = True
    precision: Precision = "auto"
    validation_fraction: float = 0.15
    patience: int = 20
    recipe: Recipe = Recipe()


_EDGE = UNetShape(
    widths=(32, 48, 96, 160, 256),
    batch_norm=True,
    stem_stride=2,
    slim_decoder=True,
    convolutions=1,
    context=True,
)


PRESETS: dict[str, Preset] = {
    # The U-Net this project began with, kept exactly: 406,657 parameters for one channel and two classes.
    "seed": Preset(
        shape=UNetShape(widths=(64, 128), batch_norm=False),
        fixed_size=True,
        epochs=10,
        batch_size=8,
        learning_rate=1e-3,
        loss="cross_entropy",
        class_weights=False,
        augment=False,
        precision="float32",
        validation_fraction=0.1,
        patience=0,
        recipe=Recipe(
            optimizer="adam",
            schedule="constant",
            weight_decay=0.0,
            average_over=0,
            informed_start=False,
            repeat_rare=False,
            deep_supervision=False,
            adjust_logits=False,
        ),
    ),
    # Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597; with batch normalisation and
    # same padding, as it is used today.
    "classic": Preset(shape=UNetShape(widths=(64, 128, 256, 512, 1024), batch_norm=True), patience=15),
    "edge-nano": Preset(
        shape=replace(
            _EDGE, widths=(16, 32, 64, 96), stem_stride=4, block="reparameterised", convolutions=2, context=False
        )
    ),
    "edge": Preset(shape=_EDGE),
    "edge-large": Preset(shape=replace(_EDGE, widths=(32, 64, 128, 256, 384))),
    # The shape of a webcam's picture, at which the public weights are better than at the square of their origin.
    "selfie": Preset(shape=SelfieShape(), input_size=(240, 320)),
    # The methods beside the U-Net: at a size for CPUs, and with all filters of the papers.
    "fcn": Preset(shape=FCNShape(widths=(16, 32, 64, 128, 128), head_width=256)),
    "fcn-vgg16": Preset(shape=FCNShape(widths=(64, 128, 256, 512, 512), head_width=4096)),
    "segnet": Preset(shape=SegNetShape(widths=(16, 32, 64, 128, 128))),
    "segnet-vgg16": Preset(shape=SegNetShape(widths=(64, 128, 256, 512, 512))),
    "deeplab": Preset(
        shape=DeepLabShape(
            widths=(24, 32, 48, 96, 160, 192, 192, 256),
            middle_blocks=1,
            pyramid_width=64,
            skip_width=32,
            rates=(3, 6, 9),
        )
    ),
    "deeplab-xception": Preset(
        shape=DeepLabShape(
            widths=(32, 64, 128, 256, 728, 1024, 1536, 2048),
            middle_blocks=16,
            pyramid_width=256,
            skip_width=48,
            rates=(6, 12, 18),
        )
    ),
}


def preset_named(name: str) -> Preset:
    """Return a preset by name, or raise a UsageError that lists all names."""
    preset = PRESETS.get(name)
    if preset is None:
        raise UsageError(f"--preset {name} — no such preset — choose one of {', '.join(PRESETS)}")
    return preset


def build(
    network: Shape | str, *, input_size: tuple[int, int], classes: int, channels: Literal[1, 3] = 3
) -> keras.Model:
    """Build a network with random weights, as it is saved after training: stock Keras layers in float32.

    Args:
        network: A shape, or the name of a preset.
        input_size: (height, width) of the input in pixels, multiples of the shape's stride.
        classes: Number of classes, 2 or more; a model of 2 has one output channel.
        channels: 1 for grey, 3 for RGB.

    Returns:
        A model from (N, H, W, channels) float32 pixels in 0–255 to probabilities, (N, H, W, classes) or (N, H, W, 1).

    Raises:
        UsageError: The preset is unknown, or the size or number of classes cannot work.

    Example:
        >>> from training import UNetShape, build
        >>> build("edge-nano", input_size=(64, 96), classes=5).output_shape
        (None, 64, 96, 5)
        >>> build(UNetShape(widths=(4, 8), batch_norm=True), input_size=(8, 8), classes=2, channels=1).output_shape
        (None, 8, 8, 1)
    """
    shape = preset_named(network).shape if isinstance(network, str) else network
    height_px, width_px = input_size
    refuse_size(height_px, width_px, shape.stride, f"preset '{network}'" if isinstance(network, str) else "the network")
    if classes < 2:
        raise UsageError(f"classes {classes} — expected 2 or more — count the background too")
    return shape.build(
        height_px=height_px, width_px=width_px, channels=channels, logit_channels=1 if classes == 2 else classes
    )


def refuse_size(height_px: int, width_px: int, stride: int, owner: str, option: str = "--input-size") -> None:
    """Refuse a size that is not a multiple of the stride, and name the nearest one."""
    for side, name in ((height_px, "height"), (width_px, "width")):
        if side < stride or side % stride:
            below, above = max(stride, side // stride * stride), (side // stride + 1) * stride
            nearest = f"{below} or {above}" if below != above and side > stride else f"{max(stride, below)}"
            raise UsageError(
                f"{option} {height_px}x{width_px}: {name} is {side} — {owner} needs a multiple of {stride} — "
                f"use {nearest}"
            )
