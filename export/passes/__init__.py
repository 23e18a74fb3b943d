"""The graph passes, one per file, and the order in which ``export.optimise`` applies them.

To add a pass, write its file and one row here. The stages of the parity gate, the report, ``--without`` and the help all
follow from the rows. A row names the class and does not hold it, because the help must not load ``onnx_ir``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class PassInfo:
    """One row of the register of passes.

    Attributes:
        name: Name of the stage after the pass, and what ``--without`` calls it.
        place: Module and class under ``export.passes``; the class is made without arguments.
        optional: ``--without`` may leave it out. The other passes make the contract: pixels in, class ids out.
    """

    name: str
    place: str
    optional: bool = False

    def make(self) -> ir.passes.InPlacePass:
        """Load the class and return a pass of it."""
        module, _, kind = self.place.partition(".")
        made: ir.passes.InPlacePass = getattr(import_module(f"export.passes.{module}"), kind)()
        return made


FIRST_PASSES = (
    PassInfo("batch norm", "batch_norm.FoldBatchNorm"),
    PassInfo("padding", "padding.FoldPadding"),
)
"""Applied before layers are named. They complete what tf2onnx folds and are no stages of their own."""
SHARED_PASSES = (
    PassInfo("upsampling", "upsampling.RestoreUpsampling", optional=True),
    PassInfo("normalisation", "normalisation.FoldNormalisation"),
    PassInfo("pixels", "pixels.TakePixels"),
    PassInfo("pixel-rows", "pixel_rows.ConcatenatePixelRows", optional=True),
    PassInfo("class map", "class_map.AddClassMap"),
)
"""Applied to both variants."""
FLOAT_PASSES = (PassInfo("phases", "phases.SplitUpsampling", optional=True),)
"""Applied after the shared ones to the float variant."""
INT8_PASSES = (
    PassInfo("phases", "joined_phases.JoinPhases", optional=True),
    PassInfo("copies", "copies.UpsampleByCopies", optional=True),
    PassInfo("pixel-groups", "pixel_groups.GroupPixels", optional=True),
    PassInfo("pixel-groups-1x1", "pixel_groups.GroupNarrow", optional=True),
)
"""Applied after the shared ones to the INT8 variant, before it is quantised."""
OPTIONAL_PASSES = tuple(
    dict.fromkeys(row.name for row in (*SHARED_PASSES, *FLOAT_PASSES, *INT8_PASSES) if row.optional)
)
"""Names that ``--without`` takes."""
