"""Write a transposed convolution of stride 2 as a convolution whose filters give the four pixels of each position.

onnxruntime has no transposed convolution of 8-bit numbers, and what reads its float result would stay in float as well:
the whole decoder of many a U-Net. Along one axis, the output pixel 2m + r reads the input pixels m + (r + p - t) / 2, for
the padding p and all taps t for which this is whole. So the four phases of the output are convolutions of the input with
different taps. Their kernels are put into one kernel over all places that any of them reads, with zeros elsewhere; that
of 2×2 becomes 1×1 and has none. Moves then put the phases in their places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import Builder, array_of, constant, input_of, rectifier_of, shape_of, static_shape, take_place

_LARGEST = 3
"""Size of the new kernel above which a transposed convolution stays: most of it would be zeros."""


class ConvolveTransposed(ir.passes.InPlacePass):
    """Pass that replaces each transposed convolution that doubles a map by a convolution and moves."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [node for node in model.graph if _doubles(node) and len(_places(node)) <= _LARGEST]
        for node in found:
            _replace(model.graph, node)
        return ir.passes.PassResult(model, modified=bool(found))


def _doubles(node: ir.Node) -> bool:
    """Check for a transposed convolution with constant weights whose output is twice as high and wide."""
    if node.op_type != "ConvTranspose" or constant(node.inputs[1]) is None or len(node.outputs[0].uses()) == 0:
        return False
    attributes = node.attributes
    small, large = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return (
        small is not None
        and large is not None
        and len(small) == 4
        and small[0] == 1
        and large[2:] == (2 * small[2], 2 * small[3])
        and tuple(attributes.get_ints("strides", ())) == (2, 2)
        and tuple(attributes.get_ints("dilations", (1, 1))) == (1, 1)
        and attributes.get_int("group", 1) == 1
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and "output_shape" not in attributes
        and len(set(_begins(node))) == 1
        and len(set(array_of(node.inputs[1]).shape[2:])) == 1
    )


def _begins(node: ir.Node) -> tuple[int, ...]:
    """Return the padding at the beginning of both axes."""
    return tuple(node.attributes.get_ints("pads", (0, 0, 0, 0)))[:2]


def _places(node: ir.Node) -> range:
    """Return the places, relative to an input pixel, that the two output pixels of it read along an axis."""
    taps = _taps(node)
    places = {place for reads in taps for place, _ in reads}
    return range(min(places), max(places) + 1)


def _taps(node: ir.Node) -> list[list[tuple[int, int]]]:
    """Return for each phase of the output the places that it reads along an axis, each with its tap."""
    (padding, _), size = _begins(node), array_of(node.inputs[1]).shape[2]
    return [
        [((phase + padding - tap) // 2, tap) for tap in range(size) if (phase + padding - tap) % 2 == 0]
        for phase in (0, 1)
    ]


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    build, places = Builder(graph, node), _places(node)
    weights = array_of(node.inputs[1])
    _, channels, height, width = shape_of(node.outputs[0])
    bias = array_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(channels, np.float32)
    kernel = build.constant(_kernel(weights, _taps(node), places), "kernel")
    pads = [-places[0], -places[0], places[-1], places[-1]]
    inputs = [input_of(node, 0), kernel, build.constant(np.tile(bias, 4), "bias")]
    value = build.node("Conv", inputs, "phases", kernel_shape=[len(places)] * 2, pads=pads)
    rectifier = rectifier_of(node)
    if rectifier is not None:
        value = build.node(rectifier.op_type, [value, *rectifier.inputs[1:]], "phases_relu")
    # The channels of a position are its pixels, row by row.
    value = build.node("Transpose", [value], "nhwc", perm=(0, 2, 3, 1))
    value = build.reshape(value, (height // 2, width // 2, 2, 2 * channels), "row_apart")
    value = build.node("Transpose", [value], "rows", perm=(0, 2, 1, 3))
    value = build.reshape(value, (1, height, width, channels), "whole")
    result = node.outputs[0] if rectifier is None else rectifier.outputs[0]
    take_place(result, build.node("Transpose", [value], "nchw", perm=(0, 3, 1, 2)))


def _kernel(weights: NDArray[Any], taps: list[list[tuple[int, int]]], places: range) -> NDArray[Any]:
    """Return the kernel, (4 · O, I, n, n), of all phases, from that of the transposed convolution, (I, O, k, k)."""
    channels_in, channels_out = weights.shape[:2]
    kernel = np.zeros((2, 2, channels_out, channels_in, len(places), len(places)), weights.dtype)
    for row, rows in enumerate(taps):
        for column, columns in enumerate(taps):
            for y, row_tap in rows:
                for x, column_tap in columns:
                    part = weights[:, :, row_tap, column_tap].T
                    kernel[row, column, :, :, y - places[0], x - places[0]] = part
    return kernel.reshape(4 * channels_out, channels_in, len(places), len(places))
