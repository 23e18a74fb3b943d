"""Take pixels as OpenCV gives them: uint8 instead of float, BGR instead of RGB.

Where the graph begins with a convolution, the channel order becomes a permutation of its weights, which costs nothing at
run time. Otherwise the channels of the image are put in order.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import changes_layout, constant, initializer, input_of, only_consumer, shape_of, swaps_channels


class TakePixels(ir.passes.InPlacePass):
    """Pass that turns the input ``image`` into uint8 BGR (or grey), NHWC."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        image = model.graph.inputs[0]
        before: list[ir.Node] = []
        swaps: list[ir.Node] = []
        node = only_consumer(image)
        while node is not None and (changes_layout(node) or swaps_channels(node)):
            (swaps if swaps_channels(node) else before).append(node)
            node = only_consumer(node.outputs[0])
        weight = constant(node.inputs[1]) if node is not None and node.op_type == "Conv" else None
        # In groups, each filter reads one channel alone, and the order of its results would change, too.
        if node is None or weight is None or node.attributes.get_int("group", 1) > 1:
            _cast_first(model.graph, image)
            return ir.passes.PassResult(model, modified=True)
        for swap in swaps:
            swap.outputs[0].replace_all_uses_with(input_of(swap, 0))
            model.graph.remove(swap, safe=True)
        image.dtype = ir.DataType.UINT8
        for layout in before:
            layout.outputs[0].dtype = ir.DataType.UINT8
        # After the transpose, because moving one byte per number is cheaper than moving four.
        cast = ir.node("Cast", [input_of(node, 0)], {"to": int(ir.DataType.FLOAT)})
        model.graph.insert_before(node, cast)
        node.replace_input_with(0, cast.outputs[0])
        if weight.shape[1] == 3 and len(swaps) % 2 == 0:
            reversed_weight = np.ascontiguousarray(weight[:, ::-1])
            node.replace_input_with(1, initializer(model.graph, f"{input_of(node, 1).name}_bgr", reversed_weight))
        return ir.passes.PassResult(model, modified=True)


def _cast_first(graph: ir.Graph, image: ir.Value) -> None:
    """Turn the image into float RGB, or grey, before anything else reads it."""
    nodes = [ir.node("Cast", [image], {"to": int(ir.DataType.FLOAT)})]
    if shape_of(image)[3] == 3:
        order = initializer(graph, "bgr_to_rgb", np.array([2, 1, 0], np.int64))
        nodes.append(ir.node("Gather", [nodes[0].outputs[0], order], {"axis": 3}))
    image.replace_all_uses_with(nodes[-1].outputs[0])
    image.dtype = ir.DataType.UINT8
    nodes[0].replace_input_with(0, image)
    graph.insert_before(graph[0], nodes)
