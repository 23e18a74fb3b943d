"""Everything a training run is told, as one frozen object, and the presets it starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from edge_runtime.errors import UsageError
from training.losses.spec import parse_loss
from training.network.shape import EncoderName, Shape, with_encoder
from training.network.unet import UNetShape

PresetName = Literal["seed", "classic", "edge-nano", "edge", "edge-large"]
Precision = Literal["auto", "float32", "bfloat16"]
Setting = Literal["input_size", "batch_size"]
"""A setting that can be chosen from the data and the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained, beyond what one usually changes.

    Attributes:
        optimizer: Adam, or AdamW with ``weight_decay``.
        schedule: Of the learning rate.
        weight_decay: Of kernels alone: shrinking biases and normalisation parameters only hurts.
        average_over: Steps that the average of the weights looks back on; the average is what ships. 0 for none.
    """

    optimizer: Literal["adam", "adamw"] = "adamw"
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 1e-2
    average_over: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A network and the way it is trained by default.

    Attributes:
        shape: The network.
        input_size: Height and width; where ``fixed_size`` is not set only their product counts, see ``training.loop.sizes``.
        fixed_size: Take ``input_size`` and ``batch_size`` as they are, whatever the data.
        patience: Epochs without a better mean IoU before training stops; 0 never stops early.
    """

    shape: Shape
    input_size: tuple[int, int] = (256, 256)
    fixed_size: bool = False
    epochs: int = 60
    batch_size: int = 8
    learning_rate: float = 2e-3
    loss: str = "cross_entropy+dice"
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


PRESETS: dict[PresetName, Preset] = {
    # The U-Net this project began with, kept exactly: 406,657 parameters for one channel and two classes.
    "seed": Preset(
        shape=UNetShape(widths=(64, 128), batch_norm=False),
        fixed_size=True,
        epochs=10,
        learning_rate=1e-3,
        loss="cross_entropy",
        class_weights=False,
        augment=False,
        precision="float32",
        validation_fraction=0.1,
        patience=0,
        recipe=Recipe(optimizer="adam", schedule="constant", weight_decay=0.0, average_over=0),
    ),
    # Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597; with batch normalisation and
    # same padding, as it is used today.
    "classic": Preset(
        shape=UNetShape(widths=(64, 128, 256, 512, 1024), batch_norm=True), learning_rate=1e-3, patience=15
    ),
    "edge-nano": Preset(
        shape=replace(
            _EDGE, widths=(16, 32, 64, 96), stem_stride=4, block="reparameterised", convolutions=2, context=False
        )
    ),
    "edge": Preset(shape=_EDGE),
    "edge-large": Preset(shape=replace(_EDGE, widths=(32, 64, 128, 256, 384))),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What one run is trained with; a preset's values where the user said nothing.

    Attributes:
        preset: Which network and recipe.
        height_px: Input height.
        width_px: Input width.
        epochs: Passes over the training split, at most; None leaves the end to ``max_minutes``.
        batch_size: Images a step.
        accumulate: Steps whose gradients make one change of the weights.
        learning_rate: The highest of the schedule.
        loss: A sum of losses, see ``training.losses``.
        class_weights: Weigh rare classes higher in the loss.
        label_smoothing: Share of each label that is spread over all classes.
        augment: Random geometry and light.
        mix: Share of the pictures of a batch that get a rectangle of another one, see ``training.input.augment.mix``.
        precision: Of the arithmetic; "auto" is bfloat16 where the device multiplies in it. Weights are float32 always.
        encoder: Take the way down from a network of ``keras.applications``.
        encoder_weights: "imagenet", a file, or None for random ones.
        validation_fraction: Share of the training images held out where the dataset has no ``val``.
        group_by: Pattern on the file name whose group stays in one split.
        val_groups: Groups of the training images to validate on, in place of ``val``.
        patience: Epochs without a better mean IoU before training stops; 0 never stops early.
        max_minutes: The schedule is fitted into this time and training ends with it; None for no limit.
        seed: Random seed for weights, split, order and augmentation.
        from_data: Settings that ``training.train`` chooses from the data and the memory in place of the values here:
            ``from_preset`` names those that the caller did not give.
    """

    preset: PresetName = "edge"
    height_px: int
    width_px: int
    epochs: int | None
    batch_size: int
    accumulate: int = 1
    learning_rate: float
    loss: str
    class_weights: bool
    label_smoothing: float
    augment: bool
    mix: float = 0.0
    precision: Precision
    encoder: EncoderName | None = None
    encoder_weights: str | None = None
    validation_fraction: float
    group_by: str | None = None
    val_groups: tuple[str, ...] = ()
    patience: int
    max_minutes: float | None = None
    seed: int = 0
    from_data: frozenset[Setting] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the nearest that can."""
        stride = self.shape.stride
        for side, name in ((self.height_px, "height"), (self.width_px, "width")):
            if side < stride or side % stride:
                below, above = max(stride, side // stride * stride), (side // stride + 1) * stride
                nearest = f"{below} or {above}" if below != above and side > stride else f"{max(stride, below)}"
                raise UsageError(
                    f"--input-size {self.height_px}x{self.width_px}: {name} is {side} — preset '{self.preset}' needs a "
                    f"multiple of {stride} — use {nearest}"
                )
        if self.epochs is None and self.max_minutes is None:
            raise UsageError("training has no end — pass --epochs or --max-minutes")
        for value, option in (
            (1 if self.epochs is None else self.epochs, "--epochs"),
            (self.batch_size, "--batch-size"),
            (self.accumulate, "--accumulate"),
            (self.learning_rate, "--learning-rate"),
            (1 if self.max_minutes is None else self.max_minutes, "--max-minutes"),
        ):
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{option} {value} — expected a positive number")
        for count, option in ((self.patience, "--patience"), (self.seed, "--seed")):
            if count < 0:
                raise UsageError(f"{option} {count} — expected 0 or more")
        for share, option in (
            (self.label_smoothing, "--label-smoothing"),
            (self.mix, "--mix"),
            (self.validation_fraction, "--val-fraction"),
        ):
            if not 0 <= share < 1:
                raise UsageError(f"{option} {share} — expected a number from 0 up to, not including, 1")
        parse_loss(self.loss)  # refuses what there is not, before anything is read
        if self.encoder_weights and not self.encoder:
            raise UsageError(
                f"--encoder-weights {self.encoder_weights} — without --encoder — name the encoder they are of"
            )

    @classmethod
    def from_preset(cls, name: str, *, input_size: tuple[int, int] | None = None, **changes: Any) -> TrainConfig:
        """Return a preset's configuration with the changes that are not None.

        A time limit alone replaces the preset's epochs and patience: the time is meant to be used.

        Raises:
            UsageError: No such preset, or values that cannot work.
        """
        preset = preset_named(name)
        height_px, width_px = input_size or preset.input_size
        by_time = changes.get("max_minutes") is not None and changes.get("epochs") is None
        chosen: dict[Setting, object] = {"input_size": input_size, "batch_size": changes.get("batch_size")}
        start = cls(
            preset=name,  # type: ignore[arg-type]
            height_px=height_px,
            width_px=width_px,
            epochs=None if by_time else preset.epochs,
            batch_size=preset.batch_size,
            learning_rate=preset.learning_rate,
            loss=preset.loss,
            class_weights=preset.class_weights,
            label_smoothing=preset.label_smoothing,
            augment=preset.augment,
            precision=preset.precision,
            validation_fraction=preset.validation_fraction,
            patience=0 if by_time else preset.patience,
            max_minutes=changes.get("max_minutes"),
            from_data=frozenset(name for name, value in chosen.items() if value is None),
        )
        return replace(start, **{key: value for key, value in changes.items() if value is not None})

    @property
    def recipe(self) -> Recipe:
        """How the preset's network is trained."""
        return PRESETS[self.preset].recipe

    @property
    def shape(self) -> Shape:
        """The network: the preset's, with the encoder that was asked for."""
        shape = PRESETS[self.preset].shape
        return with_encoder(shape, self.encoder, f"preset '{self.preset}'") if self.encoder else shape

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON object."""
        value = {**asdict(self), "val_groups": list(self.val_groups)}
        del value["from_data"]  # a run has the sizes that were chosen
        return value

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Name the settings in which a recorded configuration differs, "key: recorded → now"."""
        now = self.to_dict()
        return [f"{key}: {other.get(key)} → {now[key]}" for key in now if other.get(key) != now[key]]


def preset_named(name: str) -> Preset:
    """Return a preset, or say which there are."""
    preset = PRESETS.get(name)  # type: ignore[call-overload]
    if preset is None:
        raise UsageError(f"--preset {name} — no such preset — choose one of {', '.join(PRESETS)}")
    return preset
