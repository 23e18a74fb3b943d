"""Nearest upsampling as copies, for 8-bit maps.

onnxruntime's ``Resize`` of 8-bit numbers takes several times as long as the copies that it stands for. In NHWC a map
concatenated with itself along the channels is one whose pixels stand twice side by side; likewise its rows.
"""

from __future__ import annotations

import onnx_ir as ir

from export.passes.graph import Builder, is_nearest_doubling, static_shape


class UpsampleByCopies(ir.passes.InPlacePass):
    """Replace each nearest 2× ``Resize`` by two concatenations."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [node for node in model.graph if is_nearest_doubling(node) and static_shape(node.inputs[0])]
        for node in found:
            count, channels, height, width = static_shape(node.inputs[0])  # type: ignore[misc]
            build, result = Builder(model.graph, node), node.outputs[0]
            pixels = build.node("Transpose", [node.inputs[0]], "nhwc", perm=(0, 2, 3, 1))
            pixels = build.node("Concat", [pixels, pixels], "columns", axis=3)
            rows = build.reshape(pixels, (count, height, 1, 2 * width * channels), "row")
            rows = build.node("Concat", [rows, rows], "rows", axis=2)
            whole = build.reshape(rows, (count, 2 * height, 2 * width, channels), "whole")
            whole = build.node("Transpose", [whole], "nchw", perm=(0, 3, 1, 2))
            result.replace_all_uses_with(whole)
        return ir.passes.PassResult(model, modified=bool(found))
