"""Choose the input size, crop and batch size that the user has not set, from the data and the free memory, with reasons.

The idea is nnU-Net's: a value that follows from the data is a rule and not a setting.

Reference: Isensee et al.: nnU-Net, Nature Methods 2021. https://arxiv.org/abs/1904.08128
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edge_runtime.dataset.sampling import spread
from edge_runtime.errors import UsageError
from edge_runtime.resources import available_memory
from edge_runtime.storage import printable
from training.config import TrainConfig
from training.data.check import DatasetReport
from training.data.dataset import read_class_ids
from training.data.thickness import thickness
from training.loop.run_record import RunSetup
from training.presets import PRESETS

if TYPE_CHECKING:
    import keras

DETAIL_PX = 2.0
"""Thickness in pixels of the input that the median class should have: thinner ones vanish behind a stem of stride 2."""
MAX_PIXELS = 4
"""Largest input that is chosen for thin classes, relative to the preset's: the model takes as many times as long."""
MAX_ENLARGEMENT = 2.0
"""Largest factor by which the input is larger than the images."""
SAMPLE = 200
"""Number of training masks whose classes are measured."""
MEMORY_SHARE = 0.8
"""Largest share of the available memory that a training step is estimated to take."""
BACKWARD_FACTOR = 1.5
"""Memory per picture in a training step relative to that of all layers' outputs; 0.95 to 1.3 were measured."""
FIXED_BYTES = 500 * 10**6
"""Bytes that TensorFlow takes before the first picture."""


class ThinClass(NamedTuple):
    """Name of a class and its thickness relative to the square root of an image's pixels, see ``training.data.thickness``."""

    name: str
    thickness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFacts:
    """Facts from which the sizes are chosen.

    Attributes:
        image_sizes: (height, width) in pixels of each training image.
        median_class: Class of median thickness, see ``_median_class``; None if it does not matter.
        stride: Number of pixels that must divide height and width of the input.
        pixels: Height × width of the preset's input, for which the network is designed.
        batch_size: The preset's batch size.
        output_bytes_per_pixel: Bytes of all layers' outputs per input pixel, see the function of that name.
        parameters: Parameters of the network.
        memory_bytes: Free memory of the training device in bytes.
    """

    image_sizes: Sequence[tuple[int, int]]
    median_class: ThinClass | None = None
    stride: int
    pixels: int
    batch_size: int
    output_bytes_per_pixel: float
    parameters: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSizes:
    """Input size, crop and batch size to train with.

    Attributes:
        height_px: Input height in pixels.
        width_px: Input width in pixels.
        crop: (height, width) in pixels of the part of the input that a step sees of each image; None for the whole.
        batch_size: Images per step.
        reasons: Reasons, one line per size that was chosen.
    """

    height_px: int
    width_px: int
    crop: tuple[int, int] | None
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
    crop = config.crop
    batch_size = None if "batch_size" in open_settings else config.batch_size
    if before is not None:
        recorded = before.config
        if input_size is None:
            input_size = recorded["height_px"], recorded["width_px"]
            crop = crop or (tuple(recorded["crop"]) if recorded.get("crop") else None)
        batch_size = batch_size or recorded["batch_size"]
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
        median_class=_median_class(report) if input_size is None and config.augment else None,
        stride=shape.stride,
        pixels=math.prod(preset.input_size),
        batch_size=preset.batch_size,
        output_bytes_per_pixel=output_bytes_per_pixel(small),
        parameters=small.count_params(),
        memory_bytes=available_memory(),
    )
    sizes = choose_sizes(facts, input_size=input_size, crop=crop, batch_size=batch_size)
    chosen = replace(
        config,
        height_px=sizes.height_px,
        width_px=sizes.width_px,
        crop=sizes.crop,
        batch_size=sizes.batch_size,
        from_data=frozenset(),
    )
    return chosen, sizes.reasons


def _median_class(report: DatasetReport) -> ThinClass | None:
    """Return the class of the training masks of median thickness, without the thickest, which is usually background.

    A thin class among others does not make the input larger: on CamVid, whose poles are thin, that found fewer poles.
    """
    pairs = spread(report.dataset.splits.get("train", ()), SAMPLE)
    found = thickness((read_class_ids(pair, report.key) for pair in pairs), len(report.info.classes))
    by_thickness = sorted((float(t), c.name) for t, c in zip(found, report.info.classes, strict=True) if t > 0)
    thinner = by_thickness[:-1]
    if not thinner:
        return None
    middle, name = thinner[(len(thinner) - 1) // 2]
    return ThinClass(name=name, thickness=middle)


def choose_sizes(
    facts: SizeFacts,
    *,
    input_size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> TrainingSizes:
    """Choose input size, crop and batch size.

    Args:
        facts: Facts about the data, the network and the memory.
        input_size: (height, width) in pixels if the user has chosen it; the crop is then not chosen either.
        crop: (height, width) in pixels of the crop if the user has chosen it.
        batch_size: Batch size if the user has chosen it.

    Raises:
        UsageError: The memory is too small for one picture of the input size, or for the batch that the user wants.
    """
    lines = []
    if input_size is None:
        input_size, planned, reason = _input_size(facts)
        lines.append(reason)
        if crop is None and planned is not None:
            crop = planned
            lines.append(
                f"crop {crop[0]}x{crop[1]}: the preset's {facts.pixels:,} pixels; each step sees a random part of this "
                "size of each image"
            )
    step_px = crop or input_size
    fixed, each = _step_bytes(facts, *step_px)
    room = int((MEMORY_SHARE * facts.memory_bytes - fixed) / each)
    if room < (batch_size or 1):
        option = "--crop" if crop else "--input-size"
        raise UsageError(
            f"--batch-size {batch_size or 1} {option} {step_px[0]}x{step_px[1]} — training takes about "
            f"{(fixed + (batch_size or 1) * each) / 1e9:.1f} GB — {facts.memory_bytes / 1e9:.1f} GB of memory are free — "
            + (f"choose a smaller {option}" if room < 1 else f"choose --batch-size {room} or a smaller {option}")
        )
    if batch_size is None:
        batch_size, reason = _batch_size(facts, room)
        steps = math.ceil(len(facts.image_sizes) / batch_size)
        lines.append(
            f"batch size {batch_size}: {reason}; {steps} steps per epoch, about "
            f"{(fixed + batch_size * each) / 1e9:.1f} of {facts.memory_bytes / 1e9:.1f} GB of memory"
        )
    return TrainingSizes(
        height_px=input_size[0], width_px=input_size[1], crop=crop, batch_size=batch_size, reasons=tuple(lines)
    )


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


def _input_size(facts: SizeFacts) -> tuple[tuple[int, int], tuple[int, int] | None, str]:
    """Return the input size, the crop, and the reason.

    The input has the preset's pixels in the median image's shape, or the pixels of the image if those are fewer. If the
    median class would be thinner there than ``DETAIL_PX``, the input is larger, and the crop has those pixels.
    """
    height, width = (float(side) for side in np.median(np.array(facts.image_sizes), axis=0))
    usual = min(facts.pixels, height * width)
    of_images = f"the images ({height:.0f}x{width:.0f}, their median)"
    crop = _nearest_size(height, width, usual, facts.stride)
    if facts.median_class is not None and (DETAIL_PX / facts.median_class.thickness) ** 2 > usual:
        name, relative = facts.median_class
        pixels = min((DETAIL_PX / relative) ** 2, MAX_PIXELS * facts.pixels, MAX_ENLARGEMENT**2 * height * width)
        best = _nearest_size(height, width, pixels, facts.stride, MAX_ENLARGEMENT)
        factor = math.prod(best) / math.prod(crop)
        if factor > 1:
            before_px, px = (relative * math.sqrt(math.prod(size)) for size in (crop, best))
            return (
                best,
                crop,
                f"input size {best[0]}x{best[1]}: '{printable(name)}' is {px:.1f} pixels thick there and would be "
                f"{before_px:.1f} at {crop[0]}x{crop[1]}; a frame takes about {factor:.1f} times as long",
            )
    if facts.pixels > height * width:
        reason = f"{of_images} are no larger"
    else:
        reason = f"the preset's {facts.pixels:,} pixels in the shape of {of_images}"
    return crop, None, f"input size {crop[0]}x{crop[1]}: {reason}, in multiples of {facts.stride}"


def _nearest_size(height: float, width: float, pixels: float, stride: int, most: float = 1.0) -> tuple[int, int]:
    """Return the multiples of the stride nearest to so many pixels in an image's shape, at most so large relative to it."""
    scale = math.sqrt(pixels / (height * width))
    heights, widths = (_multiples(side * scale, side * most, stride) for side in (height, width))

    def distance(size: tuple[int, int]) -> float:
        return abs(math.log(size[0] / size[1] * width / height)) + abs(math.log(size[0] * size[1] / pixels))

    return min(product(heights, widths), key=distance)


def _multiples(wanted: float, most: float, stride: int) -> list[int]:
    """Return the multiples of the stride below and above a side; only the smallest one may exceed the image's side."""
    below = max(1, math.floor(wanted / stride)) * stride
    return [below, below + stride] if below + stride <= most else [below]


def _batch_size(facts: SizeFacts, room: int) -> tuple[int, str]:
    if facts.batch_size > room:
        return room, f"all that fits into the memory, the preset's is {facts.batch_size}"
    return facts.batch_size, "the preset's"


def _step_bytes(facts: SizeFacts, height_px: int, width_px: int) -> tuple[float, float]:
    """Return the estimated bytes of a training step: a fixed part, and a part per picture.

    Each parameter is stored four times: its value, its gradient and the optimizer's two moments.
    """
    fixed = FIXED_BYTES + 4 * 4 * facts.parameters
    return fixed, BACKWARD_FACTOR * facts.output_bytes_per_pixel * height_px * width_px
