"""Sort the pixels of a sub-pixel head in the quickest way.

The head's 1×1 convolution gives each position the logits of all its pixels, row by row. In NHWC, the pixels of one row
already lie side by side, as in the image; only the rows must be sorted. With four rows, one convolution per row lets a
concatenation copy whole rows. With two rows, reading the map twice costs more than a transpose of pairs does, provided
that it has four axes: onnxruntime takes longer for five.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import Builder, array_of, is_plain_convolution, only_consumer, shape_of, static_shape, take_place
from export.passes.names import row_part

_TO_NHWC = (0, 2, 3, 1)
_SORT = (0, 1, 3, 2, 4)
"""Row of the map, row within the position, column, and the pixels of that row with their classes."""
_SORT_OF_FOUR = (0, 2, 1, 3)
"""The same after the images of the batch have been put below each other."""


class SortPixelRows(ir.passes.InPlacePass):
    """Pass that sorts the rows of sub-pixel heads: two by a transpose with four axes, more by concatenation."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [(node, chain) for node in model.graph if (chain := _sorted_pixels(node)) is not None]
        for conv, chain in found:
            if shape_of(chain[1].outputs[0])[3] == 2:
                _transpose(Builder(model.graph, conv, before=chain[-1]), chain)
            else:
                _concatenate(Builder(model.graph, conv), conv, chain)
        return ir.passes.PassResult(model, modified=bool(found))


def _sorted_pixels(conv: ir.Node) -> list[ir.Node] | None:
    """Return the four moves that sort the pixels of a 1×1 convolution, or None if something else follows it."""
    if not is_plain_convolution(conv, 1):
        return None
    chain: list[ir.Node] = []
    after = only_consumer(conv.outputs[0])
    while len(chain) < 4 and after is not None:
        chain.append(after)
        after = only_consumer(after.outputs[0])
    if [node.op_type for node in chain] != ["Transpose", "Reshape", "Transpose", "Reshape"]:
        return None
    orders = [tuple(chain[place].attributes.get_ints("perm") or ()) for place in (0, 2)]
    small, groups, whole = (static_shape(chain[place].outputs[0]) for place in (0, 1, 3))
    if orders != [_TO_NHWC, _SORT] or small is None or groups is None or whole is None or len(groups) != 5:
        return None
    count, rows, columns, stride, _ = groups
    same_positions = groups[:3] == small[:3] and len(whole) == 4
    return chain if same_positions and whole[:3] == (count, rows * stride, columns * stride) else None


def _transpose(build: Builder, chain: list[ir.Node]) -> None:
    count, rows, columns, stride, width = shape_of(chain[1].outputs[0])
    whole = chain[-1].outputs[0]
    value = build.reshape(chain[0].outputs[0], (count * rows, columns, stride, width), "position_rows")
    value = build.node("Transpose", [value], "sorted_rows", perm=_SORT_OF_FOUR)
    take_place(whole, build.reshape(value, shape_of(whole), "sorted_whole"))


def _concatenate(build: Builder, conv: ir.Node, chain: list[ir.Node]) -> None:
    count, rows, columns, stride, width = shape_of(chain[1].outputs[0])
    whole = chain[-1].outputs[0]
    weights = [np.split(array_of(value), stride) for value in conv.inputs[1:]]
    parts = []
    for row, constants in enumerate(zip(*weights, strict=True)):
        inputs = [conv.inputs[0], *(build.constant(array, f"weights_{row}_{i}") for i, array in enumerate(constants))]
        value = build.node("Conv", inputs, row_part(row), kernel_shape=(1, 1))
        value = build.node("Transpose", [value], f"nhwc_{row}", perm=_TO_NHWC)
        parts.append(build.reshape(value, (count, rows, 1, columns * width), f"pixels_{row}"))
    value = build.node("Concat", parts, "rows", axis=2)
    take_place(whole, build.reshape(value, shape_of(whole), "whole"))
