"""The parity gate: Keras against the ONNX file as it will ship, run by the runtime as it will run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import Contract
from edge_runtime.evaluate import Evaluation, SegmentFrame, evaluate
from edge_runtime.image import read_image
from edge_runtime.labels import MaskEncoding
from edge_runtime.pairs import Pair
from edge_runtime.postprocess import class_ids_of
from edge_runtime.preprocess import checked_frame, model_input, resize_mask
from edge_runtime.segmenter import Segmenter
from export.config import ParityBudget
from export.convert import with_logits
from export.errors import ParityError

REAL_INPUTS = 32
"""Validation images whose logits are compared, spread over the split; the mean IoU is measured on all of them."""
RANDOM_INPUTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How far two models are apart on a set of inputs.

    Attributes:
        inputs: Number of images.
        finite: All numbers of both are finite.
        max_abs_logit_diff: Largest difference of a logit.
        mean_abs_logit_diff: Mean difference of the logits.
        max_abs_diff: Largest difference of a probability.
        mean_abs_diff: Mean difference of the probabilities.
        class_agreement: Share of pixels with the same class, 0–1.
    """

    inputs: int
    finite: bool
    max_abs_logit_diff: float
    mean_abs_logit_diff: float
    max_abs_diff: float
    mean_abs_diff: float
    class_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Everything the gate measured.

    Attributes:
        real: On validation images.
        random: On noise.
        extreme: On black, white, and the sharpest pattern there is.
        keras: Metrics of Keras on the validation split.
        onnx: Metrics of the ONNX model there.
    """

    real: Differences
    random: Differences
    extreme: Differences
    keras: Evaluation
    onnx: Evaluation

    @property
    def mean_iou_change(self) -> float:
        """Mean IoU of the ONNX model less that of Keras."""
        return self.onnx.mean_iou - self.keras.mean_iou

    def to_dict(self, budget: ParityBudget) -> dict[str, Any]:
        """Return the figures as a JSON object: the worst over all inputs first, then each set of inputs."""
        sets = {"real": self.real, "random": self.random, "extreme": self.extreme}
        # NumPy's, for Python's max and min pass over a NaN that does not come first.
        return {
            "max_abs_diff": float(np.max([d.max_abs_diff for d in sets.values()])),
            "mean_abs_diff": float(np.max([d.mean_abs_diff for d in sets.values()])),
            "max_abs_logit_diff": float(np.max([d.max_abs_logit_diff for d in sets.values()])),
            "mean_abs_logit_diff": float(np.max([d.mean_abs_logit_diff for d in sets.values()])),
            "class_agreement": float(np.min([d.class_agreement for d in sets.values()])),
            "mean_iou_keras": self.keras.mean_iou,
            "mean_iou_onnx": self.onnx.mean_iou,
            "mean_iou_change": self.mean_iou_change,
            "inputs": {name: asdict(d) for name, d in sets.items()},
            "budget": asdict(budget),
        }

    def require(self, budget: ParityBudget) -> None:
        """Raise if anything is over budget.

        Raises:
            ParityError: Names every figure that is, with its limit.
        """
        figures = self.to_dict(budget)
        failures = [
            f"numbers that are not finite on {n} inputs" for n, d in figures["inputs"].items() if not d["finite"]
        ]
        # Written so that a NaN fails.
        if not figures["max_abs_diff"] <= budget.max_abs_diff:
            failures.append(f"max |Δ probability| {figures['max_abs_diff']:.2g} > {budget.max_abs_diff:g}")
        if not figures["class_agreement"] >= budget.class_agreement:
            failures.append(f"pixel agreement {figures['class_agreement']:.4%} < {budget.class_agreement:.4%}")
        if not abs(self.mean_iou_change) <= budget.mean_iou_change:
            failures.append(f"|Δ mean IoU| {abs(self.mean_iou_change):.5f} > {budget.mean_iou_change:g}")
        if failures:
            raise ParityError(
                f"parity gate — Keras and onnxruntime differ: {'; '.join(failures)} — no package was written — "
                "the conversion is at fault, not your data: please report it with this line"
            )


class KerasReference:
    """A Keras model behind the calls that the runtime's ``Segmenter`` has, so that both can be compared."""

    def __init__(self, model: keras.Model, contract: Contract) -> None:
        """Wrap a model that fits a contract."""
        self._model = with_logits(model)
        self._contract = contract

    def outputs(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and probabilities, (height_px, width_px, L) float32, for (H, W, 3) uint8 BGR."""
        c = self._contract
        pixels = model_input(checked_frame(image_bgr), c.height_px, c.width_px, c.channels)[np.newaxis, ..., ::-1]
        logits, probabilities = self._model.predict_on_batch(pixels.astype(np.float32))
        return np.asarray(logits)[0], np.asarray(probabilities)[0]

    def mask(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class ids at the frame's size."""
        _, probabilities = self.outputs(image_bgr)
        return resize_mask(class_ids_of(probabilities), *image_bgr.shape[:2])


def measure_parity(
    reference: KerasReference,
    segmenter: Segmenter,
    pairs: Sequence[Pair],
    encoding: MaskEncoding,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Parity:
    """Compare Keras with the runtime on real, random and extreme inputs, and their metrics on the validation split.

    Args:
        reference: The Keras model.
        segmenter: The ONNX model, loaded as on the device.
        pairs: The validation split.
        encoding: How its masks are stored.
        on_image: Called with the number of images done and to do.
    """
    contract = segmenter.contract
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(REAL_INPUTS, len(pairs))).round().astype(int))

    def metrics(segment: SegmentFrame, done_before: int) -> Evaluation:
        return evaluate(
            segment,
            pairs,
            encoding=encoding,
            classes=[c.name for c in contract.classes],
            ignore_id=contract.ignore_id,
            on_image=lambda n: on_image(done_before + n, 2 * len(pairs)),
        )

    return Parity(
        real=_differences(reference, segmenter, (read_image(pairs[i].image) for i in chosen)),
        random=_differences(reference, segmenter, _random_inputs(contract)),
        extreme=_differences(reference, segmenter, _extreme_inputs(contract)),
        keras=metrics(reference.mask, 0),
        onnx=metrics(lambda image_bgr: segmenter(image_bgr).mask, len(pairs)),
    )


def _differences(reference: KerasReference, segmenter: Segmenter, images: Iterable[NDArray[np.uint8]]) -> Differences:
    c = segmenter.contract
    finite = True
    rows = []  # per image: max and mean difference of logits, of probabilities, and the share of equal classes
    for image_bgr in images:
        logits, probabilities = reference.outputs(image_bgr)
        other_logits, other = segmenter.logits(image_bgr), segmenter.probabilities(image_bgr)
        finite &= all(bool(np.isfinite(a).all()) for a in (logits, probabilities, other_logits, other))
        logit_diff, diff = np.abs(logits - other_logits), np.abs(probabilities - other)
        ids = segmenter.session.mask(model_input(image_bgr, c.height_px, c.width_px, c.channels))
        equal = np.mean(class_ids_of(probabilities) == ids)
        rows.append((logit_diff.max(), logit_diff.mean(), diff.max(), diff.mean(), equal))
    table = np.array(rows, np.float64)
    return Differences(
        inputs=len(rows),
        finite=finite,
        max_abs_logit_diff=float(table[:, 0].max()),
        mean_abs_logit_diff=float(table[:, 1].mean()),
        max_abs_diff=float(table[:, 2].max()),
        mean_abs_diff=float(table[:, 3].mean()),
        class_agreement=float(table[:, 4].mean()),
    )


def _random_inputs(contract: Contract) -> list[NDArray[np.uint8]]:
    shape = (contract.height_px, contract.width_px, 3)
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(RANDOM_INPUTS)]


def _extreme_inputs(contract: Contract) -> list[NDArray[np.uint8]]:
    """Black, white, pure blue, and a checkerboard of single pixels."""
    shape = (contract.height_px, contract.width_px, 3)
    blue = np.zeros(shape, np.uint8)
    blue[..., 0] = 255
    checker = np.zeros(shape, np.uint8)
    checker[::2, ::2] = checker[1::2, 1::2] = 255
    return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), blue, checker]
