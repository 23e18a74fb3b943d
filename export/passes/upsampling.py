"""Turn nearest upsampling back into one ``Resize`` node.

Keras writes nearest upsampling as repeats, which become a chain of ``Unsqueeze``, ``Tile``, ``Transpose`` and
``Reshape`` in ONNX. Such a chain only moves pixels, so running it on pixel numbers shows its effect, however it is
spelled. If the effect is an n× nearest upsampling, ``Resize`` replaces the chain; otherwise the chain stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import array_of, constant, initializer, only_consumer, static_shape

_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)
_Array = NDArray[np.generic]
_MOVES: dict[str, Callable[[_Array, ir.Node], _Array]] = {
    "Identity": lambda x, node: x,
    "Reshape": lambda x, node: x.reshape([d or x.shape[i] for i, d in enumerate(_numbers(node))]),
    "Tile": lambda x, node: np.tile(x, _numbers(node)),
    "Transpose": lambda x, node: x.transpose(node.attributes.get_ints("perm")),
    "Unsqueeze": lambda x, node: np.expand_dims(x, _numbers(node)),
}


class RestoreUpsampling(ir.passes.InPlacePass):
    """Pass that replaces each chain of moves that is a nearest upsampling by ``Resize``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        chains = [chain for node in model.graph if (chain := _chain_from(node))]
        modified = [_replace(model.graph, chain) for chain in chains]
        return ir.passes.PassResult(model, any(modified))


def _numbers(node: ir.Node) -> tuple[int, ...]:
    """Return the constant argument of a move: a shape, repeats or axes."""
    return tuple(int(number) for number in array_of(node.inputs[1]).reshape(-1))


def _is_move(node: ir.Node) -> bool:
    """Check for a node that only moves pixels and whose arguments are constant."""
    return node.op_type in _MOVES and all(constant(value) is not None for value in node.inputs[1:])


def _chain_from(first: ir.Node) -> list[ir.Node]:
    """Return the longest chain of moves from a node; empty if a move comes before it, or if it has no ``Tile``."""
    before = first.inputs[0].producer() if first.inputs and first.inputs[0] is not None else None
    if not _is_move(first) or (before is not None and _is_move(before) and only_consumer(before.outputs[0]) is first):
        return []
    chain = [first]
    while (after := only_consumer(chain[-1].outputs[0])) is not None and _is_move(after):
        chain.append(after)
    return chain if any(node.op_type == "Tile" for node in chain) else []


def _replace(graph: ir.Graph, chain: list[ir.Node]) -> bool:
    source, result = chain[0].inputs[0], chain[-1].outputs[0]
    shape = static_shape(source)
    if source is None or shape is None or len(shape) != 4:
        return False
    numbers: _Array = np.arange(np.prod(shape)).reshape(shape)
    moved = numbers
    for node in chain:
        moved = _MOVES[node.op_type](moved, node)
    found = _as_upsampling(numbers, moved)
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


def _as_upsampling(numbers: _Array, moved: _Array) -> tuple[int, tuple[int, ...] | None, tuple[int, ...] | None] | None:
    """Return the factor, and the transposes before and after, with which an NCHW upsampling gives the moved numbers."""
    for before in (None, _TO_NCHW):
        for after in (None, _TO_NHWC):
            small = numbers.transpose(before) if before else numbers
            factor = round((moved.size / small.size) ** 0.5)
            large = small.repeat(factor, axis=2).repeat(factor, axis=3)
            large = large.transpose(after) if after else large
            if factor > 1 and large.shape == moved.shape and np.array_equal(large, moved):
                return factor, before, after
    return None
