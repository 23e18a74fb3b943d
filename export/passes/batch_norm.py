"""Fold batch normalisation into depthwise convolutions, the ones behind which tf2onnx leaves it.

``s·conv(w, x) + t = conv(s·w, x) + t``, exact up to rounding, with one s and one t per channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import constant, initializer, input_of, only_consumer


class FoldBatchNorm(ir.passes.InPlacePass):
    """Pass that folds ``Mul`` and ``Add`` of constants behind each depthwise ``Conv`` into its weights.

    It runs before layers are named, and keeps the output's name, by which ``NameByLayer`` recognises the layer.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        folded = [_fold(model.graph, node) for node in list(model.graph) if _is_depthwise(node)]
        return ir.passes.PassResult(model, any(folded))


def _is_depthwise(node: ir.Node) -> bool:
    return node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1


def _fold(graph: ir.Graph, conv: ir.Node) -> bool:
    kernel = constant(conv.inputs[1])
    bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(1)
    if kernel is None or bias is None:
        return False
    kernel, bias = kernel.astype(np.float64), bias.astype(np.float64)
    arithmetic = []
    node = only_consumer(conv.outputs[0])
    while node is not None and (numbers := _by_channel(node, kernel.shape[0])) is not None:
        if node.op_type == "Mul":
            kernel, bias = kernel * numbers[:, None, None, None], bias * numbers
        else:
            bias = bias + numbers
        arithmetic.append(node)
        node = only_consumer(node.outputs[0])
    if not arithmetic:
        return False
    name, output, result = input_of(conv, 1).name, conv.outputs[0].name, arithmetic[-1].outputs[0]
    weights = [
        initializer(graph, f"{name}/folded", kernel.astype(np.float32)),
        initializer(graph, f"{name}/folded_bias", np.broadcast_to(bias, kernel.shape[:1]).astype(np.float32)),
    ]
    replacement = ir.node("Conv", [conv.inputs[0], *weights], dict(conv.attributes))
    replacement.outputs[0].shape, replacement.outputs[0].type = result.shape, result.type
    graph.insert_before(conv, replacement)
    result.replace_all_uses_with(replacement.outputs[0], replace_graph_outputs=True)
    for unused in (*reversed(arithmetic), conv):
        graph.remove(unused, safe=True)
    replacement.outputs[0].name = output
    return True


def _by_channel(node: ir.Node, channels: int) -> NDArray[Any] | None:
    """Return the factor or summand per channel that a node applies to an NCHW map; None for any other node."""
    if node.op_type not in ("Add", "Mul") or node.outputs[0].is_graph_output():
        return None
    numbers = next((array for value in node.inputs if (array := constant(value)) is not None), None)
    if numbers is None or (numbers.size != 1 and numbers.shape[-3:] != (channels, 1, 1)) or numbers.size > channels:
        return None
    return np.broadcast_to(numbers.reshape(-1).astype(np.float64), channels)
