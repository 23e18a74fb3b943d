"""Nodes that only move the elements of a map, and what they do to an array of element numbers.

Keras and tf2onnx spell the same movement in many ways. Running a chain of moves on numbers shows its effect, however it
is spelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import array_of, constant, input_of, only_consumer

Numbers = NDArray[np.generic]
"""Numbers of elements, in the shape of a map."""
_MOVES: dict[str, Callable[[Numbers, ir.Node], Numbers]] = {
    "Identity": lambda x, node: x,
    "Reshape": lambda x, node: x.reshape([d or x.shape[i] for i, d in enumerate(_arguments(node))]),
    "Tile": lambda x, node: np.tile(x, _arguments(node)),
    "Transpose": lambda x, node: x.transpose(node.attributes.get_ints("perm")),
    "Unsqueeze": lambda x, node: np.expand_dims(x, _arguments(node)),
}


def is_move(node: ir.Node) -> bool:
    """Check for a node that only moves elements and whose arguments are constant."""
    return node.op_type in _MOVES and all(constant(value) is not None for value in node.inputs[1:])


def moves_after(value: ir.Value) -> list[ir.Node]:
    """Return the longest chain of moves that begins at a value, each the only consumer of the one before."""
    chain: list[ir.Node] = []
    while (after := only_consumer(value)) is not None and is_move(after) and after.inputs[0] is value:
        chain.append(after)
        value = after.outputs[0]
    return chain


def moves_before(value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """Return the value that a chain of moves before a value begins with, and the chain in order."""
    chain: list[ir.Node] = []
    while (node := value.producer()) is not None and is_move(node):
        chain.append(node)
        value = input_of(node, 0)
    return value, chain[::-1]


def numbered(shape: tuple[int, ...]) -> Numbers:
    """Return the numbers of the elements of a map."""
    return np.arange(np.prod(shape)).reshape(shape)


def moved(numbers: Numbers, chain: Iterable[ir.Node]) -> Numbers:
    """Apply a chain of moves to numbers."""
    for node in chain:
        numbers = _MOVES[node.op_type](numbers, node)
    return numbers


def _arguments(node: ir.Node) -> tuple[int, ...]:
    """Return the constant argument of a move: a shape, repeats or axes."""
    return tuple(int(number) for number in array_of(node.inputs[1]).reshape(-1))
