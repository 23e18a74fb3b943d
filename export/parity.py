"""Check parity: compare Keras with the ONNX file that ships, run as on the device, and with the graph of each stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.dataset.evaluate import Evaluation, SegmentFrame, evaluate
from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.metrics import mean_iou
from edge_runtime.dataset.pairs import Pair
from edge_runtime.model.contract import Contract
from edge_runtime.progress import OnProgress, silent
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
"""Validation images whose logits are compared, spread over the split; the mean IoU is measured on the whole split."""
STAGE_INPUTS = 16
"""Validation images on which every stage is compared."""
LAYER_INPUTS = 2
RANDOM_INPUTS = 4
TIE = 1e-6
"""Difference of the probabilities of two classes between which rounding decides."""
COPIES = 3
"""Copies of an image, with other pixels by a level, on which networks that decide inside are compared as well."""
_Result = TypeVar("_Result")
_DECISIONS = frozenset({"ArgMax", "OneHot", "MaxUnpool", "TopK"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Differences between two models on a set of inputs.

    Attributes:
        inputs: Number of images.
        finite: Whether all outputs of both models are finite.
        max_abs_logit_diff: Largest difference of a logit.
        mean_abs_logit_diff: Mean difference of the logits.
        max_abs_diff: Largest difference of a probability.
        mean_abs_diff: Mean difference of the probabilities.
        class_agreement: Share of pixels with the same class, or with one that is as probable up to rounding, 0–1.
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
    """Difference between a graph at one stage and Keras on a few validation images, and its latency.

    Attributes:
        name: Name of the pass that was applied last.
        max_abs_diff: Largest difference of a probability.
        mean_abs_diff: Mean difference of the probabilities.
        class_agreement: Share of pixels with the same class, 0–1.
        mean_iou_change: Mean IoU of the stage minus that of Keras.
        latency_ms: Median time from an image to its logits.
        first_layer: Name of the first layer over the layer budget; searched only if a probability is over its budget.
    """

    name: str
    max_abs_diff: float
    mean_abs_diff: float
    class_agreement: float
    mean_iou_change: float
    latency_ms: float
    first_layer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputParity:
    """Outputs and metrics of the ONNX model that ships, compared with those of Keras.

    Attributes:
        real: Differences on validation images.
        random: Differences on noise.
        extreme: Differences on black, white, stripes in one channel, and a checkerboard of single pixels.
        keras: Metrics of Keras on the validation split.
        onnx: Metrics of the ONNX model on the validation split.
    """

    real: Differences
    random: Differences
    extreme: Differences
    keras: Evaluation
    onnx: Evaluation

    @property
    def mean_iou_change(self) -> float:
        """Mean IoU of the ONNX model minus that of Keras."""
        return self.onnx.mean_iou - self.keras.mean_iou


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Figures that the parity gate measured.

    Attributes:
        outputs: Outputs and metrics of the model that ships.
        layers: Differences inside that model, layer by layer.
        stages: Differences of the graph after each pass.

    Example:
        The manifest of a package holds these figures as ``to_dict`` returns them.

        >>> from dataclasses import fields
        >>> from export import ExportConfig, Parity, export_package
        >>> [field.name for field in fields(Parity)]
        ['outputs', 'layers', 'stages']
        >>> manifest = export_package(ExportConfig(run=run, out=tmp_path / "model", int8="off"))
        >>> len(manifest.parity["layers"]) > 0, len(manifest.parity["stages"]) > 0
        (True, True)
        >>> manifest.parity["max_abs_diff"] < 1e-4, manifest.parity["budget"]["max_abs_diff"]
        (True, 0.0001)
    """

    outputs: OutputParity
    layers: tuple[LayerDifference, ...] = ()
    stages: tuple[StageParity, ...] = ()

    def to_dict(self, budget: ParityBudget, *, beyond: Sequence[StageParity] = ()) -> dict[str, Any]:
        """Return the figures as a JSON object: the worst over all inputs first, then each set of inputs.

        Args:
            budget: The budget that applied; it is part of the object.
            beyond: Further stages, listed last, to which the budget does not apply, such as INT8.
        """
        sets = {"real": self.outputs.real, "random": self.outputs.random, "extreme": self.outputs.extreme}
        # NumPy's max and min, because Python's skip a NaN that does not come first.
        return {
            "max_abs_diff": float(np.max([d.max_abs_diff for d in sets.values()])),
            "mean_abs_diff": float(np.max([d.mean_abs_diff for d in sets.values()])),
            "max_abs_logit_diff": float(np.max([d.max_abs_logit_diff for d in sets.values()])),
            "mean_abs_logit_diff": float(np.max([d.mean_abs_logit_diff for d in sets.values()])),
            "class_agreement": float(np.min([d.class_agreement for d in sets.values()])),
            "mean_iou_keras": self.outputs.keras.mean_iou,
            "mean_iou_onnx": self.outputs.onnx.mean_iou,
            "mean_iou_change": self.outputs.mean_iou_change,
            "inputs": {name: asdict(d) for name, d in sets.items()},
            "layers": {d.layer: d.relative_diff for d in self.layers},
            "stages": [asdict(stage) for stage in (*self.stages, *beyond)],
            "budget": asdict(budget),
        }

    def require(self, budget: ParityBudget) -> None:
        """Raise if any figure is over budget.

        Raises:
            ParityError: A figure is over budget; the message names each with its limit.
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
        mean_iou_change = abs(self.outputs.mean_iou_change)
        if not mean_iou_change <= budget.mean_iou_change:
            failures.append(f"|Δ mean IoU| {mean_iou_change:.5f} > {budget.mean_iou_change:g}")
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
    """Keras model that is called like the runtime's ``Segmenter``, so that both can be compared.

    Training's ``KerasSegmenter`` preprocesses in the same way; the code is not shared, because training and export meet
    only in files.
    """

    def __init__(self, model: keras.Model, contract: Contract) -> None:
        """Wrap a model and its contract."""
        self._model = with_logits(model)
        self._contract = contract

    @property
    def binary(self) -> bool:
        """Whether the model has one output for two classes."""
        return self._contract.binary

    def outputs(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and probabilities, (height_px, width_px, L) float32, for (height_px, width_px, channels) uint8."""
        logits, probabilities = self._model.predict_on_batch(image[np.newaxis, ..., ::-1].astype(np.float32))
        return np.asarray(logits)[0], np.asarray(probabilities)[0]

    def mask(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (H, W) uint8 class ids at the frame's size."""
        c = self._contract
        image = model_input(checked_frame(image_bgr), c.height_px, c.width_px, c.channels)
        return resize_mask(class_ids_of(self.outputs(image)[1]), *image_bgr.shape[:2])


def decides_inside(raw: onnx.ModelProto) -> bool:
    """Tell whether a network chooses between places on its way to the logits, as SegNet's unpooling does.

    Where two values of a window are alike up to rounding, Keras and onnxruntime may then take different ones, so that
    their logits differ by more than rounding on a few pixels of some images.

    Args:
        raw: Graph from ``trace``, which ends with the logits and the probabilities.
    """
    return any(node.op_type in _DECISIONS for node in raw.graph.node)


def measure_outputs(
    reference: KerasReference,
    segmenter: Segmenter,
    validation: ValidationSet,
    pairs: Sequence[Pair],
    key: LabelKey,
    on_progress: OnProgress = silent,
    *,
    tie_limit: float | None = None,
) -> OutputParity:
    """Compare the outputs of Keras and the runtime on real, random and extreme inputs, and their validation metrics.

    Args:
        reference: The Keras model.
        segmenter: The ONNX model, loaded as on the device.
        validation: Images of the validation split, as many as fit into memory.
        pairs: The whole validation split.
        key: Meaning of the values in its masks.
        on_progress: Called with "parity" after each image, for Keras first and then for the ONNX model.
        tie_limit: Largest difference of a probability that is no tie; None for a network that decides nothing inside.
    """
    contract = segmenter.contract
    on_progress("parity", 0, 2 * len(pairs))

    def metrics(segment: SegmentFrame, done_before: int) -> Evaluation:
        def count(_what: str, done: int, total: int) -> None:
            if done:  # the start of the one bar over both is told already
                on_progress("parity", done_before + done, 2 * total)

        return evaluate(segment, pairs, key=key, classes=[c.name for c in contract.classes], on_progress=count)

    return OutputParity(
        real=_differences(reference, segmenter, validation.thinned(REAL_INPUTS).images, tie_limit),
        random=_differences(reference, segmenter, _random_inputs(contract), tie_limit),
        extreme=_differences(reference, segmenter, _extreme_inputs(contract), tie_limit),
        keras=metrics(reference.mask, 0),
        onnx=metrics(lambda image_bgr: segmenter(image_bgr).mask, len(pairs)),
    )


def measure_layers(
    model: keras.Model,
    graph: onnx.ModelProto,
    validation: ValidationSet,
    contract: Contract,
    *,
    tie_limit: float | None = None,
) -> tuple[LayerDifference, ...]:
    """Compare the values inside a float graph with those inside Keras, on a few validation images and on noise."""

    def compare(image: NDArray[np.uint8]) -> tuple[float, list[LayerDifference]]:
        found = layer_differences(model, graph, [image])
        return float(np.max([d.relative_diff for d in found], initial=0.0)), found

    images = [*validation.thinned(LAYER_INPUTS).images, _random_inputs(contract)[0]]
    if tie_limit is None:
        return tuple(layer_differences(model, graph, images))
    worst: dict[str, float] = {}
    for d in (d for image in images for d in _settled(image, compare, tie_limit)):
        worst[d.layer] = float(np.maximum(worst.get(d.layer, 0.0), d.relative_diff))
    return tuple(LayerDifference(layer=layer, relative_diff=diff) for layer, diff in worst.items())


def _settled(
    image: NDArray[np.uint8], compare: Callable[[NDArray[np.uint8]], tuple[float, _Result]], tie_limit: float | None
) -> _Result:
    """Return what comparing an image gives, or comparing a copy of it where the image is at a tie.

    A fault of the conversion stays if pixels change by one level, and a tie goes away.

    Args:
        image: (height_px, width_px, channels) uint8.
        compare: Returns the largest difference on an image, and the result.
        tie_limit: Largest difference that is no tie; None if there can be none.
    """
    difference, result = compare(image)
    rng = np.random.default_rng(0)
    for _ in range(COPIES):
        if tie_limit is None or difference <= tie_limit:
            break
        step = rng.integers(-1, 2, image.shape)
        difference, result = compare(np.clip(image + step, 0, 255).astype(np.uint8))
    return result


def measure_stages(
    model: keras.Model,
    stages: Sequence[Stage],
    validation: ValidationSet,
    contract: Contract,
    budget: ParityBudget | None,
    on_progress: OnProgress = silent,
    *,
    tie_limit: float | None = None,
) -> tuple[StageParity, ...]:
    """Compare the graphs of several stages with Keras, one after the other.

    Args:
        model: The Keras model.
        stages: The graphs, in the order of the passes.
        validation: Validation images with their true masks.
        contract: Inputs and outputs of the finished graph.
        budget: Budget over which a stage is searched for the first layer that differs; None if layers may differ.
        on_progress: Called with "stages" after each stage.
        tie_limit: Largest difference of a probability that is no tie; None for a network that decides nothing inside.
    """
    few = validation.thinned(STAGE_INPUTS)
    reference = KerasReference(model, contract)
    expected = [reference.outputs(image)[1] for image in few.images]
    before = mean_iou(few.matrix(class_ids_of(probabilities) for probabilities in expected))
    on_progress("stages", 0, len(stages))
    found = []
    for done, stage in enumerate(stages, start=1):
        measured = _stage_parity(stage, few, expected, before, reference, tie_limit)
        if budget is not None and not measured.max_abs_diff <= budget.max_abs_diff:
            layer = first_diverging(measure_layers(model, stage.model, few, contract), budget.layer_diff)
            measured = replace(measured, first_layer=layer.layer if layer else None)
        found.append(measured)
        on_progress("stages", done, len(stages))
    return tuple(found)


def _stage_parity(
    stage: Stage,
    few: ValidationSet,
    expected: Sequence[NDArray[np.float32]],
    before: float,
    reference: KerasReference,
    tie_limit: float | None,
) -> StageParity:
    """Compare one stage with the probabilities of Keras on a few images, and with its mean IoU there."""
    probe = Probe(stage.model)
    rows, masks, times = [], [], []
    for image, known in zip(few.images, expected, strict=True):
        start = time.perf_counter()
        given = probe.run(image, [LOGITS])[0][0]
        times.append((time.perf_counter() - start) * 1e3)
        masks.append(class_ids_of(probabilities_of(given, binary=reference.binary)))

        def compare(
            copy: NDArray[np.uint8],
            image: NDArray[np.uint8] = image,
            known: NDArray[np.float32] = known,
            given: NDArray[np.float32] = given,
        ) -> tuple[float, tuple[float, float, float]]:
            probabilities = known if copy is image else reference.outputs(copy)[1]
            logits = given if copy is image else probe.run(copy, [LOGITS])[0][0]
            other = probabilities_of(logits, binary=reference.binary)
            diff = np.abs(probabilities - other)
            return diff.max(), (diff.max(), diff.mean(), _agreement(probabilities, class_ids_of(other)))

        rows.append(_settled(image, compare, tie_limit))
    table = np.array(rows, np.float64)
    return StageParity(
        name=stage.name,
        max_abs_diff=float(table[:, 0].max()),
        mean_abs_diff=float(table[:, 1].mean()),
        class_agreement=float(table[:, 2].mean()),
        mean_iou_change=mean_iou(few.matrix(masks)) - before,
        latency_ms=float(np.median(times)),
    )


def _differences(
    reference: KerasReference, segmenter: Segmenter, images: Iterable[NDArray[np.uint8]], tie_limit: float | None
) -> Differences:
    finite = True

    def compare(image: NDArray[np.uint8]) -> tuple[float, tuple[float, float, float, float, float]]:
        """Return the maximum and mean difference of logits and of probabilities, and the share of equal classes."""
        nonlocal finite
        logits, probabilities = reference.outputs(image)
        other_logits = segmenter.logits_of(image)
        other = probabilities_of(other_logits, binary=segmenter.contract.binary)
        finite &= all(bool(np.isfinite(a).all()) for a in (logits, probabilities, other_logits, other))
        logit_diff, diff = np.abs(logits - other_logits), np.abs(probabilities - other)
        equal = _agreement(probabilities, segmenter.mask_of(image))
        return diff.max(), (logit_diff.max(), logit_diff.mean(), diff.max(), diff.mean(), equal)

    rows = [_settled(image, compare, tie_limit) for image in images]
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


def by_class(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (…, C) of probabilities, (…, L): those of both classes for a binary model."""
    return np.concatenate([1 - probabilities, probabilities], -1) if probabilities.shape[-1] == 1 else probabilities


def _agreement(probabilities: NDArray[np.float32], mask: NDArray[np.uint8]) -> float:
    """Return the share of pixels of a mask that have the class of Keras, or one that is as probable up to rounding.

    Args:
        probabilities: (H, W, L), of Keras.
        mask: (H, W) class ids, of the other model.
    """
    chosen, probabilities = class_ids_of(probabilities), by_class(probabilities)
    ours, theirs = (np.take_along_axis(probabilities, ids[..., np.newaxis], -1)[..., 0] for ids in (chosen, mask))
    return float(np.mean((chosen == mask) | (ours - theirs < TIE)))


def _random_inputs(contract: Contract) -> list[NDArray[np.uint8]]:
    shape = (contract.height_px, contract.width_px, contract.channels)
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(RANDOM_INPUTS)]


def _extreme_inputs(contract: Contract) -> list[NDArray[np.uint8]]:
    """Return black, white, stripes in the first channel, and a checkerboard of single pixels."""
    shape = (contract.height_px, contract.width_px, contract.channels)
    first = np.zeros(shape, np.uint8)
    first[::3, :, 0] = 255
    checker = np.zeros(shape, np.uint8)
    checker[::2, ::2] = checker[1::2, 1::2] = 255
    return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), first, checker]
