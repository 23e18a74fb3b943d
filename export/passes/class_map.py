"""Add the class ids as an output: an argmax or a threshold of the logits, which needs neither softmax nor sigmoid."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import initializer


class AddClassMap(ir.passes.InPlacePass):
    """Pass that sets the outputs ``mask``, uint8 (1, H, W), and ``logits``, float32 (1, H, W, L)."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph; the clean-up removes nodes that only the old outputs needed."""
        graph = model.graph
        logits = next(value for value in graph.outputs if value.name == "logits")
        size = list(logits.shape or ())
        if size[3] == 1:
            # A sigmoid is above one half where its argument is above zero. onnxruntime compares (1, H, W) with a scalar
            # twenty times as fast as (1, H, W, 1) with (1,).
            zero = initializer(graph, "threshold", np.array(0, np.float32))
            plane = ir.node("Squeeze", [logits, initializer(graph, "class_axis", np.array([3], np.int64))])
            ids = ir.node("Greater", [plane.outputs[0], zero])
            nodes = [plane, ids]
        else:
            ids = ir.node("ArgMax", [logits], {"axis": 3, "keepdims": 0})
            nodes = [ids]
        cast = ir.node("Cast", [ids.outputs[0]], {"to": int(ir.DataType.UINT8)})
        mask = cast.outputs[0]
        mask.name, mask.dtype, mask.shape = "mask", ir.DataType.UINT8, ir.Shape(size[:3])
        graph.extend([*nodes, cast])
        graph.outputs[:] = [mask, logits]
        return ir.passes.PassResult(model, modified=True)
