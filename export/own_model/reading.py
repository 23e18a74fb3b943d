"""Find out on images with masks what a model expects of pixels, and what its output stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.metrics import mean_iou
from edge_runtime.dataset.pairs import Pair
from edge_runtime.dataset.sampling import spread
from edge_runtime.model.contract import ClassInfo, Contract
from edge_runtime.segment.postprocess import class_ids_of
from export.config import Output, PixelRange
from export.errors import ConvertError
from export.keras_model.pixels import PIXEL_RANGES, Pixels, stated_range
from export.keras_model.standard import Border, ForeignModel, Size, kind_of_values, understand
from export.parity.ties import TIE, by_class
from export.validation_set import ValidationSet

COMPARED_IMAGES = 16
"""Images with masks on which ways of reading a model are compared."""
CLEARLY = 0.02
"""Mean IoU by which one way must be better than another to be taken for the right one."""
Note = Callable[[str], None]
"""Called with one line for what was found out, or looks wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """How the user says that a model is to be read; what is None is found out.

    Attributes:
        pixels: Range of the pixels that the model expects.
        bgr: Whether it expects blue first.
        size: Size of its input.
        output: Kind of its output.
    """

    pixels: PixelRange | None = None
    bgr: bool | None = None
    size: Size | None = None
    output: Output | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Images with masks, and their classes.

    Attributes:
        pairs: Files of images and masks.
        key: Meaning of the masks' values.
        classes: Classes in order of their ids.
        ignore_id: Stored mask value of ignored pixels.
    """

    pairs: Sequence[Pair]
    key: LabelKey
    classes: tuple[ClassInfo, ...]
    ignore_id: int | None

    def contract(self, foreign: ForeignModel) -> Contract:
        """Return the contract of a model for these classes."""
        height_px, width_px = foreign.image_size
        return Contract(
            name=foreign.model.name,
            height_px=height_px,
            width_px=width_px,
            channels=foreign.channels,
            binary=len(self.classes) == 2,
            classes=self.classes,
            ignore_id=self.ignore_id,
        )

    def few(self, foreign: ForeignModel) -> ValidationSet:
        """Return a few of the images as inputs of a model."""
        return ValidationSet.read(list(spread(self.pairs, COMPARED_IMAGES)), self.key, self.contract(foreign))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A model and how it is read.

    Attributes:
        foreign: The model, and what its output means.
        pixels: What it is given.
        doubt: Line that says with which other pixels it gives clearly better masks; None if there are none.
    """

    foreign: ForeignModel
    pixels: Pixels
    doubt: str | None = None


def find_reading(model: keras.Model, examples: Examples, stated: Stated, note: Note) -> Reading:
    """Find out how a model is read: what the user states, what its layers tell, and what gives the best masks.

    Args:
        model: The model.
        examples: Images with masks, best such that the model has not seen.
        stated: How the user says that it is to be read.
        note: Called with what was found out, and with what the user states and the images speak against.

    Raises:
        ConvertError: The model is refused, see ``understand``, or it gives the same for all classes.
        UsageError: What is stated contradicts the model.
        InputError: An image or a mask cannot be read.
    """
    trial, ious = _best_border(_with_output(model, examples, stated), examples, note)
    chosen, doubt = _chosen_pixels(model, ious, stated, note)
    trial.refuse_untrained(chosen)
    return Reading(foreign=trial.foreign, pixels=chosen, doubt=doubt)


class _Trial:
    """A model that is read in one way, and the images on which it is tried."""

    def __init__(self, foreign: ForeignModel, examples: Examples) -> None:
        self.foreign = foreign
        self._core = foreign.core()
        self._few = examples.few(foreign)

    def mean_iou(self, pixels: Pixels) -> float:
        """Return the mean IoU of the model if it is given pixels so."""
        return mean_iou(self._few.matrix(class_ids_of(found) for found in self._probabilities(pixels)))

    def refuse_untrained(self, pixels: Pixels) -> None:
        """Refuse a model that gives the same for all classes: rounding would choose one here and another there."""
        given = by_class(np.stack(list(self._probabilities(pixels))))
        where = f"model '{self.foreign.model.name}'"
        if not np.isfinite(given).all():
            raise ConvertError(f"{where} — gives numbers that are not finite — train it again")
        ordered = np.partition(given, (-2, -1), axis=-1)
        alike = float(np.mean(ordered[..., -1] - ordered[..., -2] < TIE))
        if alike > 0.5:
            raise ConvertError(
                f"{where} — gives the same probability for two classes at {alike:.0%} of the pixels, up to rounding — "
                "expected a trained model — train it, and look at its masks"
            )

    def _probabilities(self, pixels: Pixels) -> Iterator[NDArray[np.float32]]:
        for image in self._few.images:
            yield np.asarray(self._core.predict_on_batch(pixels.of(image)[np.newaxis]))[0]


def _with_output(model: keras.Model, examples: Examples, stated: Stated) -> ForeignModel:
    """Understand a model; where its layers do not tell what it gives, look at what it gives for a few images."""
    understood = understand(model, classes=len(examples.classes), size=stated.size, output=stated.output)
    if understood.output is not None:
        return understood
    images = examples.few(understood).thinned(4).images
    ways = [Pixels(range=name) for name in PIXEL_RANGES]
    values = [np.asarray(model(way.of(image)[np.newaxis], training=False)) for way in ways for image in images]
    return replace(understood, output=kind_of_values(np.concatenate(values)))


def _best_border(foreign: ForeignModel, examples: Examples, note: Note) -> tuple[_Trial, Mapping[Pixels, float]]:
    """Return the model with the meaning of a smaller output, and the mean IoU by what it is given."""
    borders: tuple[Border, ...] = ("resized", "mirrored") if foreign.may_be_mirrored else ("resized",)
    trials = {border: _Trial(replace(foreign, border=border), examples) for border in borders}
    orders = (False, True) if foreign.channels == 3 else (False,)
    ways = [Pixels(range=name, bgr=bgr) for bgr in orders for name in PIXEL_RANGES]
    tables = {border: {way: trial.mean_iou(way) for way in ways} for border, trial in trials.items()}
    best = max(borders, key=lambda border: max(tables[border].values()))
    if len(borders) > 1:
        figures = ", ".join(f"{border} {max(tables[border].values()):.3f}" for border in borders)
        meaning = {
            "resized": "the whole input: it is resized to it",
            "mirrored": "the middle of the input: images are mirrored at their borders",
        }
        size, map_size = ("x".join(map(str, pair)) for pair in (foreign.size, foreign.map_size))
        note(f"output {map_size} of {size} — taken as {meaning[best]} — mean IoU {figures}")
    return trials[best], tables[best]


def _chosen_pixels(
    model: keras.Model, ious: Mapping[Pixels, float], stated: Stated, note: Note
) -> tuple[Pixels, str | None]:
    """Return what is stated, and of the rest what gives the best masks; in doubt what the model's layers tell.

    The line that is returned, too, says what speaks against what is stated.
    """
    best = max(ious, key=lambda way: ious[way])
    usual = Pixels(range=stated.pixels or stated_range(model) or "0-1", bgr=bool(stated.bgr))
    free = [way for way in ious if _agrees(way, stated)]
    chosen = max(free, key=lambda way: ious[way])
    if not ious[chosen] > ious[usual] + CLEARLY:
        chosen = usual
    if ious[best] > ious[chosen] + CLEARLY:
        doubt = (
            f"{_options(chosen)} — mean IoU {ious[chosen]:.3f} on images with masks, with {_options(best)} {ious[best]:.3f} — the "
            f"model was trained on such pixels, as it seems — export it again with {_options(best)}"
        )
        note(doubt)
        return chosen, doubt
    if len(free) > 1:
        order = ", blue first (OpenCV's order)" if chosen.bgr else ""
        figures = ", ".join(f"{way.range} {ious[way]:.3f}" for way in ious if way.bgr == chosen.bgr)
        note(f"pixels are given to the model in {chosen.range}{order} — mean IoU on images with masks: {figures}")
    return chosen, None


def _agrees(way: Pixels, stated: Stated) -> bool:
    return stated.pixels in (None, way.range) and stated.bgr in (None, way.bgr)


def _options(way: Pixels) -> str:
    return f"--pixels {way.range} --bgr" if way.bgr else f"--pixels {way.range}"
