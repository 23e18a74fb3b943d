"""What an export is told, and how far Keras and onnxruntime may differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import UsageError

OPSETS = range(13, 19)
"""ONNX opsets that tf2onnx writes and that our passes are tested with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityBudget:
    """How far the package may differ from Keras before it is refused.

    Attributes:
        max_abs_diff: Largest difference of any probability on any input.
        class_agreement: Smallest share of pixels with the same class.
        mean_iou_change: Largest change of the mean IoU on the validation split, either way.
    """

    max_abs_diff: float = 1e-4
    class_agreement: float = 0.9999
    mean_iou_change: float = 0.0005


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
    """

    run: Path
    out: Path
    data: Path | None = None
    opset: int = 17
    overwrite: bool = False
    budget: ParityBudget = ParityBudget()

    def __post_init__(self) -> None:
        """Refuse an opset that cannot work."""
        if self.opset not in OPSETS:
            raise UsageError(f"--opset {self.opset} — expected {OPSETS.start} to {OPSETS.stop - 1}")
