"""Write ``Erfc``, which ONNX does not have, by ``Erf``; TensorFlow's GELU uses it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import initializer


class WriteErfc(ir.passes.InPlacePass):
    """Pass that turns ``Erfc(x)`` into ``1 − Erf(x)``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        graph = model.graph
        nodes = [node for node in graph if node.op_type == "Erfc"]
        for node in nodes:
            erf = ir.node("Erf", [node.inputs[0]])
            result = ir.node(
                "Sub", [initializer(graph, f"{node.outputs[0].name}_one", np.array(1, np.float32)), erf.outputs[0]]
            )
            for new in (erf, result):
                new.outputs[0].shape, new.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
            graph.insert_before(node, [erf, result])
            node.outputs[0].replace_all_uses_with(result.outputs[0], replace_graph_outputs=True)
            graph.remove(node, safe=True)
        return ir.passes.PassResult(model, modified=bool(nodes))
