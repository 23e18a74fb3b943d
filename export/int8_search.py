"""Search for an INT8 variant worth shipping: calibrate, try, find sensitive layers, compare accuracy and speed.

Reference for calibration by percentile: H. Wu et al., Integer Quantization for Deep Learning Inference, 2020,
https://arxiv.org/abs/2004.09602.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edge_runtime.dataset.metrics import class_iou, mean_iou
from edge_runtime.model.contract import Contract
from edge_runtime.model.session import Session
from edge_runtime.progress import OnProgress, silent
from export.config import Int8Budget
from export.errors import Int8Error
from export.optimise import to_int8
from export.parity.layers import Probe
from export.passes.quantize import Range, layers_of, measured_values
from export.validation_set import ValidationSet

CALIBRATION_IMAGES = 64
PERCENTILE = 99.99
SENSITIVITY_IMAGES = 8
TIMED_RUNS = 60
WARM_UP_RUNS = 10
_BINS = 2048
_SAMPLED = 1 << 18
"""About how many numbers per value and image enter the histogram; all of them would take longer and show the same."""

Calibration = Literal["min-max", "percentile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to quantise, and its loss compared with float on the validation split.

    Attributes:
        calibration: Method that found the ranges: "min-max", or "percentile" (99.99).
        float_layers: Names of the Keras layers that were left in float.
        mean_iou_drop: Loss of mean IoU.
        class_iou_drop: Loss of IoU of the class that loses most.
        worst_class: Name of that class.
    """

    calibration: Calibration
    float_layers: tuple[str, ...]
    mean_iou_drop: float
    class_iou_drop: float
    worst_class: str

    def within(self, budget: Int8Budget) -> bool:
        """Check that the loss is within the budget; a NaN is not."""
        return self.mean_iou_drop <= budget.mean_iou_drop and self.class_iou_drop <= budget.class_iou_drop


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Result of the search: the attempts, their figures and the decision.

    Attributes:
        shipped: Whether an INT8 variant is in the package.
        reason: Why the variant is in the package or not, in one sentence.
        budget: The limits that applied.
        calibration_images: Number of images on which ranges were measured.
        attempts: All attempts in their order.
        best: The attempt that was timed, or that came nearest to the budget.
        sensitivity: Per Keras layer, share of the logits' INT8 error that vanishes if only this layer stays in float;
            None if the whole network could be quantised.
        speedup: Latency in float over latency in INT8 on this machine; None if it was not measured.
    """

    shipped: bool
    reason: str
    budget: Int8Budget
    calibration_images: int = 0
    attempts: tuple[Attempt, ...] = ()
    best: Attempt | None = None
    sensitivity: Mapping[str, float] | None = None
    speedup: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        result: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return result


def measure_ranges(
    layout: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], percentile: float | None = None
) -> dict[str, Range]:
    """Measure the ranges of the values that ``to_int8`` needs, with one image in memory at a time.

    Args:
        layout: The last stage of ``integer_layout``.
        images: (height_px, width_px, channels) uint8 each.
        percentile: Percentage of the numbers that the range includes; all of them if None.
    """
    names = measured_values(ir.from_proto(layout).graph)
    probe = Probe(layout, names)
    low = dict.fromkeys(names, 0.0)
    high = dict.fromkeys(names, 0.0)
    for name, value in _values(probe, names, images):
        low[name], high[name] = min(low[name], float(value.min())), max(high[name], float(value.max()))
    if percentile is None:
        return {name: (low[name], high[name]) for name in names}
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    for name, value in _values(probe, names, images):
        sampled = value.reshape(-1)[:: max(1, value.size // _SAMPLED)]
        counts[name] += np.histogram(sampled, _BINS, (low[name], high[name] + 1e-12))[0]
    return {name: _without_tails(counts[name], low[name], high[name], percentile) for name in names}


def find_int8(
    layout: onnx.ModelProto,
    float_model: onnx.ModelProto,
    contract: Contract,
    validation: ValidationSet,
    calibration: Sequence[NDArray[np.uint8]],
    budget: Int8Budget,
    *,
    insist: bool = False,
    on_progress: OnProgress = silent,
) -> tuple[Quantization, onnx.ModelProto | None]:
    """Search for an INT8 graph that is accurate enough and faster.

    First the whole network is quantised, with ranges by both methods. If both lose too much, more and more layers stay in
    float, the most sensitive ones first, up to half of all layers.

    Args:
        layout: The last stage of ``integer_layout``.
        float_model: The float model to compare with.
        contract: Inputs and outputs of both models.
        validation: Images and truth on which accuracy is measured.
        calibration: (height_px, width_px, channels) uint8 each, images on which ranges are measured.
        budget: Limits of loss and speed.
        insist: Whether to ship a graph that is accurate enough even if it is not faster.
        on_progress: Called at the start of each step, whose parts are not counted.

    Returns:
        The result, and the graph if it is to be shipped.

    Raises:
        Int8Error: ``insist`` is set, and no graph is accurate enough.
    """
    search = _Search(layout, float_model, contract, validation)
    on_progress("calibrating", 0, 1)
    ranges: dict[Calibration, dict[str, Range]] = {
        "min-max": measure_ranges(layout, calibration),
        "percentile": measure_ranges(layout, calibration, PERCENTILE),
    }
    on_progress("trying INT8", 0, 1)
    attempts = [search.attempt(method, ranges[method], ()) for method in ranges]
    best = _best(attempts, budget)
    sensitivity: dict[str, float] | None = None
    if not best.within(budget):
        on_progress("looking for sensitive layers", 0, 1)
        sensitivity = search.sensitivity(ranges[best.calibration])
        layers = sorted(sensitivity, key=lambda layer: -sensitivity[layer])
        for number in _doubling(len(layers) // 2):
            attempts.append(search.attempt(best.calibration, ranges[best.calibration], tuple(layers[:number])))
            if attempts[-1].within(budget):
                break
        best = _best(attempts, budget)
    found = Quantization(
        shipped=False,
        reason=f"INT8 {_change(best, budget)}",
        calibration_images=len(calibration),
        attempts=tuple(attempts),
        best=best,
        sensitivity=sensitivity,
        budget=budget,
    )
    if not best.within(budget):
        if insist:
            raise Int8Error(
                f"INT8 — {_change(best, budget)} — no package was written — calibrate on more images of the kind that will be "
                "segmented (--calibration DIR), raise the budget, or leave it to --int8 auto"
            )
        return found, None
    on_progress("timing INT8", 0, 1)
    model = search.quantized(ranges[best.calibration], best.float_layers)
    speedup = search.speedup(model)
    shipped = insist or speedup >= budget.speedup
    asked = "" if shipped else f" (at least {budget.speedup:g} times is asked for)"
    reason = f"INT8 {_change(best, budget)}, and is {speedup:.2f} times as fast as float on this machine{asked}"
    found = replace(found, shipped=shipped, speedup=speedup, reason=reason)
    return found, model if shipped else None


class _Search:
    """Search over INT8 graphs of one layout, each compared with the float model."""

    def __init__(
        self, layout: onnx.ModelProto, float_model: onnx.ModelProto, contract: Contract, validation: ValidationSet
    ) -> None:
        self._layout = layout
        self._contract = contract
        self._validation = validation
        self._float = self._session(float_model)
        self._matrix = validation.matrix(self._float.mask(image) for image in validation.images)

    def quantized(self, ranges: Mapping[str, Range], float_layers: Collection[str]) -> onnx.ModelProto:
        return to_int8(self._layout, self._contract, ranges, float_layers)

    def attempt(self, method: Calibration, ranges: Mapping[str, Range], float_layers: tuple[str, ...]) -> Attempt:
        session = self._session(self.quantized(ranges, float_layers))
        matrix = self._validation.matrix(session.mask(image) for image in self._validation.images)
        # A class that occurs in neither truth nor mask has IoU NaN, and has lost nothing.
        drops = np.nan_to_num(class_iou(self._matrix) - class_iou(matrix))
        worst = int(drops.argmax())
        return Attempt(
            calibration=method,
            float_layers=float_layers,
            mean_iou_drop=mean_iou(self._matrix) - mean_iou(matrix),
            class_iou_drop=float(drops[worst]),
            worst_class=self._contract.classes[worst].name,
        )

    def sensitivity(self, ranges: Mapping[str, Range]) -> dict[str, float]:
        """Return, per layer, the share of the logits' mean squared error that vanishes if only it stays in float."""
        images = self._validation.thinned(SENSITIVITY_IMAGES).images
        expected = [self._float.logits(image) for image in images]

        def error(float_layers: Collection[str]) -> float:
            session = self._session(self.quantized(ranges, float_layers))
            squares = [np.square(session.logits(i) - e).mean() for i, e in zip(images, expected, strict=True)]
            return float(np.mean(squares))

        whole = error(())
        layers = layers_of(ir.from_proto(self._layout).graph)
        return {layer: 1 - error({layer}) / max(whole, 1e-30) for layer in layers}

    def speedup(self, model: onnx.ModelProto) -> float:
        """Return latency in float over latency in INT8: medians of alternating runs."""
        sessions = (self._float, self._session(model))
        times: tuple[list[float], list[float]] = ([], [])
        for run in range(WARM_UP_RUNS + TIMED_RUNS):
            for session, samples in zip(sessions, times, strict=True):
                start = time.perf_counter()
                session.mask(self._validation.images[run % len(self._validation.images)])
                samples.append(time.perf_counter() - start)
        in_float, in_int8 = (float(np.median(samples[WARM_UP_RUNS:])) for samples in times)
        return in_float / in_int8

    def _session(self, model: onnx.ModelProto) -> Session:
        return Session(model.SerializeToString(), f"model '{self._contract.name}'", self._contract)


def _best(attempts: Sequence[Attempt], budget: Int8Budget) -> Attempt:
    """Return the attempt with the smallest loss; one within the budget comes before all others."""
    return min(attempts, key=lambda attempt: (not attempt.within(budget), attempt.mean_iou_drop))


def _change(attempt: Attempt, budget: Int8Budget) -> str:
    """Describe the loss of an attempt in words."""
    kept = f" with {', '.join(attempt.float_layers)} in float" if attempt.float_layers else ""
    limits = f" (at most -{budget.mean_iou_drop:g} and -{budget.class_iou_drop:g} are allowed)"
    return (
        f"changes the mean IoU by {-attempt.mean_iou_drop:+.4f} and the IoU of '{attempt.worst_class}' by "
        f"{-attempt.class_iou_drop:+.4f}{kept}{'' if attempt.within(budget) else limits}"
    )


def _doubling(limit: int) -> Iterator[int]:
    """Yield 1, 2, 4, … up to a limit."""
    number = 1
    while number <= limit:
        yield number
        number *= 2


def _values(
    probe: Probe, names: Sequence[str], images: Sequence[NDArray[np.uint8]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for image in images:
        yield from zip(names, probe.run(image, names), strict=True)


def _without_tails(counts: NDArray[np.int64], low: float, high: float, percentile: float) -> Range:
    """Return the range that includes a percentage of a histogram's numbers, with equal tails cut off at both ends."""
    tail = (1 - percentile / 100) / 2
    share = np.cumsum(counts) / max(counts.sum(), 1)
    edges = np.linspace(low, high, len(counts) + 1)
    first, last = int(np.searchsorted(share, tail)), int(np.searchsorted(share, 1 - tail))
    return float(edges[first]), float(edges[last + 1] if last < len(counts) else edges[-1])
