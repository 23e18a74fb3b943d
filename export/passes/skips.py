"""Convolve a map before it is doubled and added to a skip, so that the sum need not be made.

A 1×1 convolution and an upsampling can change places, because both are linear, one over channels, the other over places.
``conv(skip + double(conv_below(x)))`` becomes ``conv(skip) + double(conv∘conv_below(x))``: onnxruntime adds the doubled
map while it convolves the skip. If the gate of the skip reads the mean of ``conv_below(x)``, it gets ``conv_below`` of the
mean of ``x``, which is the same, and the map of ``conv_below`` need not be made either.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph import (
    Builder,
    array_of,
    constant,
    input_of,
    is_doubling,
    is_plain_convolution,
    only_consumer,
    take_place,
)


class ConvolveBeforeDoubling(ir.passes.InPlacePass):
    """Pass that moves a 1×1 convolution of a skip plus a doubled map before the doubling, into the convolution there."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        moved = [_move(model.graph, node) for node in list(model.graph) if is_plain_convolution(node, 1)]
        return ir.passes.PassResult(model, any(moved))


def _move(graph: ir.Graph, conv: ir.Node) -> bool:
    total = input_of(conv, 0).producer()
    if total is None or total.op_type != "Add" or only_consumer(total.outputs[0]) is not conv:
        return False
    parts = [input_of(total, place) for place in range(2)]
    doubled = next((part for part in parts if is_doubling(part.producer())), None)
    doubling = None if doubled is None else doubled.producer()
    below = None if doubling is None else input_of(doubling, 0).producer()
    if doubled is None or doubling is None or below is None or not is_plain_convolution(below, 1):
        return False
    if only_consumer(doubled) is not total:
        return False  # the doubled map must be made anyway
    skip = parts[1] if parts[0] is doubled else parts[0]
    kernel = array_of(conv.inputs[1])[:, :, 0, 0].astype(np.float64)
    build = Builder(graph, conv)
    weights = kernel @ array_of(below.inputs[1])[:, :, 0, 0].astype(np.float64)
    inputs = [
        input_of(below, 0),
        build.constant(weights[..., np.newaxis, np.newaxis].astype(np.float32), "below_weights"),
    ]
    bias = constant(below.inputs[2]) if len(below.inputs) > 2 else None
    if bias is not None:
        inputs.append(build.constant((kernel @ bias.astype(np.float64)).astype(np.float32), "below_bias"))
    low = build.node("Conv", inputs, "below", kernel_shape=[1, 1])
    high = build.node("Resize", [low, *doubling.inputs[1:]], "doubled", **_copied(doubling))
    own = build.node("Conv", [skip, *conv.inputs[1:]], "skip", **_copied(conv))
    take_place(conv.outputs[0], build.node("Add", [own, high], "sum"))
    graph.remove([conv, total, doubling], safe=True)
    _convolve_mean(graph, below)
    return True


def _convolve_mean(graph: ir.Graph, conv: ir.Node) -> None:
    """Convolve the mean of a map instead of the map, if nothing but its mean is read."""
    pools: list[ir.Node] = []
    after = only_consumer(conv.outputs[0])
    while after is not None and _averages_alike(after):
        pools.append(after)
        after = only_consumer(after.outputs[0])
    if not pools or pools[-1].op_type != "GlobalAveragePool":
        return
    mean = input_of(conv, 0)
    for number, pool in enumerate(pools):
        mean = Builder(graph, pool).node(pool.op_type, [mean], f"before_{number}", **_copied(pool))
    convolved = Builder(graph, conv, before=pools[-1]).node("Conv", [mean, *conv.inputs[1:]], "mean", **_copied(conv))
    take_place(pools[-1].outputs[0], convolved)


def _averages_alike(node: ir.Node) -> bool:
    """Check for a pool in which every value is a mean of values of the map, none of what was padded."""
    if node.op_type == "GlobalAveragePool":
        return True
    unpadded = not any(node.attributes.get_ints("pads") or ())
    return node.op_type == "AveragePool" and unpadded and node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"


def _copied(node: ir.Node) -> dict[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}
