"""Spread a gate over its map before the two are multiplied.

onnxruntime multiplies two maps in blocks of channels only if they have the same shape. A gate of one number per channel
makes it put the map in order and into blocks again, which takes longer than the multiplication.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import Builder, constant, input_of, static_shape, take_place


class SpreadGates(ir.passes.InPlacePass):
    """Pass that repeats a computed (1, C, 1, 1) gate to the (1, C, H, W) of the map that it is multiplied with."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        spread = [_spread(model.graph, node) for node in list(model.graph) if node.op_type == "Mul"]
        return ir.passes.PassResult(model, any(spread))


def _spread(graph: ir.Graph, node: ir.Node) -> bool:
    gated, gate = input_of(node, 0), input_of(node, 1)
    if _is_gate(gated):
        gated, gate = gate, gated
    shape = static_shape(gated)
    if not _is_gate(gate) or shape is None or len(shape) != 4 or shape[2:] == (1, 1):
        return False
    build = Builder(graph, node)
    scales = build.constant(np.array([1, 1, *shape[2:]], np.float32), "gate_scales")
    whole = build.node(
        "Resize",
        [gate, None, scales],
        "gate",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    whole.shape, whole.dtype = ir.Shape(shape), ir.DataType.FLOAT
    take_place(node.outputs[0], build.node("Mul", [gated, whole], "gated"))
    return True


def _is_gate(value: ir.Value) -> bool:
    shape = static_shape(value)
    return shape is not None and len(shape) == 4 and shape[2:] == (1, 1) and constant(value) is None
