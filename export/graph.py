"""The few questions that every pass asks of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

LAYER = "keras_layer"
"""Key of a node's metadata: the Keras layer whose work it does, or a part of it."""


def constant(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the array behind a value that is an initializer or a Constant node's output, else None."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def only_consumer(value: ir.Value) -> ir.Node | None:
    """Return the node that uses a value if it is the only use and the value is no graph output, else None."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape of a value if all of it is known, else None."""
    if value is None or value.shape is None or not all(isinstance(d, int) for d in value.shape):
        return None
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


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
    """Return the ReLU that alone reads what a node gives: a ``Relu``, or a ``Clip`` that begins at zero."""
    after = only_consumer(node.outputs[0])
    if after is None or after.op_type == "Relu":
        return after
    lowest = constant(after.inputs[1]) if after.op_type == "Clip" and len(after.inputs) > 1 else None
    return after if lowest is not None and not lowest.any() else None


def take_place(value: ir.Value, replacement: ir.Value) -> None:
    """Let a value take the place of another one in float: its name, its shape, all its uses and outputs of the graph."""
    name, value.name = value.name, f"{value.name}_replaced"
    replacement.name, replacement.shape, replacement.dtype = name, value.shape, ir.DataType.FLOAT
    value.replace_all_uses_with(replacement, replace_graph_outputs=True)


def is_plain_convolution(node: ir.Node, size: int) -> bool:
    """Whether a node is a size×size convolution with known weights, stride 1, and an output as large as its input."""
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
    """Whether a node is the ``Resize`` that ``RestoreUpsampling`` writes for a nearest 2× upsampling in NCHW."""
    if node is None or node.op_type != "Resize" or len(node.inputs) < 3:
        return False
    scales, get = constant(node.inputs[2]), node.attributes.get_string
    return (
        scales is not None
        and tuple(scales) == (1, 1, 2, 2)
        and (get("mode"), get("coordinate_transformation_mode"), get("nearest_mode"))
        == ("nearest", "asymmetric", "floor")
    )


class Builder:
    """Adds nodes that do the work of one that is there: named after it, and counted to the same layer in Keras."""

    def __init__(self, graph: ir.Graph, origin: ir.Node, before: ir.Node | None = None) -> None:
        """Prepare to add nodes in place of ``origin``, in front of it or of ``before``."""
        self._graph = graph
        self._origin = origin
        self._before = before or origin

    def node(self, operator: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any) -> ir.Value:
        """Add a node and return its output; both are called ``<name of the origin>_<name>``."""
        node = ir.node(operator, inputs, attributes, name=f"{self._origin.name}_{name}")
        node.metadata_props.update(self._origin.metadata_props)
        node.outputs[0].name = node.name
        self._graph.insert_before(self._before, node)
        return node.outputs[0]

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """Add a ``Reshape`` to a constant shape."""
        return self.node("Reshape", [value, self.constant(np.array(shape, np.int64), f"{name}_shape")], name)

    def constant(self, array: NDArray[np.generic], name: str) -> ir.Value:
        """Add a constant."""
        return initializer(self._graph, f"{self._origin.name}_{name}", np.ascontiguousarray(array))


def changes_layout(node: ir.Node) -> bool:
    """Whether a node brings NHWC to NCHW: a ``Transpose``, or the ``Reshape`` that does the same for one channel."""
    if node.op_type == "Transpose":
        return True
    shape = constant(node.inputs[1]) if node.op_type == "Reshape" else None
    return shape is not None and shape.size == 4 and int(shape.reshape(-1)[1]) == 1
