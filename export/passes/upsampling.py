"""Turn nearest upsampling back into one ``Resize`` node.

Keras writes nearest upsampling as repeats, which become a chain of ``Unsqueeze``, ``Tile``, ``Transpose`` and
``Reshape`` in ONNX. If the effect of such a chain is an n× nearest upsampling, ``Resize`` replaces it; otherwise the
chain stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import Numbers, initializer, is_move, moved, moves_after, numbered, only_consumer, static_shape

_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)


class RestoreUpsampling(ir.passes.InPlacePass):
    """Pass that replaces each chain of moves that is a nearest upsampling by ``Resize``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        chains = [chain for node in model.graph if (chain := _chain_from(node))]
        modified = [_replace(model.graph, chain) for chain in chains]
        return ir.passes.PassResult(model, any(modified))


def _chain_from(first: ir.Node) -> list[ir.Node]:
    """Return the longest chain of moves from a node; empty if a move comes before it, or if it has no ``Tile``."""
    before = first.inputs[0].producer() if first.inputs and first.inputs[0] is not None else None
    if not is_move(first) or (before is not None and is_move(before) and only_consumer(before.outputs[0]) is first):
        return []
    chain = [first, *moves_after(first.outputs[0])]
    return chain if any(node.op_type == "Tile" for node in chain) else []


def _replace(graph: ir.Graph, chain: list[ir.Node]) -> bool:
    source, result = chain[0].inputs[0], chain[-1].outputs[0]
    shape = static_shape(source)
    if source is None or shape is None or len(shape) != 4:
        return False
    numbers = numbered(shape)
    found = _as_upsampling(numbers, moved(numbers, chain))
    if found is None:
        return False
    factor, before, after = found
    scales = initializer(graph, f"{result.name}_scales", np.array([1, 1, factor, factor], np.float32))
    value, nodes = source, []
    if before:
        nodes.append(ir.node("Transpose", [value], {"perm": before}))
        value = nodes[-1].outputs[0]
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes.append(ir.node("Resize", [value, None, scales], attributes))
    if after:
        nodes.append(ir.node("Transpose", [nodes[-1].outputs[0]], {"perm": after}))
    ir.convenience.replace_nodes_and_values(graph, chain[-1], chain, nodes, [result], [nodes[-1].outputs[0]])
    return True


def _as_upsampling(
    numbers: Numbers, result: Numbers
) -> tuple[int, tuple[int, ...] | None, tuple[int, ...] | None] | None:
    """Return the factor, and the transposes before and after, with which an NCHW upsampling gives the moved numbers."""
    for before in (None, _TO_NCHW):
        for after in (None, _TO_NHWC):
            small = numbers.transpose(before) if before else numbers
            factor = round((result.size / small.size) ** 0.5)
            large = small.repeat(factor, axis=2).repeat(factor, axis=3)
            large = large.transpose(after) if after else large
            if factor > 1 and np.array_equal(large, result):
                return factor, before, after
    return None
