"""Compute a 3×3 convolution over a nearest 2× upsampling on the small map, for INT8: all phases in two convolutions.

As in ``phases``, the convolution equals four 2×2 convolutions over the small map, one per phase. Here one convolution
gives both column phases, as two sets of filters, and there is one convolution per row phase. The small map is padded by
one pixel on every side, and the filters of odd columns come first: position i then holds the pixels 2i-1 and 2i, in
this order. In memory, neighbouring positions are thus the upsampled row, with one pixel too many at both ends. The rows
of the two convolutions interleave in the same way. One concatenation of rows and one crop finish the map; both copy
bytes.

The whole map is made right away, because integer convolutions are faster with many filters and cannot add sums inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import Builder, array_of, input_of, producer_of, shape_of, take_place
from export.passes.phases import is_upsampled, parts_with_kernels, phase_kernel, saving, total_of

MINIMUM_SAVING = 10_000_000
"""Multiplications per frame below which two 8-bit convolutions were no faster than one on the machine measured."""
_ODD_FIRST = (1, 0)


class JoinPhases(ir.passes.InPlacePass):
    """Pass that computes each 3×3 convolution over a nearest 2× upsampling on the small map."""

    def __init__(self, minimum_saving: int | None = None) -> None:
        """Prepare the pass.

        Args:
            minimum_saving: Multiplications per frame that must be saved before a convolution is rewritten;
                ``MINIMUM_SAVING`` if None.
        """
        super().__init__()
        self._minimum_saving = MINIMUM_SAVING if minimum_saving is None else minimum_saving

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [node for node in model.graph if saving(node) >= max(1, self._minimum_saving)]
        for conv in found:
            take_place(conv.outputs[0], _rewritten(Builder(model.graph, conv), conv))
        return ir.passes.PassResult(model, modified=bool(found))


def _rewritten(build: Builder, conv: ir.Node) -> ir.Value:
    terms = []
    for number, (part, kernel) in enumerate(parts_with_kernels(conv)):
        bias = conv.inputs[2:] if number == 0 else []
        if is_upsampled(part):
            terms.append(_over_small_map(build, input_of(producer_of(part), 0), kernel, bias, f"part{number}"))
        else:
            inputs = [part, build.constant(kernel, f"part{number}_kernel"), *bias]
            terms.append(build.node("Conv", inputs, f"part{number}", kernel_shape=(3, 3), pads=(1, 1, 1, 1)))
    return total_of(build, terms, "sum")


def _over_small_map(
    build: Builder, small: ir.Value, kernel: NDArray[Any], bias: Sequence[ir.Value | None], name: str
) -> ir.Value:
    """Return the convolution of an upsampled map, (N, C, 2H, 2W), from the small one."""
    count, _, height, width = shape_of(small)
    channels = kernel.shape[0]
    doubled = [build.constant(np.tile(array_of(value), 2), f"{name}_bias") for value in bias]
    rows = []
    for row in _ODD_FIRST:
        filters = np.concatenate([phase_kernel(kernel, (row, column)) for column in _ODD_FIRST])
        inputs = [small, build.constant(filters, f"{name}_rows_{row}_kernel"), *doubled]
        value = build.node("Conv", inputs, f"{name}_rows_{row}", kernel_shape=(2, 2), pads=(1, 1, 1, 1))
        value = build.node("Transpose", [value], f"{name}_rows_{row}_nhwc", perm=(0, 2, 3, 1))
        rows.append(build.reshape(value, (count, height + 1, 1, 2 * (width + 1) * channels), f"{name}_row_{row}"))
    whole = build.node("Concat", rows, f"{name}_rows", axis=2)
    whole = build.reshape(whole, (count, 2 * height + 2, 2 * width + 2, channels), f"{name}_bordered")
    bounds = [
        build.constant(np.array(bound, np.int64), f"{name}_{what}")
        for what, bound in (("first", (1, 1)), ("last", (2 * height + 1, 2 * width + 1)), ("axes", (1, 2)))
    ]
    whole = build.node("Slice", [whole, *bounds], f"{name}_whole")
    return build.node("Transpose", [whole], f"{name}_nchw", perm=(0, 3, 1, 2))
