"""Settings of an export, and the budgets that its result must meet."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edge_runtime.errors import UsageError
from export.passes import OPTIONAL_PASSES

PixelRange = Literal["0-1", "0-255", "-1-1", "imagenet"]
"""Values that a model expects of pixels; "imagenet": 0–1 less ImageNet's mean, divided by its standard deviation."""
Output = Literal["sigmoid", "softmax", "logits"]
"""What a model gives for each pixel: probabilities by one of the two functions, or the numbers before it."""
HDF5_SUFFIXES = (".h5", ".hdf5")
"""Suffixes by which Keras knows an HDF5 file."""
MODEL_SUFFIXES = (".keras", *HDF5_SUFFIXES)
"""Suffixes of files that hold a Keras model."""
OPSETS = range(13, 19)
"""ONNX opsets that tf2onnx writes and that the passes are tested with."""
DEFAULT_OPSET = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityBudget:
    """Largest differences between Keras and the package with which a package is still written.

    Attributes:
        max_abs_diff: Largest difference of any probability on any input.
        class_agreement: Smallest share of pixels with the same class, 0–1.
        mean_iou_change: Largest change of the mean IoU on the validation split, in either direction.
        layer_diff: Largest difference inside any layer, relative to the layer's largest value. Rounding causes 1e-6,
            in deep networks up to 2e-5; one weight that is 1 % off causes 1e-4 and more, often before a probability
            shows it.

    Example:
        >>> from export import ParityBudget
        >>> ParityBudget(max_abs_diff=1e-5).class_agreement
        0.9999
    """

    max_abs_diff: float = 1e-4
    class_agreement: float = 0.9999
    mean_iou_change: float = 0.0005
    layer_diff: float = 5e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Budget:
    """Largest loss and smallest gain with which the INT8 variant is added to the package.

    Attributes:
        mean_iou_drop: Largest loss of mean IoU on the validation split, compared with float.
        class_iou_drop: Largest loss of IoU of any single class there.
        speedup: Smallest ratio of the float variant's latency to the INT8 variant's, on the exporting machine.

    Example:
        >>> from export import Int8Budget
        >>> Int8Budget(mean_iou_drop=0.01).speedup
        1.15
    """

    mean_iou_drop: float = 0.005
    class_iou_drop: float = 0.02
    speedup: float = 1.15


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Settings of one export.

    Attributes:
        run: Run folder that training wrote.
        out: Package folder to write.
        data: Dataset folder, if it has moved since training.
        opset: Opset of the ONNX model, 13 to 18.
        overwrite: Whether to replace an existing package.
        budget: Limits of the parity gate.
        int8: "auto" adds an INT8 variant if it meets its budget, "off" never tries, "always" adds it even if it is not
            faster, and fails if it loses too much accuracy.
        int8_budget: Limits for the INT8 variant.
        calibration: Folder of images on which the ranges of activations are measured; the validation images if None.
        without: Names of passes to leave out, from ``export.passes.OPTIONAL_PASSES``.

    Raises:
        UsageError: A setting is out of range, or two settings contradict each other.

    Example:
        >>> from export import ExportConfig, ParityBudget
        >>> config = ExportConfig(run="runs/first", out="models/first", budget=ParityBudget(max_abs_diff=1e-5))
        >>> config.opset, config.int8
        (17, 'auto')
    """

    run: str | Path
    out: str | Path
    data: str | Path | None = None
    opset: int = DEFAULT_OPSET
    overwrite: bool = False
    budget: ParityBudget = ParityBudget()
    int8: Literal["auto", "off", "always"] = "auto"
    int8_budget: Int8Budget = Int8Budget()
    calibration: str | Path | None = None
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        if self.opset not in OPSETS:
            raise UsageError(f"--opset {self.opset} — expected {OPSETS.start} to {OPSETS.stop - 1}")
        for name in self.without:
            if name not in OPTIONAL_PASSES:
                raise UsageError(f"--without {name} — no such pass — choose of {', '.join(OPTIONAL_PASSES)}")
        for name, value in (asdict(self.budget) | asdict(self.int8_budget)).items():
            if not math.isfinite(value):
                raise UsageError(f"budget {name} is {value} — expected a finite number")
        for name, value in asdict(self.budget).items():
            if value < 0:  # a drop may be negative: INT8 may be asked to gain
                raise UsageError(f"budget {name} is {value} — expected 0 or more")
        if self.calibration is not None and self.int8 == "off":
            raise UsageError("--calibration is given, and --int8 off — leave one of them out")
