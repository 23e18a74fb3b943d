"""Figures that the parity gate measures, and the budget that they must keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_runtime.dataset.evaluate import Evaluation
from export.config import ParityBudget
from export.errors import ParityError
from export.parity.layers import LayerDifference, first_diverging


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
