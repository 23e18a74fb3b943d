"""Take global means in the layout of the convolutions, and those of a sum from its parts.

onnxruntime keeps maps in blocks of channels between convolutions. ``ReduceMean`` does not read such blocks, so that the
whole map is put into order for it; ``AveragePool`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from export.graph import (
    Builder,
    constant,
    input_of,
    is_doubling,
    only_consumer,
    producer_of,
    shape_of,
    static_shape,
    take_place,
)

FEW, KERNEL, LONGEST = 128, 64, 16
"""Values that the last step of a mean adds up at most, that a step before it does, and the longest side of its kernel,
where the map's size allows it."""


class PoolMeans(ir.passes.InPlacePass):
    """Pass for global means that consist of a mean over the columns and one over the rest.

    The first becomes an ``AveragePool``. The mean of a skip plus a doubled map becomes the sum of the means of the skip
    and of the map before it was doubled, which has the same mean, so that the sum need not be made for it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [node for node in model.graph if _is_mean_of_columns(node)]
        for node in found:
            mean = only_consumer(node.outputs[0])
            if mean is not None:
                _pool(Builder(model.graph, mean), mean.outputs[0], _parts(input_of(node, 0)))
        return ir.passes.PassResult(model, bool(found))


def _is_mean_of_columns(node: ir.Node) -> bool:
    """Check for a mean over the columns of an NCHW map that a ``GlobalAveragePool`` alone reads."""
    if node.op_type != "ReduceMean" or node.attributes.get_int("keepdims", 1) != 1:
        return False
    after, shape = only_consumer(node.outputs[0]), static_shape(node.inputs[0])
    if after is None or after.op_type != "GlobalAveragePool" or shape is None or len(shape) != 4:
        return False
    listed = constant(node.inputs[1]) if len(node.inputs) > 1 else None  # an attribute before opset 18
    axes = node.attributes.get_ints("axes") if listed is None else [int(axis) for axis in listed.ravel()]
    return [axis % 4 for axis in axes or ()] == [3]


def _parts(value: ir.Value) -> list[ir.Value]:
    """Return maps whose means add up to that of a map: it alone, or a skip and what was doubled and added to it."""
    total = value.producer()
    if total is None or total.op_type != "Add":
        return [value]
    parts = [input_of(total, place) for place in range(2)]
    if any(static_shape(part) != static_shape(value) for part in parts):
        return [value]
    if not any(is_doubling(part.producer()) for part in parts):
        return [value]
    return [input_of(producer_of(part), 0) if is_doubling(part.producer()) else part for part in parts]


def _kernels(size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the kernels that pool a map of (height, width) to a few values, each of few values itself.

    Pooling adds up value by value, and each addition rounds: 160 in a row lose so much that a gate shows it.
    """
    height, width = size
    kernels = []
    while height * width > FEW:
        rows, columns = max(
            ((rows, columns) for rows in _divisors(height) for columns in _divisors(width) if rows * columns <= KERNEL),
            key=lambda kernel: (kernel[0] * kernel[1], -abs(kernel[0] - kernel[1])),  # of several, the squarest
        )
        if rows * columns == 1:  # both sides are large primes
            break
        kernels.append((rows, columns))
        height, width = height // rows, width // columns
    return kernels


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, min(number, LONGEST) + 1) if number % n == 0]


def _pool(build: Builder, mean: ir.Value, parts: Sequence[ir.Value]) -> None:
    """Replace a mean by the sum of the means of maps."""
    means = []
    for number, part in enumerate(parts):
        pooled, size = part, shape_of(part)[2:]
        for step, kernel in enumerate(_kernels(size)):
            name = f"pool_{number}_{step}"
            pooled = build.node("AveragePool", [pooled], name, kernel_shape=list(kernel), strides=list(kernel))
        means.append(build.node("GlobalAveragePool", [pooled], f"part_{number}"))
    take_place(mean, means[0] if len(means) == 1 else build.node("Add", means, "parts"))
