"""Compute convolutions of few channels over groups of four pixels.

An image has one or three channels, and integer convolutions read the channels of a pixel four or more at a time. Four
pixels side by side, taken as one of four times the channels, are the same bytes in NHWC. The kernel then spans groups
and has a set of output channels for each pixel that it computes; most of it is zeros, and it is still far faster. A 1×1
convolution of few channels gains too, because it is bound by its overhead per pixel.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

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
"""Input and output channels up to which a 1×1 convolution is faster in groups; with more of them the zeros cost more."""


class GroupPixels(ir.passes.InPlacePass):
    """Rewrite the convolution that reads the pixels, where the width is a multiple of four."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        image = model.graph.inputs[0]
        conv = next((node for node in model.graph if node.op_type == "Conv"), None)
        cast = conv.inputs[0].producer() if conv is not None and conv.inputs[0] is not None else None
        shape = static_shape(image)
        result_shape = None if conv is None else static_shape(conv.outputs[0])
        if conv is None or cast is None or cast.op_type != "Cast" or shape is None or shape[2] % GROUP:
            return ir.passes.PassResult(model, modified=False)
        if result_shape is None or not _is_dense(conv):
            return ir.passes.PassResult(model, modified=False)
        count, height, width, channels = shape
        _, channels_out, height_out, width_out = result_shape
        kernel = constant(conv.inputs[1])
        stride_y, stride_x = conv.attributes.get_ints("strides") or (1, 1)
        top, left, bottom, _ = conv.attributes.get_ints("pads") or (0, 0, 0, 0)
        if kernel is None or GROUP % stride_x or width_out * stride_x != width:
            return ir.passes.PassResult(model, modified=False)
        last = rectifier_of(conv) or conv
        if last.outputs[0].is_graph_output():
            return ir.passes.PassResult(model, modified=False)
        grouped, before, after = _grouped(kernel, stride_x, left)
        result = GROUP // stride_x
        build = Builder(model.graph, conv)
        pixels = build.reshape(image, (count, height, width // GROUP, GROUP * channels), "groups")
        pixels = build.node("Transpose", [pixels], "groups_nchw", perm=(0, 3, 1, 2))
        pixels.dtype = ir.DataType.UINT8
        value = build.node("Cast", [pixels], "pixels", to=int(ir.DataType.FLOAT))
        bias = [build.constant(np.tile(array_of(v), result), "bias") for v in conv.inputs[2:]]
        value = build.node(
            "Conv",
            [value, build.constant(grouped, "kernel"), *bias],
            "grouped",
            kernel_shape=grouped.shape[2:],
            strides=(stride_y, 1),
            pads=(top, before, bottom, after),
        )
        if last is not conv:
            value = build.node(last.op_type, [value, *last.inputs[1:]], "grouped_relu")
        value = build.node("Transpose", [value], "nhwc", perm=(0, 2, 3, 1))
        value = build.reshape(value, (count, height_out, width_out, channels_out), "whole")
        value = build.node("Transpose", [value], NCHW, perm=(0, 3, 1, 2))
        last.outputs[0].replace_all_uses_with(value)
        return ir.passes.PassResult(model, modified=True)


class GroupNarrow(ir.passes.InPlacePass):
    """Rewrite 1×1 convolutions of at most ``NARROW`` channels in and out, where the width is a multiple of four."""

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


def _is_narrow(conv: ir.Node) -> bool:
    shape = static_shape(conv.inputs[0]) if is_plain_convolution(conv, 1) else None
    return (
        shape is not None
        and shape[1] <= NARROW
        and array_of(conv.inputs[1]).shape[0] <= NARROW
        and shape[3] % GROUP == 0
        and rectifier_of(conv) is None  # it would be cut off from its convolution
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


def _grouped(kernel: np.ndarray, stride: int, left: int) -> tuple[np.ndarray, int, int]:
    """Return a kernel over groups, and the numbers of groups that it reaches to the left and to the right of its own."""
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
