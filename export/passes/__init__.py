"""The graph passes, one per file, and the order in which ``export.optimise`` applies them.

To add a pass, write its file and one row here. The stages of the parity gate, the report, ``--without`` and the help
all follow from the rows. A row names the class and does not hold it, because the help must not load ``onnx_ir``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class PassInfo:
    """Row of the register of passes.

    Attributes:
        name: Name of the pass in ``--without``, and of the stage after it.
        place: Module and class under ``export.passes``; the class takes no arguments.
        optional: Whether ``--without`` may leave the pass out. The others are required: pixels in, class ids out.
    """

    name: str
    place: str
    optional: bool = False

    def make(self) -> ir.passes.InPlacePass:
        """Import the class and return an instance of it."""
        module, _, kind = self.place.partition(".")
        made: ir.passes.InPlacePass = getattr(import_module(f"export.passes.{module}"), kind)()
        return made


FIRST_PASSES = (
    PassInfo("erfc", "erfc.WriteErfc"),
    PassInfo("batch norm", "batch_norm.FoldBatchNorm"),
    PassInfo("padding", "padding.FoldPadding"),
    PassInfo("reshapes", "reshapes.DropReshapes"),
)
"""Passes that are applied before layers are named. They complete tf2onnx's own folding and do not count as stages."""
SHARED_PASSES = (
    PassInfo("unpooling", "unpooling.UseMaxUnpool", optional=True),
    PassInfo("upsampling", "upsampling.RestoreUpsampling", optional=True),
    PassInfo("hard-sigmoid", "hard_sigmoid.FuseHardSigmoid", optional=True),
    PassInfo("normalisation", "normalisation.FoldNormalisation"),
    PassInfo("pixels", "pixels.TakePixels"),
    PassInfo("pixel-rows", "pixel_rows.SortPixelRows", optional=True),
    PassInfo("class map", "class_map.AddClassMap"),
)
"""Passes for both variants."""
FLOAT_PASSES = (
    PassInfo("phases", "phases.SplitUpsampling", optional=True),
    PassInfo("means", "means.PoolMeans", optional=True),
    PassInfo("gates", "gates.SpreadGates", optional=True),
    PassInfo("skips", "skips.ConvolveBeforeDoubling", optional=True),
)
"""Passes for the float variant, after the shared ones."""
INT8_PASSES = (
    PassInfo("transposed", "transposed.ConvolveTransposed", optional=True),
    PassInfo("phases", "joined_phases.JoinPhases", optional=True),
    PassInfo("copies", "copies.UpsampleByCopies", optional=True),
    PassInfo("pixel-groups", "pixel_groups.GroupPixels", optional=True),
    PassInfo("pixel-groups-narrow", "pixel_groups.GroupNarrow", optional=True),
)
"""Passes for the INT8 variant, after the shared ones and before it is quantised."""
OPTIONAL_PASSES = tuple(
    dict.fromkeys(row.name for row in (*SHARED_PASSES, *FLOAT_PASSES, *INT8_PASSES) if row.optional)
)
"""Names of the passes that ``--without`` may leave out."""
