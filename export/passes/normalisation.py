"""Fold the scaling of the input into the weights of the first convolution.

``conv(w, s·x) = conv(s·w, x)`` is exact, zero padding included. An offset cannot be folded, because the convolution
would have to pad with the offset's value. So a factor is folded, and anything else stays in the graph.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import changes_layout, constant, initializer, input_of, only_consumer, swaps_channels


class FoldNormalisation(ir.passes.InPlacePass):
    """Pass that folds ``image · s + 0``, as ``Rescaling`` writes it, into the convolution that follows."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        image = model.graph.inputs[0]
        scale, arithmetic = 1.0, []
        node = only_consumer(image)
        while node is not None and (factor := _factor(node)) is not None:
            scale *= factor
            arithmetic.append(node)
            node = only_consumer(node.outputs[0])
        first = node
        while node is not None and (changes_layout(node) or swaps_channels(node)):
            node = only_consumer(node.outputs[0])
        if not arithmetic or first is None or node is None or node.op_type != "Conv":
            return ir.passes.PassResult(model, modified=False)
        weight = constant(node.inputs[1])
        if weight is None:
            return ir.passes.PassResult(model, modified=False)
        scaled = (weight.astype(np.float64) * scale).astype(np.float32)
        node.replace_input_with(1, initializer(model.graph, f"{input_of(node, 1).name}_scaled", scaled))
        first.replace_input_with(0, image)
        for unused in reversed(arithmetic):
            model.graph.remove(unused, safe=True)
        return ir.passes.PassResult(model, modified=True)


def _factor(node: ir.Node) -> float | None:
    """Return the factor that a node applies: its constant for ``Mul``, 1 for ``Add`` of zero, None for any other node."""
    other = constant(node.inputs[1]) if len(node.inputs) == 2 else None
    if other is None or other.size != 1:
        return None
    number = float(other.reshape(-1)[0])
    if node.op_type == "Mul":
        return number
    return 1.0 if node.op_type == "Add" and number == 0.0 else None
