"""Replace nearest upsampling of 8-bit maps by copies.

onnxruntime's ``Resize`` of 8-bit numbers takes several times as long as copying. In NHWC, a ``Gather`` that takes every
column twice copies whole pixels, and one that takes every row twice copies whole rows.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import Builder, input_of, is_nearest_doubling, shape_of, static_shape


class UpsampleByCopies(ir.passes.InPlacePass):
    """Pass that replaces each nearest 2× ``Resize`` by two ``Gather`` nodes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [
            node
            for node in model.graph
            if is_nearest_doubling(node) and static_shape(node.inputs[0]) and not node.outputs[0].is_graph_output()
        ]
        for node in found:
            _, _, height, width = shape_of(input_of(node, 0))
            build, result = Builder(model.graph, node), node.outputs[0]
            columns, rows = (
                build.constant(np.arange(size, dtype=np.int64).repeat(2), name)
                for size, name in ((width, "each_column_twice"), (height, "each_row_twice"))
            )
            value = build.node("Transpose", [node.inputs[0]], "nhwc", perm=(0, 2, 3, 1))
            value = build.node("Gather", [value, columns], "columns", axis=2)
            value = build.node("Gather", [value, rows], "rows", axis=1)
            whole = build.node("Transpose", [value], "nchw", perm=(0, 3, 1, 2))
            whole.shape, whole.type = result.shape, result.type
            result.replace_all_uses_with(whole)
        return ir.passes.PassResult(model, modified=bool(found))
