"""Turn ``clip(x + 3, 0, 6) / 6`` into one ``HardSigmoid`` node, which reads and writes the map once and not three times."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import Builder, constant, only_consumer, take_place


class FuseHardSigmoid(ir.passes.InPlacePass):
    """Pass that fuses the ``Add``, ``Clip`` and ``Mul`` of a hard sigmoid, which a hard swish multiplies with its input."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        fused = [_fuse(model.graph, node) for node in list(model.graph) if node.op_type == "Clip"]
        return ir.passes.PassResult(model, any(fused))


def _fuse(graph: ir.Graph, clip: ir.Node) -> bool:
    shift = clip.inputs[0].producer() if clip.inputs[0] is not None else None
    scale = only_consumer(clip.outputs[0])
    if shift is None or scale is None or only_consumer(shift.outputs[0]) is not clip:
        return False
    if [_number(value) for value in clip.inputs[1:]] != [0.0, 6.0]:
        return False
    x, three = _operands(shift, "Add")
    _, sixth = _operands(scale, "Mul")
    if x is None or three != 3.0 or sixth is None or not np.isclose(sixth, 1 / 6, rtol=1e-6):
        return False
    fused = Builder(graph, scale).node("HardSigmoid", [x], "hard_sigmoid", alpha=1 / 6, beta=0.5)
    take_place(scale.outputs[0], fused)
    return True


def _operands(node: ir.Node, kind: str) -> tuple[ir.Value | None, float | None]:
    """Return the value and the number that a node of this kind adds or multiplies; None for what it has not."""
    if node.op_type != kind:
        return None, None
    numbers = [_number(value) for value in node.inputs]
    for number, other in zip(numbers, reversed(node.inputs), strict=True):
        if number is not None:
            return other, number
    return None, None


def _number(value: ir.Value | None) -> float | None:
    """Return the number of which a constant consists, else None."""
    array = constant(value)
    if array is None or not array.size or (array != array.flat[0]).any():
        return None
    return float(array.flat[0])
