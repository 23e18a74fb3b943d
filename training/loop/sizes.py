"""Choose the input size and batch size that the user has not set, from the data and the free memory, with reasons.

The idea is nnU-Net's: a value that follows from the data is a rule and not a setting.

Reference: Isensee et al.: nnU-Net, Nature Methods 2021. https://arxiv.org/abs/1904.08128
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.errors import UsageError
from edge_runtime.resources import available_memory
from training.config import PRESETS, TrainConfig
from training.data.check import DatasetReport
from training.loop.run_record import RunSetup

if TYPE_CHECKING:
    import keras

MIN_STEPS = 10
"""Steps per epoch below which the batch is made smaller: a small dataset needs steps more than smooth gradients."""
MIN_BATCH = 4
"""Smallest batch that is chosen if the memory allows, because batch normalisation is noisy with smaller ones."""
MEMORY_SHARE = 0.8
"""Largest share of the available memory that a training step is estimated to take."""
BACKWARD_FACTOR = 1.5
"""Memory per picture in a training step relative to that of all layers' outputs; 0.95 to 1.3 were measured."""
FIXED_BYTES = 500 * 10**6
"""Bytes that TensorFlow takes before the first picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFacts:
    """Facts from which the sizes are chosen.

    Attributes:
        image_sizes: (height, width) in pixels of each training image.
        stride: Number of pixels that must divide height and width of the input.
        pixels: Height × width of the preset's input, for which the network is designed.
        batch_size: The preset's batch size.
        output_bytes_per_pixel: Bytes of all layers' outputs per input pixel, see the function of that name.
        parameters: Parameters of the network.
        memory_bytes: Free memory of the training device in bytes.
    """

    image_sizes: Sequence[tuple[int, int]]
    stride: int
    pixels: int
    batch_size: int
    output_bytes_per_pixel: float
    parameters: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSizes:
    """Input and batch size to train with.

    Attributes:
        height_px: Input height in pixels.
        width_px: Input width in pixels.
        batch_size: Images per step.
        reasons: Reasons, one line per size that was chosen.
    """

    height_px: int
    width_px: int
    batch_size: int
    reasons: tuple[str, ...]


def with_sizes(
    config: TrainConfig, report: DatasetReport, before: RunSetup | None = None
) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return a configuration whose open settings (``from_data``) are chosen, and the reasons in lines to print.

    Args:
        config: Configuration of the run.
        report: The checked dataset.
        before: Setup of an earlier part of the run; its sizes are kept, whatever memory is free now.

    Raises:
        UsageError: The memory is too small for one picture of the input size, or for the batch that the user wants.
    """
    open_settings, preset = config.from_data, PRESETS[config.preset]
    input_size = None if "input_size" in open_settings else (config.height_px, config.width_px)
    batch_size = None if "batch_size" in open_settings else config.batch_size
    if before is not None:
        input_size = input_size or (before.config["height_px"], before.config["width_px"])
        batch_size = batch_size or before.config["batch_size"]
    if preset.fixed_size:
        input_size, batch_size = input_size or preset.input_size, batch_size or preset.batch_size
    shape = config.shape
    small = shape.build(
        height_px=shape.stride,
        width_px=shape.stride,
        channels=report.channels,
        logit_channels=len(report.info.classes),
    )
    facts = SizeFacts(
        image_sizes=[report.shapes[pair] for pair in report.dataset.splits.get("train", ())] or [preset.input_size],
        stride=shape.stride,
        pixels=math.prod(preset.input_size),
        batch_size=preset.batch_size,
        output_bytes_per_pixel=output_bytes_per_pixel(small),
        parameters=small.count_params(),
        memory_bytes=available_memory(),
    )
    sizes = choose_sizes(facts, input_size=input_size, batch_size=batch_size)
    chosen = replace(
        config,
        height_px=sizes.height_px,
        width_px=sizes.width_px,
        batch_size=sizes.batch_size,
        from_data=frozenset(),
    )
    return chosen, sizes.reasons


def choose_sizes(
    facts: SizeFacts, *, input_size: tuple[int, int] | None = None, batch_size: int | None = None
) -> TrainingSizes:
    """Choose input size and batch size.

    Args:
        facts: Facts about the data, the network and the memory.
        input_size: (height, width) in pixels if the user has chosen it.
        batch_size: Batch size if the user has chosen it.

    Raises:
        UsageError: The memory is too small for one picture of the input size, or for the batch that the user wants.
    """
    lines = []
    if input_size is None:
        input_size, reason = _input_size(facts)
        lines.append(reason)
    height_px, width_px = input_size
    fixed, each = _step_bytes(facts, height_px, width_px)
    room = int((MEMORY_SHARE * facts.memory_bytes - fixed) / each)
    if room < (batch_size or 1):
        raise UsageError(
            f"--batch-size {batch_size or 1} --input-size {height_px}x{width_px} — training takes about "
            f"{(fixed + (batch_size or 1) * each) / 1e9:.1f} GB — {facts.memory_bytes / 1e9:.1f} GB of memory are free — "
            + ("choose a smaller --input-size" if room < 1 else f"choose --batch-size {room} or a smaller --input-size")
        )
    if batch_size is None:
        batch_size, reason = _batch_size(facts, room)
        steps = math.ceil(len(facts.image_sizes) / batch_size)
        lines.append(
            f"batch size {batch_size}: {reason}; {steps} steps per epoch, about "
            f"{(fixed + batch_size * each) / 1e9:.1f} of {facts.memory_bytes / 1e9:.1f} GB of memory"
        )
    return TrainingSizes(height_px=height_px, width_px=width_px, batch_size=batch_size, reasons=tuple(lines))


def output_bytes_per_pixel(model: keras.Model) -> float:
    """Return the bytes of all layers' float32 outputs per pixel of the input.

    For a convolutional network this hardly depends on the size for which the model was built.
    """
    return 4 * _output_values(model) / math.prod(model.input_shape[1:3])


def _output_values(model: keras.Model) -> int:
    """Return the number of values that all layers of a model, nested ones included, output for one picture."""
    return sum(
        _output_values(layer) if hasattr(layer, "layers") else math.prod(layer.output.shape[1:])
        for layer in model.layers
    )


def _input_size(facts: SizeFacts) -> tuple[tuple[int, int], str]:
    """Return the multiples of the stride nearest to the preset's pixels in the median image's shape, and the reason."""
    height, width = (float(side) for side in np.median(np.array(facts.image_sizes), axis=0))
    scale = math.sqrt(facts.pixels / (height * width))
    heights, widths = (_multiples(min(side * scale, side), side, facts.stride) for side in (height, width))

    def distance(size: tuple[int, int]) -> float:
        shape = math.log(size[0] / size[1] * width / height)
        amount = math.log(size[0] * size[1] / min(facts.pixels, height * width))
        return abs(shape) + abs(amount)

    best = min(product(heights, widths), key=distance)
    images = f"the images ({height:.0f}x{width:.0f}, their median)"
    if scale > 1:
        reason = f"{images} are no larger"
    else:
        reason = f"the preset's {facts.pixels:,} pixels in the shape of {images}"
    return best, f"input size {best[0]}x{best[1]}: {reason}, in multiples of {facts.stride}"


def _multiples(wanted: float, most: float, stride: int) -> list[int]:
    """Return the multiples of the stride below and above a side; only the smallest one may exceed the image's side."""
    below = max(1, math.floor(wanted / stride)) * stride
    return [below, below + stride] if below + stride <= most else [below]


def _batch_size(facts: SizeFacts, room: int) -> tuple[int, str]:
    images = len(facts.image_sizes)
    size, reason = facts.batch_size, "the preset's"
    while size > MIN_BATCH and images / size < MIN_STEPS:
        size, reason = max(MIN_BATCH, size // 2), f"smaller than the preset's {facts.batch_size}, for {images} images"
    if size > room:
        return room, f"all that fits into the memory, the preset's is {facts.batch_size}"
    return size, reason


def _step_bytes(facts: SizeFacts, height_px: int, width_px: int) -> tuple[float, float]:
    """Return the estimated bytes of a training step: a fixed part, and a part per picture.

    Each parameter is stored four times: its value, its gradient and the optimizer's two moments.
    """
    fixed = FIXED_BYTES + 4 * 4 * facts.parameters
    return fixed, BACKWARD_FACTOR * facts.output_bytes_per_pixel * height_px * width_px
