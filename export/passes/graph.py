"""The few questions that every pass asks of a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


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


def changes_layout(node: ir.Node) -> bool:
    """Whether a node brings NHWC to NCHW: a ``Transpose``, or the ``Reshape`` that does the same for one channel."""
    if node.op_type == "Transpose":
        return True
    shape = constant(node.inputs[1]) if node.op_type == "Reshape" else None
    return shape is not None and shape.size == 4 and int(shape.reshape(-1)[1]) == 1
