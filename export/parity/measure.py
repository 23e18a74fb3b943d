"""Compare Keras with the ONNX file that ships: outputs, layers, stages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

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
from edge_runtime.segment.segmenter import Segmenter
from export.config import ParityBudget
from export.optimise import Stage
from export.parity.figures import Differences, OutputParity, StageParity
from export.parity.keras_reference import KerasReference
from export.parity.layers import LOGITS, LayerDifference, Probe, first_diverging, layer_differences
from export.parity.ties import agreement, settled
from export.validation_set import ValidationSet

REAL_INPUTS = 32
"""Validation images whose logits are compared, spread over the split; the mean IoU is measured on the whole split."""
STAGE_INPUTS = 16
"""Validation images on which every stage is compared."""
LAYER_INPUTS = 2
RANDOM_INPUTS = 4


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
    for d in (d for image in images for d in settled(image, compare, tie_limit)):
        worst[d.layer] = float(np.maximum(worst.get(d.layer, 0.0), d.relative_diff))
    return tuple(LayerDifference(layer=layer, relative_diff=diff) for layer, diff in worst.items())


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
            return diff.max(), (diff.max(), diff.mean(), agreement(probabilities, class_ids_of(other)))

        rows.append(settled(image, compare, tie_limit))
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
        equal = agreement(probabilities, segmenter.mask_of(image))
        return diff.max(), (logit_diff.max(), logit_diff.mean(), diff.max(), diff.mean(), equal)

    rows = [settled(image, compare, tie_limit) for image in images]
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
    """Return black, white, stripes in the first channel, and a checkerboard of single pixels."""
    shape = (contract.height_px, contract.width_px, contract.channels)
    first = np.zeros(shape, np.uint8)
    first[::3, :, 0] = 255
    checker = np.zeros(shape, np.uint8)
    checker[::2, ::2] = checker[1::2, 1::2] = 255
    return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), first, checker]
