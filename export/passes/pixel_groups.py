"""Compute convolutions of few channels over groups of four pixels, for INT8.

An image has one or three channels, but integer convolutions read four or more channels of a pixel at a time. In NHWC,
four neighbouring pixels are the same bytes as one pixel of four times the channels. The kernel then reads groups and
has one set of output channels per pixel of its group; most of its weights are zeros, and it is still far faster. A 1×1
convolution of few channels gains, too, because most of its time is overhead per pixel.
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
    is_plain_convolution,
    rectifier_of,
    shape_of,
    static_shape,
)
from export.passes.names import NCHW

GROUP = 4
NARROW = 16
"""Most input and output channels with which a 1×1 convolution is faster in groups; with more, the zeros cost more."""


class GroupPixels(ir.passes.InPlacePass):
    """Pass that rewrites the convolution that reads the image, if the width is a multiple of four."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        image = model.graph.inputs[0]
        conv = next((node for node in model.graph if node.op_type == "Conv"), None)
        if conv is None or not _reads_pixels(conv, image):
            return ir.passes.PassResult(model, modified=False)
        _group_pixels(Builder(model.graph, conv), conv, image)
        return ir.passes.PassResult(model, modified=True)


class GroupNarrow(ir.passes.InPlacePass):
    """Pass that rewrites 1×1 convolutions of at most ``NARROW`` channels, if the width is a multiple of four."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [node for node in model.graph if _is_narrow(node)]
        for conv in found:
            count, channels, height, width = shape_of(input_of(conv, 0))
            kernel = array_of(conv.inputs[1])
            channels_out = kernel.shape[0]
            blocks = np.kron(np.eye(GROUP), kernel[:, :, 0, 0].astype(np.float64))
            build, result = Builder(model.graph, conv), conv.outputs[0]
            value = build.node("Transpose", [conv.inputs[0]], "pixels_nhwc", perm=(0, 2, 3, 1))
            value = build.reshape(value, (count, height, width // GROUP, GROUP * channels), "groups")
            value = build.node("Transpose", [value], "groups_nchw", perm=(0, 3, 1, 2))
            bias = [build.constant(np.tile(array_of(v), GROUP), "bias") for v in conv.inputs[2:]]
            inputs = [value, build.constant(blocks.astype(np.float32)[:, :, None, None], "kernel"), *bias]
            value = build.node("Conv", inputs, "grouped", kernel_shape=(1, 1))
            value = build.node("Transpose", [value], "nhwc", perm=(0, 2, 3, 1))
            value = build.reshape(value, (count, height, width, channels_out), "whole")
            whole = build.node("Transpose", [value], NCHW, perm=(0, 3, 1, 2))
            whole.shape, whole.type = result.shape, result.type
            result.replace_all_uses_with(whole)
        return ir.passes.PassResult(model, modified=bool(found))


def _reads_pixels(conv: ir.Node, image: ir.Value) -> bool:
    """Check for a convolution of the image as float whose rows of input and output divide into whole groups."""
    cast = input_of(conv, 0).producer()
    shape, result = static_shape(image), static_shape(conv.outputs[0])
    stride = (conv.attributes.get_ints("strides") or (1, 1))[1]
    return (
        cast is not None
        and cast.op_type == "Cast"
        and shape is not None
        and result is not None
        and shape[2] % GROUP == 0
        and GROUP % stride == 0
        and result[3] * stride == shape[2]
        and constant(conv.inputs[1]) is not None
        and _is_dense(conv)
        and not (rectifier_of(conv) or conv).outputs[0].is_graph_output()
    )


def _group_pixels(build: Builder, conv: ir.Node, image: ir.Value) -> None:
    """Compute a convolution, and the ReLU behind it, on groups of the image's pixels."""
    count, height, width, channels = shape_of(image)
    _, channels_out, height_out, width_out = shape_of(conv.outputs[0])
    stride_y, stride_x = conv.attributes.get_ints("strides") or (1, 1)
    top, left, bottom, _ = conv.attributes.get_ints("pads") or (0, 0, 0, 0)
    grouped, before, after = _grouped(array_of(conv.inputs[1]), stride_x, left)
    pixels = build.reshape(image, (count, height, width // GROUP, GROUP * channels), "groups")
    pixels = build.node("Transpose", [pixels], "groups_nchw", perm=(0, 3, 1, 2))
    pixels.dtype = ir.DataType.UINT8
    value = build.node("Cast", [pixels], "pixels", to=int(ir.DataType.FLOAT))
    bias = [build.constant(np.tile(array_of(v), GROUP // stride_x), "bias") for v in conv.inputs[2:]]
    value = build.node(
        "Conv",
        [value, build.constant(grouped, "kernel"), *bias],
        "grouped",
        kernel_shape=grouped.shape[2:],
        strides=(stride_y, 1),
        pads=(top, before, bottom, after),
    )
    last = rectifier_of(conv) or conv
    if last is not conv:
        value = build.node(last.op_type, [value, *last.inputs[1:]], "grouped_relu")
    value = build.node("Transpose", [value], "nhwc", perm=(0, 2, 3, 1))
    value = build.reshape(value, (count, height_out, width_out, channels_out), "whole")
    value = build.node("Transpose", [value], NCHW, perm=(0, 3, 1, 2))
    last.outputs[0].replace_all_uses_with(value)


def _is_narrow(conv: ir.Node) -> bool:
    shape = static_shape(conv.inputs[0]) if is_plain_convolution(conv, 1) else None
    return (
        shape is not None
        and shape[1] <= NARROW
        and array_of(conv.inputs[1]).shape[0] <= NARROW
        and shape[3] % GROUP == 0
        and rectifier_of(conv) is None  # a ReLU would be cut off from its convolution
        and not conv.outputs[0].is_graph_output()
        and all(constant(value) is not None for value in conv.inputs[2:])
    )


def _is_dense(conv: ir.Node) -> bool:
    """Check that every tap reads every channel of neighbouring pixels, and that bias and padding are known."""
    attributes = conv.attributes
    return (
        set(attributes.get_ints("dilations") or (1,)) == {1}
        and attributes.get_int("group", 1) == 1
        and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        and all(constant(value) is not None for value in conv.inputs[2:])
    )


def _grouped(kernel: NDArray[Any], stride: int, left: int) -> tuple[NDArray[np.float32], int, int]:
    """Return a kernel over groups, and how many groups it reads to the left and to the right of its own."""
    channels_out, channels_in, height, width = kernel.shape
    results = GROUP // stride
    first = -left // GROUP  # the group of the leftmost pixel that is read, counted from the group of the output
    last = ((results - 1) * stride - left + width - 1) // GROUP
    shape = (results, channels_out, GROUP, channels_in, height, last - first + 1)
    grouped = np.zeros(shape, np.float32)
    for result in range(results):
        for tap in range(width):
            group, pixel = divmod(result * stride - left + tap, GROUP)
            grouped[result, :, pixel, :, :, group - first] = kernel[:, :, :, tap]
    return grouped.reshape(results * channels_out, GROUP * channels_in, height, -1), -first, last
