"""What an export is told, and how far Keras and onnxruntime may differ."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edge_runtime.errors import UsageError

OPSETS = range(13, 19)
"""ONNX opsets that tf2onnx writes and that our passes are tested with."""
PASSES = ("upsampling", "pixel-rows", "phases", "copies", "pixel-groups", "pixel-groups-1x1")
"""Passes that can be left out. The others make the contract: pixels in, class ids out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityBudget:
    """How far the package may differ from Keras before it is refused.

    Attributes:
        max_abs_diff: Largest difference of any probability on any input.
        class_agreement: Smallest share of pixels with the same class.
        mean_iou_change: Largest change of the mean IoU on the validation split, either way.
        layer_diff: Largest difference inside any layer, as a share of the layer's largest number. Rounding makes 1e-6
            of it, in deep networks up to 2e-5; one weight that is 1 % off makes 1e-4 and more, often before a probability
            shows it.
    """

    max_abs_diff: float = 1e-4
    class_agreement: float = 0.9999
    mean_iou_change: float = 0.0005
    layer_diff: float = 5e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Budget:
    """What the INT8 variant may lose against float, and must gain, to be in the package.

    Attributes:
        mean_iou_drop: Largest loss of mean IoU on the validation split.
        class_iou_drop: Largest loss of any class's IoU there.
        speedup: Smallest ratio of the float variant's latency to its own, on the exporting machine.
    """

    mean_iou_drop: float = 0.005
    class_iou_drop: float = 0.02
    speedup: float = 1.15


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """One export.

    Attributes:
        run: The run folder.
        out: The package folder to write.
        data: Where the dataset is now, if not where it was in training.
        opset: Of the ONNX model.
        overwrite: Exchange an existing package for the new one.
        budget: For the parity gate.
        int8: Ship an INT8 variant if it wins, never, or always (and fail where it loses too much).
        int8_budget: What winning is.
        calibration: Folder of images to measure the ranges of activations on; the validation images if None.
        without: Passes to leave out, of ``PASSES``.
    """

    run: Path
    out: Path
    data: Path | None = None
    opset: int = 17
    overwrite: bool = False
    budget: ParityBudget = ParityBudget()
    int8: Literal["auto", "off", "always"] = "auto"
    int8_budget: Int8Budget = Int8Budget()
    calibration: Path | None = None
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.opset not in OPSETS:
            raise UsageError(f"--opset {self.opset} — expected {OPSETS.start} to {OPSETS.stop - 1}")
        for name in self.without:
            if name not in PASSES:
                raise UsageError(f"--without {name} — no such pass — choose of {', '.join(PASSES)}")
        for name, value in (asdict(self.budget) | asdict(self.int8_budget)).items():
            if not math.isfinite(value):
                raise UsageError(f"budget {name} is {value} — expected a finite number")
        if self.calibration is not None and self.int8 == "off":
            raise UsageError("--calibration is given, and --int8 off — leave one of them out")
