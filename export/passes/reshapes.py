"""Drop reshapes to the shape that a value has already, which stand between a mean and the convolutions of its gate."""

from __future__ import annotations

import onnx_ir as ir

from export.graph import input_of, static_shape


class DropReshapes(ir.passes.InPlacePass):
    """Pass that removes ``Reshape`` nodes that change nothing: each costs as much as a small convolution."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        idle = [node for node in model.graph if node.op_type == "Reshape" and _changes_nothing(node)]
        for node in idle:
            node.outputs[0].replace_all_uses_with(input_of(node, 0))
        return ir.passes.PassResult(model, bool(idle))


def _changes_nothing(node: ir.Node) -> bool:
    shape = static_shape(node.inputs[0])
    return shape is not None and shape == static_shape(node.outputs[0]) and not node.outputs[0].is_graph_output()
