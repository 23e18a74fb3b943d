"""Functions with which graph passes inspect a graph, and the builder with which they add nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.errors import ConvertError

LAYER = "keras_layer"
"""Key in a node's metadata: name of the Keras layer whose work, or part of whose work, the node does."""
_REPORT = "the conversion is at fault, not your data: please report it with this line"


def constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the array behind a value that is an initializer or a Constant node's output, else None."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape of a value if all of it is known, else None."""
    if value is None or value.shape is None:
        return None
    known = tuple(size for size in value.shape if isinstance(size, int))
    return known if len(known) == len(value.shape) else None


def only_consumer(value: ir.Value) -> ir.Node | None:
    """Return the node that uses a value if it is the only use and the value is no graph output, else None."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def input_of(node: ir.Node, place: int) -> ir.Value:
    """Return an input of a node.

    Raises:
        ConvertError: The node has no such input.
    """
    value = node.inputs[place] if place < len(node.inputs) else None
    if value is None:
        raise ConvertError(f"graph — {node.op_type} '{node.name}' has no input {place} — {_REPORT}")
    return value


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of a value.

    Raises:
        ConvertError: Part of the shape is unknown.
    """
    shape = static_shape(value)
    if shape is None:
        raise ConvertError(f"graph — '{value.name}' has the shape {value.shape} — expected fixed sizes — {_REPORT}")
    return shape


def array_of(value: ir.Value | None) -> NDArray[np.generic]:
    """Return the array behind a value.

    Raises:
        ConvertError: The value is not constant.
    """
    array = constant(value)
    if array is None:
        raise ConvertError(f"graph — '{value.name if value else ''}' is computed — expected a constant — {_REPORT}")
    return array


def producer_of(value: ir.Value) -> ir.Node:
    """Return the node that computes a value.

    Raises:
        ConvertError: The value is an input of the graph or a constant.
    """
    node = value.producer()
    if node is None:
        raise ConvertError(f"graph — no node computes '{value.name}' — expected one — {_REPORT}")
    return node


def initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add a constant to a graph under a new name and return its value."""
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value


def rectifier_of(node: ir.Node) -> ir.Node | None:
    """Return the ReLU that alone reads a node's output: a ``Relu``, or a ``Clip`` whose lower bound is zero."""
    after = only_consumer(node.outputs[0])
    if after is None or after.op_type == "Relu":
        return after
    lowest = constant(after.inputs[1]) if after.op_type == "Clip" and len(after.inputs) > 1 else None
    return after if lowest is not None and not lowest.any() else None


def take_place(value: ir.Value, replacement: ir.Value) -> None:
    """Replace a float value by another one, which takes over its name, shape, uses and place as graph output."""
    name, value.name = value.name, f"{value.name}_replaced"
    replacement.name, replacement.shape, replacement.dtype = name, value.shape, ir.DataType.FLOAT
    value.replace_all_uses_with(replacement, replace_graph_outputs=True)


def is_plain_convolution(node: ir.Node, size: int) -> bool:
    """Check for a size×size convolution with constant weights, stride 1, and an output as large as its input."""
    kernel = constant(node.inputs[1]) if node.op_type == "Conv" else None
    if kernel is None or kernel.shape[2:] != (size, size):
        return False
    pad = size // 2
    attributes = node.attributes
    return (
        tuple(attributes.get_ints("strides") or (1, 1)) == (1, 1)
        and tuple(attributes.get_ints("dilations") or (1, 1)) == (1, 1)
        and tuple(attributes.get_ints("pads") or (0,) * 4) == (pad,) * 4
        and attributes.get_int("group", 1) == 1
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    )


def is_nearest_doubling(node: ir.Node | None) -> bool:
    """Check for the ``Resize`` that ``RestoreUpsampling`` writes for a nearest 2× upsampling in NCHW."""
    if node is None or node.op_type != "Resize" or len(node.inputs) < 3:
        return False
    scales, get = constant(node.inputs[2]), node.attributes.get_string
    return (
        scales is not None
        and tuple(scales) == (1, 1, 2, 2)
        and (get("mode"), get("coordinate_transformation_mode"), get("nearest_mode"))
        == ("nearest", "asymmetric", "floor")
    )


def is_doubling(node: ir.Node | None) -> bool:
    """Check for a 2× upsampling in NCHW, nearest or bilinear, that keeps the mean of a map and commutes with 1×1 kernels."""
    if is_nearest_doubling(node):
        return True
    if node is None or node.op_type != "Resize" or len(node.inputs) < 3:
        return False
    scales, get = constant(node.inputs[2]), node.attributes.get_string
    ways = get("mode"), get("coordinate_transformation_mode", "half_pixel")
    return scales is not None and tuple(scales) == (1, 1, 2, 2) and ways == ("linear", "half_pixel")


def changes_layout(node: ir.Node) -> bool:
    """Check for a node that turns NHWC into NCHW: a ``Transpose``, or the equal ``Reshape`` of a single channel."""
    if node.op_type == "Transpose":
        return True
    shape = constant(node.inputs[1]) if node.op_type == "Reshape" else None
    return shape is not None and shape.size == 4 and int(shape.reshape(-1)[1]) == 1


def swaps_channels(node: ir.Node) -> bool:
    """Check whether a node turns RGB into BGR, or the other way round, in the last of four axes."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) not in (3, -1):
        return False
    order = constant(node.inputs[1])
    return order is not None and order.tolist() == [2, 1, 0]


def derived_name(origin: str | None, part: str) -> str:
    """Return the name of a node that does part of another node's work: ``<origin>_<part>``."""
    return f"{origin}_{part}"


class Builder:
    """Builder of nodes that do the work of an existing node, named after it and assigned to the same Keras layer."""

    def __init__(self, graph: ir.Graph, origin: ir.Node, before: ir.Node | None = None) -> None:
        """Prepare to add nodes that replace ``origin``, in front of it or of ``before``."""
        self._graph = graph
        self._origin = origin
        self._before = before or origin

    def node(self, operator: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any) -> ir.Value:
        """Add a node and return its output; both are named ``<name of the origin>_<name>``."""
        node = ir.node(operator, inputs, attributes, name=derived_name(self._origin.name, name))
        node.metadata_props.update(self._origin.metadata_props)
        node.outputs[0].name = node.name
        self._graph.insert_before(self._before, node)
        return node.outputs[0]

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """Add a ``Reshape`` to a constant shape."""
        return self.node("Reshape", [value, self.constant(np.array(shape, np.int64), f"{name}_shape")], name)

    def constant(self, array: NDArray[np.generic], name: str) -> ir.Value:
        """Add a constant."""
        return initializer(self._graph, derived_name(self._origin.name, name), np.ascontiguousarray(array))


# Moves: nodes that only move the elements of a map. Keras and tf2onnx spell the same movement in many ways; running a
# chain of moves on the numbers of the elements shows its effect, however it is spelled.

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
