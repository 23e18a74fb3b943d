"""Bring a Keras model that was trained elsewhere into the form of our own: RGB in 0–255 in, logits and probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops

from edge_runtime.errors import UsageError
from export.config import Output
from export.errors import ConvertError, first_line
from export.keras_model.answer import Answer, find_answer, to_logits
from export.keras_model.flat import flatten, leaves
from export.keras_model.pixels import Pixels

Border = Literal["resized", "mirrored"]
"""What an output that is smaller than the input stands for: the whole input, so that it is resized, or its middle, so
that the image is mirrored at its borders, as in Ronneberger et al.: U-Net, MICCAI 2015."""
Size = tuple[int, int]
"""Height and width in pixels."""
_ROUNDING, _HALF_ROUNDING = 1e-4, 0.05
"""Largest differences between a model and its copy in float32, if it computes in float32, and in half precision."""
_RESERVED = ("image", "pixels", "logits", "difference", "resized", "probabilities")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModel:
    """A Keras model that was trained elsewhere, and how it is read.

    Attributes:
        model: The model, with one image in and one map out.
        size: Size of its input.
        map_size: Size of its output.
        answer: What its layers tell of its output.
        output: Kind of its output; None if its layers do not tell, and it is still to be measured.
        border: What an output smaller than the input stands for.
    """

    model: keras.Model
    size: Size
    map_size: Size
    answer: Answer
    output: Output | None
    border: Border = "resized"

    @property
    def channels(self) -> Literal[1, 3]:
        """1 for grey, 3 for colours."""
        return 1 if self.model.input_shape[-1] == 1 else 3

    @property
    def image_size(self) -> Size:
        """Size of the image that the standard model takes: without the mirrored border."""
        return self.map_size if self.border == "mirrored" else self.size

    @property
    def may_be_mirrored(self) -> bool:
        """Whether the output can be the middle of the input: smaller by an even number, and by no whole factor."""
        lost = [whole - part for whole, part in zip(self.size, self.map_size, strict=True)]
        whole_factor = all(whole % part == 0 for whole, part in zip(self.size, self.map_size, strict=True))
        fits = all(loss >= 0 and loss % 2 == 0 for loss in lost) and any(lost)
        # A border can be mirrored only inside the image.
        return (
            fits and not whole_factor and all(loss // 2 < part for loss, part in zip(lost, self.map_size, strict=True))
        )

    def standard(self, pixels: Pixels) -> keras.Model:
        """Return the model from RGB or grey in 0–255 to probabilities: flat, in float32, with a layer ``logits``."""
        image = keras.Input((*self.image_size, self.channels), dtype="float32", name="image")
        return self._from(image, pixels.layered(image))

    def core(self) -> keras.Model:
        """Return the same model from pixels as the model expects them."""
        image = keras.Input((*self.image_size, self.channels), dtype="float32", name="image")
        return self._from(image, image)

    def _from(self, image: keras.KerasTensor, x: keras.KerasTensor) -> keras.Model:
        if self.border == "mirrored":
            rows, columns = ((a - b) // 2 for a, b in zip(self.size, self.map_size, strict=True))
            x = ops.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="reflect")
        x = as_map(flatten(self.model, x, linear=self.answer.activation, reserved=_RESERVED), self.size)
        logits = to_logits(x, "logits" if self.answer.activation is not None else self.output or "logits")
        if logits.shape[-1] == 2:
            logits = _difference(logits)
        if (logits.shape[1], logits.shape[2]) != self.image_size:
            logits = layers.Resizing(*self.image_size, dtype="float32", name="resized")(logits)
        logits = layers.Activation("linear", dtype="float32", name="logits")(logits)
        kind = "sigmoid" if logits.shape[-1] == 1 else "softmax"
        return keras.Model(image, layers.Activation(kind, dtype="float32", name="probabilities")(logits))


def understand(model: keras.Model, *, classes: int, size: Size | None, output: Output | None) -> ForeignModel:
    """Find out how a model is read from its shapes and last layers.

    Args:
        model: The model.
        classes: Number of classes of the masks.
        size: Size of the input, for a model that takes any; by default the model's own.
        output: Kind of the output as the user states it; by default what the last layers tell.

    Raises:
        ConvertError: The model does not take one image and give one map with a place for the classes.
        UsageError: The size is missing, or it or ``output`` contradicts the model.
    """
    where = f"model '{model.name}'"
    channels = _channels(model, where)
    size = _size(model, size, where)
    answer = find_answer(model)
    if output is not None and answer.output in ("sigmoid", "softmax") and output != answer.output:
        raise UsageError(f"--output {output} — {where} ends in {answer.output} — leave the option out")
    kind = output or answer.output
    image = keras.Input((*size, channels), dtype="float32")
    try:
        flat = keras.Model(image, flatten(model, image))
        given = as_map(flat.output, size)
    except (ValueError, TypeError, NotImplementedError) as cause:
        raise UsageError(
            f"--input-size {size[0]}x{size[1]} — {where} does not take it ({first_line(cause)}) — choose the size that it was trained with"
        ) from cause
    _refuse_map(given, where, kind, classes)
    _compare(model, flat, where)
    map_size = int(given.shape[1]), int(given.shape[2])
    return ForeignModel(model=model, size=size, map_size=map_size, answer=answer, output=kind)


def as_map(x: keras.KerasTensor, size: Size) -> keras.KerasTensor:
    """Return an output as (N, H, W, L): one without channels gets one, and one row of pixels becomes rows of ``size``."""
    if len(x.shape) == 3 and x.shape[1] == size[0] * size[1]:
        return layers.Reshape((*size, x.shape[2]), dtype="float32")(x)
    if len(x.shape) == 3:
        return layers.Reshape((*x.shape[1:], 1), dtype="float32")(x)
    return x


def kind_of_values(values: np.ndarray[Any, Any]) -> Output:
    """Return what (N, H, W, L) values of a model's output look like."""
    if values.min() < 0 or values.max() > 1:
        return "logits"
    return "softmax" if values.shape[-1] > 1 and np.allclose(values.sum(-1), 1, atol=1e-3) else "sigmoid"


def _channels(model: keras.Model, where: str) -> int:
    """Return the channels of a model's image, after checking that it takes one image and gives one thing."""
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ConvertError(
            f"{where} — takes {shape} — expected one image, (N, H, W, C) — make a keras.Model of the part from image to mask"
        )
    if isinstance(model.output_shape, (list, dict)) or len(model.outputs) != 1:
        names = ", ".join(tensor.name for tensor in model.outputs)
        raise ConvertError(
            f"{where} — gives {len(model.outputs)} outputs ({names}) — expected one — save "
            "keras.Model(model.input, model.outputs[-1]), with the output that you use"
        )
    if shape[3] not in (1, 3):
        first = " (channels first)" if shape[1] in (1, 3) else ""
        raise ConvertError(
            f"{where} — takes images of shape {shape[1:]}{first} — expected 1 or 3 channels, in the last place — rebuild it "
            "with data_format='channels_last'"
        )
    return int(shape[3])


def _size(model: keras.Model, size: Size | None, where: str) -> Size:
    own = model.input_shape[1:3]
    if size is None and None in own:
        raise UsageError(
            f"--input-size is missing — {where} takes images of any size — pass the size that it is to run with, such as 256x256"
        )
    return size or (int(own[0]), int(own[1]))


def _refuse_map(given: keras.KerasTensor, where: str, kind: Output | None, classes: int) -> None:
    """Refuse an output that is no map, or that has no place for the classes."""
    if len(given.shape) != 4 or None in given.shape[1:]:
        raise ConvertError(
            f"{where} — gives {tuple(given.shape[1:])} — expected a map, (H, W, classes): is this a model for segmentation?"
        )
    channels = int(given.shape[-1])
    if channels == 1 and kind == "softmax":
        raise ConvertError(
            f"{where} — ends in a softmax over one channel, which is 1 everywhere — train with a sigmoid, or with two channels"
        )
    if (2 if channels == 1 else channels) != classes:
        raise ConvertError(
            f"{where} — gives {channels} channels — the masks have {classes} classes — state the classes of the model, in "
            "its order, in dataset.yaml"
        )


def _compare(model: keras.Model, flat: keras.Model, where: str) -> None:
    """Refuse a model that gives something else when it is rebuilt from its layers."""
    image = np.random.default_rng(0).random((1, *flat.input_shape[1:]), np.float32)
    expected, found = (np.asarray(one(image, training=False), np.float32) for one in (model, flat))
    difference = float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-6)
    limit = _ROUNDING if all(layer.compute_dtype == "float32" for layer in leaves(model)) else _HALF_ROUNDING
    if not difference <= limit:
        raise ConvertError(
            f"{where} — rebuilt from its layers, it gives results that differ by {difference:.2g} of the largest — expected "
            f"at most {limit:g} — it does more than its layers say, or its weights are not finite"
        )


def _difference(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return the logit of class 1 alone, of which a sigmoid gives what a softmax gives of both."""
    layer = layers.Conv2D(1, 1, use_bias=False, dtype="float32", name="difference")
    result = layer(logits)
    layer.set_weights([np.array([-1, 1], np.float32).reshape(1, 1, 2, 1)])
    return result
