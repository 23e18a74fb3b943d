"""Compute a 3×3 convolution over a nearest 2× upsampling on the small map, so that the upsampled map is never made.

Along one axis, the pixels of an upsampled map have two phases, even and odd. A kernel of three taps reads each small
pixel once or twice: for an even pixel, taps -1 | 0, +1 fall on small pixels i-1 | i; for an odd one, -1, 0 | +1 on
i | i+1. Taps that read the same pixel add up, so a 3×3 kernel becomes four 2×2 kernels, one per phase: 4/9 of the
multiplications, and the same result up to rounding. The kernel of the skip connection is split off by its input
channels and also computed per phase, with stride 2.

The nodes behind the convolution are computed in phases, too: a ReLU or a 1×1 convolution once per phase, a 3×3
convolution as four smaller ones per phase. Those need as many multiplications in all, and onnxruntime adds their sums
inside them. At the end the phases are interleaved, which in NHWC is two concatenations that only copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import (
    Builder,
    array_of,
    input_of,
    is_nearest_doubling,
    is_plain_convolution,
    only_consumer,
    producer_of,
    shape_of,
    static_shape,
    take_place,
)
from export.passes.names import NCHW, PHASES, Phase, phase_part

MINIMUM_SAVING = 100_000_000
"""Multiplications per frame below which computing in phases was no faster on the machine measured."""
Phases = dict[Phase, ir.Value]
"""A map in four parts, each (N, C, H/2, W/2)."""

# By parity of the output pixel: the taps of three that fall on each of the two small pixels.
_UPSAMPLED_TAPS = {0: ((0,), (1, 2)), 1: ((0, 1), (2,))}
# By parity of the output pixel, then of the input pixel: the taps of three that read it, and the padding at both ends.
_TAPS = {0: {0: ((1,), (0, 0)), 1: ((0, 2), (1, 0))}, 1: {0: ((0, 2), (0, 1)), 1: ((1,), (0, 0))}}
_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class SplitUpsampling(ir.passes.InPlacePass):
    """Pass that computes in phases each 3×3 convolution over a nearest 2× upsampling, with or without skips."""

    def __init__(self, minimum_saving: int | None = None) -> None:
        """Prepare the pass.

        Args:
            minimum_saving: Multiplications per frame that must be saved before a convolution is rewritten;
                ``MINIMUM_SAVING`` if None.
        """
        super().__init__()
        self._minimum_saving = MINIMUM_SAVING if minimum_saving is None else minimum_saving

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph."""
        found = [node for node in model.graph if saving(node) >= max(1, self._minimum_saving)]
        for conv in found:
            node, phases = conv, _over_upsampling(Builder(model.graph, conv), conv)
            while (after := only_consumer(node.outputs[0])) is not None:
                further = _step(Builder(model.graph, after, before=conv), after, phases)
                if further is None:
                    break
                node, phases = after, further
            value = node.outputs[0]
            whole = _interleave(Builder(model.graph, node, before=conv), phases, shape_of(value))
            take_place(value, whole)
        return ir.passes.PassResult(model, modified=bool(found))


def _step(build: Builder, node: ir.Node, phases: Phases) -> Phases | None:
    """Return a node's output in phases for an input in phases, or None if the node needs the whole map."""
    if node.op_type == "Relu":
        return {phase: build.node("Relu", [phases[phase]], phase_part(phase)) for phase in PHASES}
    if is_plain_convolution(node, 1):
        return {
            phase: build.node("Conv", [phases[phase], *node.inputs[1:]], phase_part(phase), kernel_shape=(1, 1))
            for phase in PHASES
        }
    return _over_phases(build, node, phases) if is_plain_convolution(node, 3) else None


def _parts_of(conv: ir.Node) -> list[ir.Value]:
    """Return the values whose concatenation along the channels a convolution reads; one if there is no concatenation."""
    source = input_of(conv, 0)
    concat = source.producer()
    joined = concat is not None and concat.op_type == "Concat" and concat.attributes.get_int("axis") == 1
    if concat is None or not joined or only_consumer(concat.outputs[0]) is not conv:
        return [source]
    return [input_of(concat, place) for place in range(len(concat.inputs))]


def parts_with_kernels(conv: ir.Node) -> list[tuple[ir.Value, NDArray[Any]]]:
    """Return the parts that a convolution reads, each with the part of the kernel, (O, I, 3, 3), that reads it."""
    parts = _parts_of(conv)
    channels = [shape_of(part)[1] for part in parts]
    kernels = np.split(array_of(conv.inputs[1]), np.cumsum(channels)[:-1], axis=1)
    return list(zip(parts, kernels, strict=True))


def is_upsampled(part: ir.Value) -> bool:
    """Check for a nearest 2× upsampling that only one node reads."""
    return is_nearest_doubling(part.producer()) and only_consumer(part) is not None


def saving(node: ir.Node) -> int:
    """Return how many multiplications per frame a rewrite of a node saves; 0 if it does not apply."""
    if not is_plain_convolution(node, 3):
        return 0
    parts = _parts_of(node)
    upsampled = [part for part in parts if is_upsampled(part)]
    if not upsampled or not all(static_shape(value) for value in (*parts, node.outputs[0])):
        return 0
    _, channels_out, height, width = shape_of(node.outputs[0])
    return sum(5 * shape_of(part)[1] * channels_out * height * width for part in upsampled)


def _over_upsampling(build: Builder, conv: ir.Node) -> Phases:
    """Return the phases of a convolution over a concatenation with an upsampled part."""
    terms: dict[Phase, list[ir.Value]] = {phase: [] for phase in PHASES}
    for number, (part, kernel) in enumerate(parts_with_kernels(conv)):
        bias = conv.inputs[2:] if number == 0 else []
        upsampled = is_upsampled(part)
        source = input_of(producer_of(part), 0) if upsampled else part
        weights = None if upsampled else build.constant(kernel, f"part{number}_kernel")
        for phase in PHASES:
            row, column = phase
            name = f"part{number}_{phase_part(phase)}"
            attributes = {"pads": [1 - row, 1 - column, row, column]}
            if weights is None:
                inputs = [source, build.constant(phase_kernel(kernel, phase), f"{name}_kernel"), *bias]
                terms[phase].append(build.node("Conv", inputs, name, kernel_shape=[2, 2], **attributes))
            else:
                inputs = [source, weights, *bias]
                terms[phase].append(build.node("Conv", inputs, name, kernel_shape=[3, 3], strides=[2, 2], **attributes))
    return {phase: total_of(build, values, phase_part(phase)) for phase, values in terms.items()}


def _over_phases(build: Builder, conv: ir.Node, phases: Phases) -> Phases:
    """Return the phases of a 3×3 convolution over a map that is given in phases."""
    kernel = array_of(conv.inputs[1])
    result: Phases = {}
    for row, column in PHASES:
        terms: list[ir.Value] = []
        for source_row, source_column in PHASES:
            (rows, row_pads), (columns, column_pads) = _TAPS[row][source_row], _TAPS[column][source_column]
            name = f"{phase_part((row, column))}_of_{phase_part((source_row, source_column))}"
            weights = build.constant(kernel[:, :, rows][:, :, :, columns], f"{name}_kernel")
            bias = [] if terms else conv.inputs[2:]
            pads = [row_pads[0], column_pads[0], row_pads[1], column_pads[1]]
            inputs = [phases[source_row, source_column], weights, *bias]
            terms.append(build.node("Conv", inputs, name, kernel_shape=[len(rows), len(columns)], pads=pads))
        result[row, column] = total_of(build, terms, phase_part((row, column)))
    return result


def phase_kernel(kernel: NDArray[Any], phase: Phase) -> NDArray[Any]:
    """Return the 2×2 kernel over a small map, (O, I, 2, 2), that makes one phase of a 3×3 kernel over its upsampling."""
    rows, columns = (_UPSAMPLED_TAPS[parity] for parity in phase)
    return _summed(_summed(kernel, rows, axis=2), columns, axis=3)


def _summed(kernel: NDArray[Any], groups: Sequence[Sequence[int]], axis: int) -> NDArray[Any]:
    """Return a kernel whose taps along one axis are the sums of groups of taps."""
    return np.stack([kernel.take(group, axis).sum(axis) for group in groups], axis)


def total_of(build: Builder, terms: Sequence[ir.Value], name: str) -> ir.Value:
    """Return the sum of values, whose last addition gets the name; a single value is returned as it is."""
    total, *others = terms
    for number, term in enumerate(others):
        total = build.node("Add", [total, term], name if term is others[-1] else f"{name}_sum_{number}")
    return total


def _interleave(build: Builder, phases: Phases, shape: tuple[int, ...]) -> ir.Value:
    """Return the whole map, (N, C, H, W), interleaved from its phases."""
    count, channels, height, width = shape
    rows = []
    for row in (0, 1):
        columns = [
            build.node("Transpose", [phases[row, column]], f"nhwc_{phase_part((row, column))}", perm=_TO_NHWC)
            for column in (0, 1)
        ]
        # Two neighbouring pixels are one pixel of twice the channels; two neighbouring rows one row of twice the width.
        joined = build.node("Concat", columns, f"columns_{row}", axis=3)
        rows.append(build.reshape(joined, (count, height // 2, 1, width * channels), f"row_{row}"))
    joined = build.node("Concat", rows, "rows", axis=2)
    whole = build.reshape(joined, (count, height, width, channels), "whole")
    return build.node("Transpose", [whole], NCHW, perm=_TO_NCHW)
