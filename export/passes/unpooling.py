"""Turn unpooling by the places of the largest values into ``MaxPool`` with indices and ``MaxUnpool``.

Keras has no such layer. ``training.network.blocks.unpooled`` writes it as a product with a ``OneHot`` of the places, which
are the ``ArgMax`` of ``Equal`` to the ``ReduceMax`` of a window; chains of moves cut the map into windows and put it
together again. Element numbers show whether the windows are 2×2 and in order, however they are spelled.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import (
    Builder,
    Numbers,
    constant,
    derived_name,
    input_of,
    moved,
    moves_after,
    moves_before,
    numbered,
    only_consumer,
    static_shape,
    take_place,
)

_WINDOW = {"kernel_shape": (2, 2), "strides": (2, 2)}


class UseMaxUnpool(ir.passes.InPlacePass):
    """Pass that replaces each 2×2 unpooling by ``MaxUnpool``, and makes its indices where the map is pooled anyway."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        replaced = [_replace(model.graph, node) for node in list(model.graph) if node.op_type == "OneHot"]
        return ir.passes.PassResult(model, any(replaced))


def _replace(graph: ir.Graph, one_hot: ir.Node) -> bool:
    found, product = _windows_of(one_hot), only_consumer(one_hot.outputs[0])
    if found is None or product is None or product.op_type != "Mul":
        return False
    in_windows, axis = found
    small, before = moves_before(input_of(product, 1 if product.inputs[0] is one_hot.outputs[0] else 0))
    large, to_windows = moves_before(in_windows)
    after = moves_after(product.outputs[0])
    result = after[-1].outputs[0] if after else product.outputs[0]
    shapes = static_shape(small), static_shape(large), static_shape(product.outputs[0])
    pool = next((node for node in graph if _halves(node) and _reads(node, large)), None)
    if pool is None or not all(shapes):
        return False
    values, windows, products = (
        moved(numbered(shape), chain)
        for shape, chain in zip(shapes, (before, to_windows, after), strict=True)
        if shape is not None
    )
    if not _is_unpooling(values, windows, products, axis=axis):
        return False
    pool.replace_input_with(0, large)
    unpooled = Builder(graph, product).node("MaxUnpool", [small, _indices_of(pool)], "unpooled", **_WINDOW)
    take_place(result, unpooled)
    return True


def _is_unpooling(values: Numbers, windows: Numbers, products: Numbers, *, axis: int) -> bool:
    """Check that a product of values with the places of largest ones is an unpooling of 2×2 windows.

    Args:
        values: Numbers of the small map's elements, as the product reads them: 1 along ``axis``.
        windows: Numbers of the large map's elements, as ``ArgMax`` reads them: 4 along ``axis``.
        products: Numbers of the product's elements, in the shape of the result, (N, C, H, W).
        axis: Axis along which the elements of a window are.
    """
    shape = products.shape
    if len(shape) != 4 or windows.size != products.size or values.size * 4 != products.size:
        return False
    count, channels, rows, columns = shape
    small = numbered((count, channels, rows // 2, columns // 2)).repeat(2, axis=2).repeat(2, axis=3)
    slots = np.broadcast_to(np.tile([[0, 1], [2, 3]], (rows // 2, columns // 2)), shape)
    slot_of = np.indices(windows.shape)[axis]
    whole = np.broadcast_to(values, windows.shape)
    return all(
        np.array_equal(found.reshape(-1)[products], expected)
        for found, expected in ((windows, numbered(shape)), (whole, small), (slot_of, slots))
    )


def _halves(node: ir.Node) -> bool:
    """Check for a 2×2 max pooling without padding."""
    attributes = node.attributes
    return (
        node.op_type == "MaxPool"
        and tuple(attributes.get_ints("kernel_shape")) == tuple(attributes.get_ints("strides", ())) == (2, 2)
        and not any(attributes.get_ints("pads", ()))
        and tuple(attributes.get_ints("dilations", (1, 1))) == (1, 1)
        and attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )


def _reads(pool: ir.Node, large: ir.Value) -> bool:
    """Check that a pooling reads a map, perhaps through moves that undo one another."""
    source, chain = moves_before(input_of(pool, 0))
    shape = static_shape(large)
    return source is large and shape is not None and np.array_equal(moved(numbered(shape), chain), numbered(shape))


def _indices_of(pool: ir.Node) -> ir.Value:
    """Return the second output of a max pooling, which is added if it has none."""
    if len(pool.outputs) == 1:
        pool.resize_outputs(2)
        pool.outputs[1].name = derived_name(pool.name, "indices")
    return pool.outputs[1]


def _windows_of(one_hot: ir.Node) -> tuple[ir.Value, int] | None:
    """Return the values and the axis of four along which a ``OneHot`` marks the first largest one; None if it does not."""
    place = _before_casts(one_hot)
    equal = None if place is None else _before_casts(place)
    if place is None or equal is None or (place.op_type, equal.op_type) != ("ArgMax", "Equal"):
        return None
    axis = place.attributes.get_int("axis", 0)
    largest = input_of(equal, 1).producer()
    depth, values = constant(one_hot.inputs[1]), constant(one_hot.inputs[2])
    marks_first = (
        not place.attributes.get_int("select_last_index", 0)
        and not place.attributes.get_int("keepdims", 1)
        and one_hot.attributes.get_int("axis", -1) == axis
        and depth is not None
        and depth.tolist() in (4, [4])
        and values is not None
        and values.tolist() == [0, 1]
    )
    of_the_same = (
        largest is not None
        and largest.op_type == "ReduceMax"
        and largest.inputs[0] is equal.inputs[0]
        and tuple(largest.attributes.get_ints("axes", ())) == (axis,)
        and largest.attributes.get_int("keepdims", 1) == 1
    )
    return (input_of(equal, 0), axis) if marks_first and of_the_same else None


def _before_casts(node: ir.Node) -> ir.Node | None:
    """Return the node before a node and before the casts between them."""
    before = input_of(node, 0).producer()
    while before is not None and before.op_type == "Cast":
        before = input_of(before, 0).producer()
    return before
