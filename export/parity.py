"""The parity gate: Keras against the ONNX file as it will ship, run by the runtime as it will run, and each stage before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation, SegmentFrame, evaluate
from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.metrics import mean_iou
from edge_runtime.dataset.pairs import Pair
from edge_runtime.model.contract import Contract
from edge_runtime.segment.postprocess import class_ids_of, probabilities_of
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask
from edge_runtime.segment.segmenter import Segmenter
from export.config import ParityBudget
from export.convert import with_logits
from export.errors import ParityError
from export.layer_parity import LOGITS, LayerDifference, Probe, first_diverging, layer_differences
from export.optimise import Stage
from export.validation_set import ValidationSet

REAL_INPUTS = 32
"""Validation images whose logits are compared, spread over the split; the mean IoU is measured on all of them."""
STAGE_INPUTS = 16
"""Validation images that every stage is compared on."""
LAYER_INPUTS = 2
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
class StageParity:
    """How far a graph at one stage is from Keras on a few validation images, and how long it takes.

    Attributes:
        name: The pass that was run last.
        max_abs_diff: Largest difference of a probability.
        mean_abs_diff: Mean difference of the probabilities.
        class_agreement: Share of pixels with the same class, 0–1.
        mean_iou_change: Mean IoU of the stage less that of Keras.
        latency_ms: Median time to the logits.
        first_layer: The first layer that differs by more than the budget, where a probability does.
    """

    name: str
    max_abs_diff: float
    mean_abs_diff: float
    class_agreement: float
    mean_iou_change: float
    latency_ms: float
    first_layer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Everything the gate measured.

    Attributes:
        real: On validation images.
        random: On noise.
        extreme: On black, white, and the sharpest pattern there is.
        keras: Metrics of Keras on the validation split.
        onnx: Metrics of the ONNX model there.
        layers: Inside the ONNX model, layer by layer.
        stages: Of the graph after each pass.
    """

    real: Differences
    random: Differences
    extreme: Differences
    keras: Evaluation
    onnx: Evaluation
    layers: tuple[LayerDifference, ...] = ()
    stages: tuple[StageParity, ...] = ()

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
            "layers": {d.layer: d.relative_diff for d in self.layers},
            "stages": [asdict(stage) for stage in self.stages],
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
        layer = first_diverging(self.layers, budget.layer_diff)
        if layer is not None:
            failures.append(
                f"first in layer '{layer.layer}', by {layer.relative_diff:.2g} of its largest number > {budget.layer_diff:g}"
            )
        stage = next((stage for stage in self.stages if not stage.max_abs_diff <= budget.max_abs_diff), None)
        if stage is not None:
            where = f", first in layer '{stage.first_layer}'" if stage.first_layer else ""
            failures.append(f"from stage '{stage.name}' on{where}")
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

    def outputs(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and probabilities, (height_px, width_px, L) float32, for (height_px, width_px, channels) uint8."""
        logits, probabilities = self._model.predict_on_batch(image[np.newaxis, ..., ::-1].astype(np.float32))
        return np.asarray(logits)[0], np.asarray(probabilities)[0]

    def mask(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class ids at the frame's size."""
        c = self._contract
        image = model_input(checked_frame(image_bgr), c.height_px, c.width_px, c.channels)
        return resize_mask(class_ids_of(self.outputs(image)[1]), *image_bgr.shape[:2])


def measure_parity(
    reference: KerasReference,
    segmenter: Segmenter,
    validation: ValidationSet,
    pairs: Sequence[Pair],
    key: LabelKey,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Parity:
    """Compare Keras with the runtime on real, random and extreme inputs, and their metrics on the validation split.

    Args:
        reference: The Keras model.
        segmenter: The ONNX model, loaded as on the device.
        validation: Images of the validation split.
        pairs: All of it.
        key: What the values of its masks mean.
        on_image: Called with the number of images done and to do.
    """
    contract = segmenter.contract

    def metrics(segment: SegmentFrame, done_before: int) -> Evaluation:
        return evaluate(
            segment,
            pairs,
            key=key,
            classes=[c.name for c in contract.classes],
            on_image=lambda n: on_image(done_before + n, 2 * len(pairs)),
        )

    return Parity(
        real=_differences(reference, segmenter, validation.thinned(REAL_INPUTS).images),
        random=_differences(reference, segmenter, _random_inputs(contract)),
        extreme=_differences(reference, segmenter, _extreme_inputs(contract)),
        keras=metrics(reference.mask, 0),
        onnx=metrics(lambda image_bgr: segmenter(image_bgr).mask, len(pairs)),
    )


def measure_layers(
    model: keras.Model, graph: onnx.ModelProto, validation: ValidationSet, contract: Contract
) -> tuple[LayerDifference, ...]:
    """Compare a graph in float with Keras inside, on a few validation images and on noise."""
    images = [*validation.thinned(LAYER_INPUTS).images, _random_inputs(contract)[0]]
    return tuple(layer_differences(model, graph, images))


def measure_stages(
    model: keras.Model,
    stages: Sequence[Stage],
    validation: ValidationSet,
    contract: Contract,
    budget: ParityBudget | None,
    on_stage: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[StageParity, ...]:
    """Compare graphs at several stages with Keras, one after the other.

    Args:
        model: The Keras model.
        stages: In the order of the passes.
        validation: Images and truth.
        contract: What the finished graph takes and gives.
        budget: Beyond which the first layer that differs is looked for; None where layers are meant to differ.
        on_stage: Called with the number of stages done and to do.
    """
    few = validation.thinned(STAGE_INPUTS)
    reference = KerasReference(model, contract)
    expected = [reference.outputs(image)[1] for image in few.images]
    before = mean_iou(few.matrix(class_ids_of(probabilities) for probabilities in expected))
    found = []
    for done, stage in enumerate(stages, start=1):
        probe = Probe(stage.model)
        rows, masks, times = [], [], []
        for image, probabilities in zip(few.images, expected, strict=True):
            start = time.perf_counter()
            logits = probe.run(image, [LOGITS])[0][0]
            times.append((time.perf_counter() - start) * 1e3)
            other = probabilities_of(logits, binary=contract.binary)
            masks.append(class_ids_of(other))
            diff = np.abs(probabilities - other)
            rows.append((diff.max(), diff.mean(), np.mean(masks[-1] == class_ids_of(probabilities))))
        table = np.array(rows, np.float64)
        largest = float(table[:, 0].max())
        found.append(
            StageParity(
                name=stage.name,
                max_abs_diff=largest,
                mean_abs_diff=float(table[:, 1].mean()),
                class_agreement=float(table[:, 2].mean()),
                mean_iou_change=mean_iou(few.matrix(masks)) - before,
                latency_ms=float(np.median(times)),
                first_layer=None
                if budget is None or largest <= budget.max_abs_diff
                else _first_layer(model, stage, few, contract, budget),
            )
        )
        on_stage(done, len(stages))
    return tuple(found)


def _first_layer(
    model: keras.Model, stage: Stage, validation: ValidationSet, contract: Contract, budget: ParityBudget
) -> str | None:
    layer = first_diverging(measure_layers(model, stage.model, validation, contract), budget.layer_diff)
    return layer.layer if layer else None


def _differences(reference: KerasReference, segmenter: Segmenter, images: Iterable[NDArray[np.uint8]]) -> Differences:
    finite = True
    rows = []  # per image: max and mean difference of logits, of probabilities, and the share of equal classes
    for image in images:
        logits, probabilities = reference.outputs(image)
        other_logits = segmenter.logits_of(image)
        other = probabilities_of(other_logits, binary=segmenter.contract.binary)
        finite &= all(bool(np.isfinite(a).all()) for a in (logits, probabilities, other_logits, other))
        logit_diff, diff = np.abs(logits - other_logits), np.abs(probabilities - other)
        equal = np.mean(class_ids_of(probabilities) == segmenter.mask_of(image))
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
    shape = (contract.height_px, contract.width_px, contract.channels)
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(RANDOM_INPUTS)]


def _extreme_inputs(contract: Contract) -> list[NDArray[np.uint8]]:
    """Black, white, one channel alone, and a checkerboard of single pixels."""
    shape = (contract.height_px, contract.width_px, contract.channels)
    first = np.zeros(shape, np.uint8)
    first[::3, :, 0] = 255
    checker = np.zeros(shape, np.uint8)
    checker[::2, ::2] = checker[1::2, 1::2] = 255
    return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), first, checker]
