"""Everything a training run is told, as one frozen object, and the presets it starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from edge_runtime.errors import UsageError

PresetName = Literal["seed", "classic", "edge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetPlan:
    """The shape of a U-Net.

    Attributes:
        widths: Filters of each level, from the first to the bottleneck; each level but the last is followed by a 2×2
            pooling on the way down and a nearest 2× upsampling on the way up.
        batch_norm: Batch normalisation after each convolution, which then has no bias.
        stem_stride: 2 puts a strided convolution before the first level, and a bilinear 2× upsampling after the logits:
            a quarter of the work, at a small cost in fine borders.
        slim_decoder: A 1×1 convolution halves the channels before each upsampling, and one 3×3 convolution follows the
            skip in place of two: the decoder is most of a U-Net's work.
    """

    widths: tuple[int, ...]
    batch_norm: bool
    stem_stride: Literal[1, 2] = 1
    slim_decoder: bool = False

    @property
    def stride(self) -> int:
        """The factor by which the bottleneck is smaller than the input; height and width must be multiples of it."""
        return int(self.stem_stride * 2 ** (len(self.widths) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A network and the way it is trained by default."""

    plan: UNetPlan
    input_size: tuple[int, int]
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "adamw"]
    schedule: Literal["constant", "cosine"]
    loss: Literal["cross_entropy", "cross_entropy+dice"]
    augment: bool
    validation_fraction: float
    patience: int
    """Epochs without a better mean IoU before training stops; 0 never stops early."""


PRESETS: dict[PresetName, Preset] = {
    # The U-Net this project began with, kept exactly: 406,657 parameters for one channel and two classes.
    "seed": Preset(
        plan=UNetPlan(widths=(64, 128), batch_norm=False),
        input_size=(256, 256),
        epochs=10,
        batch_size=8,
        learning_rate=1e-3,
        optimizer="adam",
        schedule="constant",
        loss="cross_entropy",
        augment=False,
        validation_fraction=0.1,
        patience=0,
    ),
    # Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597; with batch normalisation and
    # same padding, as it is used today.
    "classic": Preset(
        plan=UNetPlan(widths=(64, 128, 256, 512, 1024), batch_norm=True),
        input_size=(256, 256),
        epochs=60,
        batch_size=8,
        learning_rate=1e-3,
        optimizer="adamw",
        schedule="cosine",
        loss="cross_entropy+dice",
        augment=True,
        validation_fraction=0.15,
        patience=15,
    ),
    "edge": Preset(
        plan=UNetPlan(widths=(16, 32, 64, 128, 256), batch_norm=True, stem_stride=2, slim_decoder=True),
        input_size=(256, 256),
        epochs=60,
        batch_size=8,
        learning_rate=2e-3,
        optimizer="adamw",
        schedule="cosine",
        loss="cross_entropy+dice",
        augment=True,
        validation_fraction=0.15,
        patience=20,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What one run is trained with; a preset's values where the user said nothing.

    Attributes:
        preset: Which network.
        height_px: Input height.
        width_px: Input width.
        epochs: Passes over the training split, at most; None leaves the end to ``max_minutes``.
        batch_size: Images a step.
        learning_rate: The highest of the schedule.
        augment: Random flips, scale, crop, brightness and contrast.
        validation_fraction: Share of the training images held out where the dataset has no ``val``.
        patience: Epochs without a better mean IoU before training stops; 0 never stops early.
        max_minutes: The schedule is fitted into this time and training ends with it; None for no limit.
        seed: Of weights, split, order and augmentation.
    """

    preset: PresetName = "edge"
    height_px: int
    width_px: int
    epochs: int | None
    batch_size: int
    learning_rate: float
    augment: bool
    validation_fraction: float
    patience: int
    max_minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the nearest that can."""
        stride = PRESETS[self.preset].plan.stride
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
            (self.learning_rate, "--learning-rate"),
            (1 if self.max_minutes is None else self.max_minutes, "--max-minutes"),
        ):
            if not value > 0:
                raise UsageError(f"{option} {value} — expected a positive number")
        for count, option in ((self.patience, "--patience"), (self.seed, "--seed")):
            if count < 0:
                raise UsageError(f"{option} {count} — expected 0 or more")

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
        start = cls(
            preset=name,  # type: ignore[arg-type]
            height_px=height_px,
            width_px=width_px,
            epochs=None if by_time else preset.epochs,
            batch_size=preset.batch_size,
            learning_rate=preset.learning_rate,
            augment=preset.augment,
            validation_fraction=preset.validation_fraction,
            patience=0 if by_time else preset.patience,
            max_minutes=changes.get("max_minutes"),
        )
        return replace(start, **{key: value for key, value in changes.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON object."""
        return asdict(self)

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Name the settings in which a recorded configuration differs, "key: recorded → now"."""
        now = self.to_dict()
        keys = [f.name for f in fields(self)]
        return [f"{key}: {other.get(key)} → {now[key]}" for key in keys if other.get(key) != now[key]]


def preset_named(name: str) -> Preset:
    """Return a preset, or say which there are."""
    if name not in get_args(PresetName):
        raise UsageError(f"--preset {name} — no such preset — choose one of {', '.join(PRESETS)}")
    return PRESETS[name]  # type: ignore[index]
