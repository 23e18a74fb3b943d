"""Fold batch normalisation into convolutions where tf2onnx leaves it: behind depthwise, transposed and moved ones.

``s·conv(w, x) + t = conv(s·w, x) + t``, exact up to rounding, with one s and one t per channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import constant, initializer, input_of, only_consumer


class FoldBatchNorm(ir.passes.InPlacePass):
    """Pass that folds ``Mul`` and ``Add`` of constants behind each convolution into its weights.

    A transpose to NHWC may stand between them. The pass runs before layers are named, and keeps the output's name, by
    which ``NameByLayer`` recognises the layer.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        folded = [_fold(model.graph, node) for node in list(model.graph) if _is_convolution(node)]
        return ir.passes.PassResult(model, any(folded))


def _is_convolution(node: ir.Node) -> bool:
    """Tell whether a node is a convolution; of grouped transposed ones the weights are in another order."""
    return node.op_type == "Conv" or (node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) == 1)


def _fold(graph: ir.Graph, conv: ir.Node) -> bool:
    kernel = constant(conv.inputs[1])
    if kernel is None:
        return False
    out_axis = 0 if conv.op_type == "Conv" else 1
    channels = kernel.shape[out_axis]
    bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(channels)
    if bias is None:
        return False
    kernel, bias = np.moveaxis(kernel.astype(np.float64), out_axis, 0), bias.astype(np.float64)
    moved = _to_nhwc(only_consumer(conv.outputs[0]))
    arithmetic = []
    node = only_consumer((moved or conv).outputs[0])
    while node is not None and (numbers := _by_channel(node, channels, last=moved is not None)) is not None:
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
        initializer(graph, f"{name}/folded", np.ascontiguousarray(np.moveaxis(kernel, 0, out_axis), np.float32)),
        initializer(graph, f"{name}/folded_bias", bias.astype(np.float32)),
    ]
    replacement = ir.node(conv.op_type, [conv.inputs[0], *weights], dict(conv.attributes))
    replacement.outputs[0].shape, replacement.outputs[0].type = conv.outputs[0].shape, conv.outputs[0].type
    graph.insert_before(conv, replacement)
    conv.outputs[0].replace_all_uses_with(replacement.outputs[0])
    result.replace_all_uses_with((moved or replacement).outputs[0], replace_graph_outputs=True)
    for unused in (*reversed(arithmetic), conv):
        graph.remove(unused, safe=True)
    replacement.outputs[0].name = output
    return True


def _to_nhwc(node: ir.Node | None) -> ir.Node | None:
    """Return the node if it is a transpose from NCHW to NHWC."""
    if node is None or node.op_type != "Transpose":
        return None
    return node if tuple(node.attributes.get_ints("perm") or ()) == (0, 2, 3, 1) else None


def _by_channel(node: ir.Node, channels: int, *, last: bool) -> NDArray[Any] | None:
    """Return the factor or summand per channel that a node applies to a map; None for any other node.

    Args:
        node: A node that reads the map.
        channels: Number of its channels.
        last: The channels are the last axis, and not the third from the end.
    """
    if node.op_type not in ("Add", "Mul") or node.outputs[0].is_graph_output():
        return None
    numbers = next((array for value in node.inputs if (array := constant(value)) is not None), None)
    # A scalar is arithmetic of the model itself, and its result not that of the layer.
    if numbers is None or numbers.ndim == 0 or numbers.size != channels:
        return None
    if numbers.shape[-1 if last else -3 :][:1] != (channels,):
        return None
    return numbers.reshape(-1).astype(np.float64)
