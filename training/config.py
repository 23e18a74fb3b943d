"""Configuration of a training run as one frozen object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from edge_runtime.errors import UsageError
from training.losses.spec import parse_loss
from training.network.shape import EncoderName, Shape, TakesPublicWeights, with_encoder
from training.presets import PRESETS, Precision, Recipe, preset_named, refuse_size

Setting = Literal["input_size", "batch_size"]
"""Name of a setting that is chosen from the data and the free memory if the user does not give it."""
Flip = Literal["none", "horizontal", "both"]
"""Directions in which pictures are flipped at random: "both" is left to right and upside down."""
GENTLE = 0.025
"""Learning rate relative to the preset's where training starts from public weights, which larger steps would destroy."""
FOR_PRETRAINED_ENCODER = 0.5
"""Learning rate relative to the preset's where the encoder has pretrained weights: AdamW's, not Muon's."""
_PUBLISHER = "mediapipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Configuration of a training run.

    Attributes:
        preset: Name of the preset that gives network and recipe.
        height_px: Input height in pixels.
        width_px: Input width in pixels.
        crop: (height, width) in pixels of the part of the input that a training step sees of each image, at a random
            place; None for the whole input. Chosen with the input size if neither is given.
        epochs: Maximum number of epochs; None trains until ``max_minutes`` is over.
        batch_size: Images per step.
        accumulate: Steps per update of the weights, which uses the mean of their gradients.
        learning_rate: Peak learning rate of the schedule.
        loss: Sum of losses, such as "cross_entropy+dice"; see ``training.losses``.
        class_weights: Give rare classes a higher weight in the loss.
        label_smoothing: Share of each label that is spread over all classes.
        augment: Augment training images by random geometry and light.
        flip: Directions in which augmentation flips images; None chooses from the data, see ``training.input.flips``.
        mix: Share of images that receive a CutMix patch, see ``training.input.augment.mix``.
        precision: Precision of the arithmetic; "auto" is bfloat16 on devices with bfloat16 arithmetic, else float32.
            Weights are always float32.
        encoder: Name of the ``keras.applications`` backbone used as encoder; None for the preset's own encoder.
        encoder_weights: Backbone weights: "imagenet", the path of a file, or None for random weights.
        start_from: Public weights to start from, "mediapipe:FILE"; None for random weights.
        validation_fraction: Share of the training images held out if the dataset has no ``val``.
        group_by: Regular expression with one group in brackets on file names; images with the same match of the group
            stay in one split.
        val_groups: Groups of training images to validate on instead of ``val``.
        patience: Epochs without a better mean IoU before training stops; 0 never stops early.
        max_minutes: Time limit in minutes, into which the learning rate schedule is fitted; None for no limit.
        seed: Random seed for weights, split, order and augmentation.
        from_data: Settings whose values here ``training.train`` replaces by ones chosen from the data and the free
            memory; ``from_preset`` lists those that the caller did not give. A setting whose value is not the preset's is
            never among them, so that ``dataclasses.replace(config, batch_size=2)`` trains with a batch of 2.

    Example:
        >>> from training import TrainConfig
        >>> config = TrainConfig.from_preset("edge", max_minutes=30, seed=7)
        >>> config.loss, config.learning_rate
        ('cross_entropy+2*dice', 0.004)
        >>> sorted(config.from_data)
        ['batch_size', 'input_size']
    """

    preset: str = "edge"
    height_px: int
    width_px: int
    crop: tuple[int, int] | None = None
    epochs: int | None
    batch_size: int
    accumulate: int = 1
    learning_rate: float
    loss: str
    class_weights: bool
    label_smoothing: float
    augment: bool
    flip: Flip | None = None
    mix: float = 0.0
    precision: Precision
    encoder: EncoderName | None = None
    encoder_weights: str | None = None
    start_from: str | None = None
    validation_fraction: float
    group_by: str | None = None
    val_groups: tuple[str, ...] = ()
    patience: int
    max_minutes: float | None = None
    seed: int = 0
    from_data: frozenset[Setting] = field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, and name the nearest ones that can; keep sizes that are not the preset's."""
        preset = preset_named(self.preset)
        given: set[Setting] = set()
        if (self.height_px, self.width_px) != preset.input_size:
            given.add("input_size")
        if self.batch_size != preset.batch_size:
            given.add("batch_size")
        object.__setattr__(self, "from_data", self.from_data - given)
        refuse_size(self.height_px, self.width_px, self.shape.stride, f"preset '{self.preset}'")
        if self.crop is not None:
            self._refuse_crop(self.crop)
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
        if self.flip not in (None, *get_args(Flip)):
            raise UsageError(f"--flip {self.flip} — expected {', '.join(get_args(Flip))}")
        if self.flip not in (None, "none") and not self.augment:
            raise UsageError(f"--flip {self.flip} — with --no-augment, which flips nothing — leave one of them out")
        if self.start_from is not None:
            self._refuse_start(self.start_from)
        parse_loss(self.loss)  # refuses unknown losses before any file is read
        if self.encoder_weights and not self.encoder:
            raise UsageError(
                f"--encoder-weights {self.encoder_weights} — without --encoder — name the encoder they are of"
            )

    @classmethod
    def from_preset(cls, name: str, *, input_size: tuple[int, int] | None = None, **changes: Any) -> TrainConfig:
        """Return a preset's configuration with the changes that are not None.

        ``max_minutes`` without ``epochs`` replaces the preset's epochs and patience, because the whole time is meant to
        be used. With ``start_from``, the learning rate is ``GENTLE`` times the preset's, with ``encoder_weights``
        ``FOR_PRETRAINED_ENCODER`` times.

        Args:
            name: A key of ``PRESETS``.
            input_size: (height, width) of the model's input in pixels.
            changes: Attributes of the configuration by name; ``height_px`` and ``width_px`` replace the sides of
                ``input_size``, or of the preset's input size.

        Raises:
            UsageError: The preset is unknown, or a value cannot work.

        Example:
            >>> from training import TrainConfig
            >>> TrainConfig.from_preset("edge-nano", input_size=(64, 96), epochs=3).width_px
            96
        """
        preset = preset_named(name)
        height_px, width_px = input_size or preset.input_size
        by_time = changes.get("max_minutes") is not None and changes.get("epochs") is None
        chosen: dict[Setting, object] = {
            "input_size": input_size or changes.get("height_px") or changes.get("width_px"),
            "batch_size": changes.get("batch_size"),
        }
        factor = 1.0
        if changes.get("start_from"):
            factor = GENTLE
        elif changes.get("encoder_weights"):
            factor = FOR_PRETRAINED_ENCODER
        start = cls(
            preset=name,
            height_px=height_px,
            width_px=width_px,
            epochs=None if by_time else preset.epochs,
            batch_size=preset.batch_size,
            learning_rate=preset.learning_rate * factor,
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
        """The preset's settings that are rarely changed."""
        return preset_named(self.preset).recipe

    def _refuse_crop(self, crop: tuple[int, int]) -> None:
        """Refuse a crop that is no part of the input, or that cannot be placed because nothing is augmented."""
        height_px, width_px = crop
        refuse_size(height_px, width_px, self.shape.stride, f"preset '{self.preset}'", "--crop")
        open_size = "input_size" in self.from_data
        if not open_size and (height_px > self.height_px or width_px > self.width_px):
            raise UsageError(
                f"--crop {height_px}x{width_px} — the input is {self.height_px}x{self.width_px} — expected a part of it — "
                "choose a smaller --crop or a larger --input-size"
            )
        if not self.augment:
            raise UsageError(
                f"--crop {height_px}x{width_px} — with --no-augment, which shows whole images — leave one of them out"
            )

    def _refuse_start(self, start: str) -> None:
        """Refuse public weights that the preset does not take, or that are not named as expected."""
        if self.encoder or not isinstance(preset_named(self.preset).shape, TakesPublicWeights):
            owner = f"--encoder {self.encoder}" if self.encoder else f"preset '{self.preset}'"
            takers = [name for name, preset in PRESETS.items() if isinstance(preset.shape, TakesPublicWeights)]
            raise UsageError(f"--start-from — {owner} has no public weights — choose --preset {' or '.join(takers)}")
        publisher, _, file = start.partition(":")
        if publisher != _PUBLISHER or not file:
            raise UsageError(f"--start-from {start} — expected {_PUBLISHER}:FILE, with the path of a .tflite file")

    @property
    def public_weights(self) -> Path | None:
        """File of the public weights to start from; None for random weights."""
        return None if self.start_from is None else Path(self.start_from.partition(":")[2])

    @property
    def step_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what a training step sees of each image."""
        return self.crop or (self.height_px, self.width_px)

    @property
    def shape(self) -> Shape:
        """The preset's shape, with ``encoder`` as its encoder if one is set, or as its public weights need it."""
        shape = preset_named(self.preset).shape
        if self.start_from is not None and isinstance(shape, TakesPublicWeights):
            return shape.for_public_weights()
        return with_encoder(shape, self.encoder, f"preset '{self.preset}'") if self.encoder else shape

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON object."""
        value = {**asdict(self), "crop": self.crop and list(self.crop), "val_groups": list(self.val_groups)}
        del value["from_data"]  # the sizes of a run are already chosen
        return value

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return a line "key: recorded → now" for each setting in which a recorded configuration differs."""
        now = self.to_dict()
        return [f"{key}: {other.get(key)} → {now[key]}" for key in now if other.get(key) != now[key]]
