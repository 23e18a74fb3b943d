"""Compute convolutions of few channels over groups of neighbouring pixels, for INT8.

onnxruntime's integer convolutions read four or more channels of a pixel at a time and write 16 filters of it; an image
has one or three channels, and a narrow network has 8 filters. In NHWC, four neighbouring pixels are the same bytes as
one pixel of four times the channels. The kernel then reads groups and has one set of filters per pixel of its group;
many of its weights are zeros, and it is still far faster: 3×3 with 8 filters of 8 channels on 128×128 takes 0.16 instead
of 0.45 ms on AVX-512, one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import (
    Builder,
    array_of,
    constant,
    input_of,
    rectifier_of,
    shape_of,
    static_shape,
    take_place,
)

GROUP = 4
"""Pixels per group where the image is read."""
FILTERS = 16
"""Filters that integer convolutions compute at a time."""


class GroupPixels(ir.passes.InPlacePass):
    """Pass that rewrites the convolution that reads the image, if the width is a multiple of four."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        image = model.graph.inputs[0]
        conv = next((node for node in model.graph if node.op_type == "Conv"), None)
        if conv is None or not _reads_pixels(conv, image):
            return ir.passes.PassResult(model, modified=False)
        build = Builder(model.graph, conv)
        pixels = _groups(build, image, GROUP)
        pixels.dtype = ir.DataType.UINT8
        _convolve(build, conv, build.node("Cast", [pixels], "pixels", to=int(ir.DataType.FLOAT)), GROUP)
        return ir.passes.PassResult(model, modified=True)


class GroupNarrow(ir.passes.InPlacePass):
    """Pass that rewrites convolutions of fewer than ``FILTERS`` filters, if groups divide the width.

    A group has two pixels of the result, or four if the convolution has less than half of ``FILTERS``. Larger groups
    would have more zeros than they save.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [(node, size) for node in model.graph if (size := _narrow_group(node)) is not None]
        for conv, size in found:
            build = Builder(model.graph, conv)
            pixels = build.node("Transpose", [conv.inputs[0]], "pixels_nhwc", perm=(0, 2, 3, 1))
            pixels.shape = ir.Shape([shape_of(input_of(conv, 0))[axis] for axis in (0, 2, 3, 1)])
            pixels.type = input_of(conv, 0).type
            _convolve(build, conv, _groups(build, pixels, size), size)
        return ir.passes.PassResult(model, modified=bool(found))


def _reads_pixels(conv: ir.Node, image: ir.Value) -> bool:
    """Check for a convolution of the image as float whose rows of input and output divide into whole groups."""
    cast, shape = input_of(conv, 0).producer(), static_shape(image)
    return cast is not None and cast.op_type == "Cast" and shape is not None and _comes_in_groups(conv, shape[2], GROUP)


def _narrow_group(conv: ir.Node) -> int | None:
    """Return the number of input pixels per group for a convolution of few filters, or None for any other node."""
    if conv.op_type != "Conv":
        return None
    shape, result = static_shape(conv.inputs[0]), static_shape(conv.outputs[0])
    if shape is None or result is None or len(shape) != 4 or result[1] >= FILTERS:
        return None
    size = _stride_x(conv) * (2 if 2 * result[1] >= FILTERS else 4)
    return size if _comes_in_groups(conv, shape[3], size) else None


def _comes_in_groups(conv: ir.Node, width: int, size: int) -> bool:
    """Check that a convolution of rows of ``width`` pixels can read and give whole groups of ``size`` input pixels."""
    result, stride = static_shape(conv.outputs[0]), _stride_x(conv)
    return (
        result is not None
        and width % size == 0
        and size % stride == 0
        and result[3] * stride == width
        and constant(conv.inputs[1]) is not None
        and _is_dense(conv)
        and not (rectifier_of(conv) or conv).outputs[0].is_graph_output()
    )


def _stride_x(conv: ir.Node) -> int:
    return int((conv.attributes.get_ints("strides") or (1, 1))[1])


def _groups(build: Builder, pixels: ir.Value, size: int) -> ir.Value:
    """Return NHWC pixels as NCHW groups, each of which is a place with the channels of all its pixels."""
    count, height, width, channels = shape_of(pixels)
    groups = build.reshape(pixels, (count, height, width // size, size * channels), "groups")
    return build.node("Transpose", [groups], "groups_nchw", perm=(0, 3, 1, 2))


def _convolve(build: Builder, conv: ir.Node, groups: ir.Value, size: int) -> None:
    """Compute a convolution, and the ReLU behind it, on groups of pixels."""
    stride_y, stride_x = conv.attributes.get_ints("strides") or (1, 1)
    top, left, bottom, _ = conv.attributes.get_ints("pads") or (0, 0, 0, 0)
    grouped, before, after = _grouped(array_of(conv.inputs[1]), stride_x, left, size)
    bias = [build.constant(np.tile(array_of(v), size // stride_x), "grouped_bias") for v in conv.inputs[2:]]
    value = build.node(
        "Conv",
        [groups, build.constant(grouped, "grouped_kernel"), *bias],
        "grouped",
        kernel_shape=grouped.shape[2:],
        strides=(stride_y, 1),
        pads=(top, before, bottom, after),
    )
    last = rectifier_of(conv) or conv
    if last is not conv:
        value = build.node(last.op_type, [value, *last.inputs[1:]], "grouped_relu")
    value = build.node("Transpose", [value], "nhwc", perm=(0, 2, 3, 1))
    value = build.reshape(value, [shape_of(conv.outputs[0])[axis] for axis in (0, 2, 3, 1)], "whole")
    take_place(last.outputs[0], build.node("Transpose", [value], "nchw", perm=(0, 3, 1, 2)))


def _is_dense(conv: ir.Node) -> bool:
    """Check that every tap reads every channel of neighbouring pixels, and that bias and padding are known."""
    attributes = conv.attributes
    return (
        set(attributes.get_ints("dilations") or (1,)) == {1}
        and attributes.get_int("group", 1) == 1
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and all(constant(value) is not None for value in conv.inputs[2:])
    )


def _grouped(kernel: NDArray[Any], stride: int, left: int, size: int) -> tuple[NDArray[np.float32], int, int]:
    """Return a kernel over groups, and how many groups it reads to the left and to the right of its own."""
    channels_out, channels_in, height, width = kernel.shape
    results = size // stride
    first = -left // size  # the group of the leftmost pixel that is read, counted from the group of the output
    last = ((results - 1) * stride - left + width - 1) // size
    shape = (results, channels_out, size, channels_in, height, last - first + 1)
    grouped = np.zeros(shape, np.float32)
    for result in range(results):
        for tap in range(width):
            group, pixel = divmod(result * stride - left + tap, size)
            grouped[result, :, pixel, :, :, group - first] = kernel[:, :, :, tap]
    return grouped.reshape(results * channels_out, size * channels_in, height, -1), -first, last
