"""Names that tell the place in the graph, so that the same weights always give the same file.

tf2onnx numbers its names through the life of a process, and keeps constants in whatever order a set had.
"""

from __future__ import annotations

import onnx_ir as ir

from export.passes.graph import constant


class NameByPlace(ir.passes.InPlacePass):
    """Name nodes, values and constants by their place, and put the constants in the order of their first use.

    Inputs and outputs of the graph keep their names. Expects a graph that is sorted and holds nothing unused.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the names."""
        graph = model.graph
        arrays = {
            value: array
            for node in graph
            for value in node.inputs
            if value is not None and value.is_initializer() and (array := constant(value)) is not None
        }
        graph.initializers.clear()
        for number, (value, array) in enumerate(arrays.items()):
            # A tensor of its own: renaming the one that was read would rename it in the protobuf it came from.
            value.const_value = ir.tensor(array)
            value.name = f"constant_{number}"
            graph.register_initializer(value)
        for number, node in enumerate(graph):
            node.name = f"{node.op_type.lower()}_{number}"
            for place, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    value.name = f"{node.name}_{place}"
        return ir.passes.PassResult(model, modified=True)
