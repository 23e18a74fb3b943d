"""Quantise a graph: 8-bit activations and weights, written as ``QuantizeLinear`` and ``DequantizeLinear`` pairs (QDQ).

onnxruntime computes a convolution between such pairs as one integer convolution. Operators that only move numbers work
on the 8-bit tensors directly and share their scale, so that a concatenation is a copy. All other operators stay in
float.

Activations are uint8 with one scale per tensor; weights are int8 with one scale per output channel and no zero point,
because x86-64 has instructions for these types. Without VNNI these instructions hold the sum of two products in int16,
so weights go from -64 to 64: then no sum overflows, and a graph answers the same on every processor. Reference: B. Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018, https://arxiv.org/abs/1712.05877.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph import LAYER, array_of, constant, initializer, input_of, only_consumer, producer_of, rectifier_of

Range = tuple[float, float]
"""Smallest and largest number of a value."""
_PIXELS: Range = (0.0, 255.0)
_LARGEST_WEIGHT = 64
"""So that two products with uint8 stay within int16: 2 · 255 · 64 < 2**15."""
_LARGEST_BIAS = 2**30
"""Half the range of int32, so that the sum of products has room beside the bias."""
_MOVES = frozenset({"Concat", "Gather", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose"})
"""Operators that take uint8 and whose output holds only numbers of their inputs."""
_GATES = frozenset({"HardSigmoid", "Sigmoid", "Softplus", "Tanh"})
_COMPUTED = frozenset({"Add", "Conv", "Elu", "HardSwish", "LeakyRelu", "PRelu", "Selu", *_GATES})
"""Operators whose result becomes uint8. Activations are among them, so that the convolutions around them compute with
integers."""


class Quantize(ir.passes.InPlacePass):
    """Pass that quantises the convolutions, additions and activations of a graph that takes uint8 pixels."""

    def __init__(self, ranges: Mapping[str, Range], keep_float: Collection[str] = ()) -> None:
        """Prepare the pass.

        Args:
            ranges: Range of each value that ``measured_values`` names.
            keep_float: Names of the Keras layers whose convolutions stay in float.
        """
        super().__init__()
        self._ranges = ranges
        self._keep_float = frozenset(keep_float)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the graph; the clean-up removes the float nodes that are no longer read."""
        scales = _scales(model.graph, self._ranges)
        _Rewrite(model.graph, scales, self._keep_float).run()
        return ir.passes.PassResult(model, modified=True)


def measured_values(graph: ir.Graph) -> list[str]:
    """Return the names of the values whose ranges ``Quantize`` needs: values that are computed, not moved."""
    return [str(value.name) for value in _sharing(graph) if _is_computed(value)]


def layers_of(graph: ir.Graph) -> list[str]:
    """Return the names of the Keras layers of a graph's convolutions, in the order of the graph."""
    return list(dict.fromkeys(node.metadata_props[LAYER] for node in graph if LAYER in node.metadata_props))


def _is_pixels(value: ir.Value) -> bool:
    """Check for the image as float, whose scale is one and whose zero point is zero."""
    node = value.producer()
    return node is not None and node.op_type == "Cast" and input_of(node, 0).dtype == ir.DataType.UINT8


def _is_computed(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and (_computes(node) or node.op_type in ("Clip", "Relu"))


def _computes(node: ir.Node) -> bool:
    """Check for an operator whose result becomes uint8; of products, those with a gate, such as a swish."""
    sources = [None if value is None else value.producer() for value in node.inputs]
    gated = any(source is not None and source.op_type in _GATES for source in sources)
    return node.op_type in _COMPUTED or (node.op_type == "Mul" and gated)


def _is_move(node: ir.Node) -> bool:
    """Check that a node's output may have the scale of its inputs: it moves numbers, or interpolates between neighbours.

    Logits are not interpolated in 8 bits, because values between two of them would often be ties. onnxruntime rounds
    interpolated numbers down, which makes them half a step too low on average.
    """
    if node.op_type != "Resize":
        return node.op_type in _MOVES
    after = only_consumer(node.outputs[0])
    return node.attributes.get_string("mode") == "linear" and after is not None and after.op_type == "Concat"


def _moved(node: ir.Node) -> list[ir.Value]:
    """Return the inputs of a move that hold data, without shapes and axes."""
    inputs = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return [value for value in inputs if value is not None]


def _result(node: ir.Node) -> ir.Value:
    """Return the result of an operator, after the ReLU that belongs to it."""
    after = rectifier_of(node)
    return node.outputs[0] if after is None else after.outputs[0]


def _sharing(graph: ir.Graph) -> dict[ir.Value, ir.Value]:
    """Map every value that becomes uint8 to the value that represents all values with the same scale."""
    leaders: dict[ir.Value, ir.Value] = {}

    def find(value: ir.Value) -> ir.Value:
        while leaders[value] is not value:
            value = leaders[value]
        return value

    for node in graph:
        value = node.outputs[0]
        if _computes(node):
            leaders[_result(node)] = _result(node)
        elif _is_pixels(value):
            leaders[value] = value
        elif _is_move(node) and all(source in leaders for source in _moved(node)):
            first, *others = [find(source) for source in _moved(node)]
            if len({_is_pixels(leader) for leader in (first, *others)}) > 1:
                continue  # the scale of the image is fixed
            leaders.update(dict.fromkeys(others, first))
            leaders[value] = first
    return {value: find(value) for value in leaders}


def _scales(graph: ir.Graph, ranges: Mapping[str, Range]) -> dict[ir.Value, tuple[float, int]]:
    """Return scale and zero point of every value, from the widest range among the values that share a scale."""
    sharing = _sharing(graph)
    limits: dict[ir.Value, Range] = {}
    for value, leader in sharing.items():
        if _is_pixels(value) or _is_computed(value):
            low, high = _PIXELS if _is_pixels(value) else ranges[str(value.name)]
            # The range must include zero, because convolutions pad with it.
            before = limits.get(leader, (0.0, 0.0))
            limits[leader] = (min(before[0], low), max(before[1], high))
    found = {}
    for leader, (low, high) in limits.items():
        # Rounded to float32, as it will be stored; a value that is always zero gets an arbitrary scale.
        scale = float(np.float32(max(high - low, 1e-20) / 255))
        found[leader] = (scale, round(-low / scale))
    return {value: found[leader] for value, leader in sharing.items()}


class _Rewrite:
    """Rewriter that walks over a graph in order and keeps the uint8 twin of each float value."""

    def __init__(
        self,
        graph: ir.Graph,
        scales: Mapping[ir.Value, tuple[float, int]],
        keep_float: Collection[str],
    ) -> None:
        self._graph = graph
        self._scales = scales
        self._keep_float = keep_float
        self._twins: dict[ir.Value, ir.Value] = {}
        self._constants: dict[tuple[object, ...], ir.Value] = {}

    def run(self) -> None:
        for node in list(self._graph):
            value = node.outputs[0]
            if _is_pixels(value):
                self._twins[value] = input_of(node, 0)
            elif _is_move(node) and value in self._scales:
                self._move(node)
            elif _computes(node):
                self._compute(node)
            elif node.op_type == "ArgMax" and node.inputs[0] in self._twins:
                self._compare(node)
            else:
                self._read(node)
        for place, value in enumerate(self._graph.outputs):
            if value in self._twins:
                self._graph.outputs[place] = self._as_output(value)

    def _move(self, node: ir.Node) -> None:
        """Let a move work on the uint8 twins."""
        inputs = [None if value is None else self._twins.get(value, value) for value in node.inputs]
        twin = ir.node(node.op_type, inputs, dict(node.attributes))
        self._graph.insert_after(node, twin)
        self._pair(node.outputs[0], twin.outputs[0])

    def _compute(self, node: ir.Node) -> None:
        """Give an operator dequantised inputs, and quantise its result."""
        ready = node.op_type == "Conv" and node.inputs[0] in self._twins
        kept = ready and node.metadata_props.get(LAYER) in self._keep_float
        if ready and not kept:
            self._quantise_weights(node)
        self._read(node)
        result = _result(node)
        value = self._guarded(node, result) if kept else node.outputs[0]
        quantise = ir.node("QuantizeLinear", [value, *self._scale_and_zero(result)])
        quantise.metadata_props.update(node.metadata_props)
        self._graph.insert_after(producer_of(value), quantise)
        self._pair(result, quantise.outputs[0] if kept else self._rectified(quantise, result))

    def _rectified(self, quantise: ir.Node, result: ir.Value) -> ir.Value:
        """Return the uint8 twin of a result after its ReLU, from the quantised value before it.

        Most often nothing is left to do: the scale holds no number that the ReLU would change. It does where a value that
        can be negative has the same scale. A float ReLU would then keep onnxruntime from computing with integers.
        """
        rectifier = result.producer()
        if quantise.inputs[0] is result or rectifier is None:
            return quantise.outputs[0]
        scale, zero = self._scales[result]
        highest = constant(rectifier.inputs[2]) if rectifier.op_type == "Clip" and len(rectifier.inputs) > 2 else None
        top = 255 if highest is None else min(255, round(float(highest) / scale) + zero)
        if (zero, top) == (0, 255):
            return quantise.outputs[0]
        limits = [self._constant(np.array(limit, np.uint8)) for limit in (zero, top)]
        clip = ir.node("Clip", [quantise.outputs[0], *limits])
        clip.outputs[0].shape, clip.outputs[0].dtype = result.shape, ir.DataType.UINT8
        self._graph.insert_after(quantise, clip)
        return clip.outputs[0]

    def _guarded(self, conv: ir.Node, result: ir.Value) -> ir.Value:
        """Return the result of a convolution that stays in float, behind an operator that keeps it in float.

        Between ``DequantizeLinear`` and ``QuantizeLinear``, onnxruntime quantises the weights of a float convolution by
        itself, with one scale for all of them, also if a ``Relu`` or ``Clip`` follows. It does not do so if a
        ``LeakyRelu`` follows, which is a ReLU with slope 0 and the identity with slope 1, and which it fuses into the
        convolution.
        Reference: onnxruntime, ``core/optimizer/qdq_transformer/weight_bias_quantization.cc``.
        """
        last = producer_of(result)
        behind = conv if last.op_type == "Relu" else last
        guard = ir.node("LeakyRelu", [behind.outputs[0]], {"alpha": 1.0 if behind.outputs[0] is result else 0.0})
        guard.outputs[0].shape, guard.outputs[0].dtype = result.shape, ir.DataType.FLOAT
        self._graph.insert_after(behind, guard)
        return guard.outputs[0]

    def _compare(self, argmax: ir.Node) -> None:
        """Let an argmax read the 8-bit numbers as float, because they are in the same order as the logits.

        Over uint8, onnxruntime takes three times as long, and it removes a ``DequantizeLinear`` before an argmax.
        """
        logits = input_of(argmax, 0)
        cast = ir.node("Cast", [self._twins[logits]], {"to": int(ir.DataType.FLOAT)})
        cast.outputs[0].shape, cast.outputs[0].dtype = logits.shape, ir.DataType.FLOAT
        self._graph.insert_before(argmax, cast)
        argmax.replace_input_with(0, cast.outputs[0])

    def _read(self, node: ir.Node) -> None:
        """Dequantise every input that has a uint8 twin."""
        for place, value in enumerate(node.inputs):
            if value is not None and value in self._twins:
                node.replace_input_with(place, self._dequantised(value, before=node))

    def _dequantised(self, value: ir.Value, before: ir.Node) -> ir.Value:
        node = ir.node("DequantizeLinear", [self._twins[value], *self._scale_and_zero(value)])
        node.outputs[0].shape, node.outputs[0].dtype = value.shape, ir.DataType.FLOAT
        self._graph.insert_before(before, node)
        return node.outputs[0]

    def _as_output(self, value: ir.Value) -> ir.Value:
        node = ir.node("DequantizeLinear", [self._twins[value], *self._scale_and_zero(value)])
        self._graph.append(node)
        output = node.outputs[0]
        name, value.name = value.name, f"{value.name}_float"
        output.name, output.shape, output.dtype = name, value.shape, ir.DataType.FLOAT
        return output

    def _quantise_weights(self, conv: ir.Node) -> None:
        """Replace the kernel by int8 and the bias by int32, whose scale is the input's times the kernel's."""
        kernel = array_of(conv.inputs[1]).astype(np.float32)
        bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
        input_scale = self._scales[input_of(conv, 0)][0]
        limits = np.abs(kernel).max(axis=(1, 2, 3)).astype(np.float64)
        widths = np.where(limits > 0, limits, 1.0) / _LARGEST_WEIGHT
        if bias is not None:
            # Weights that are tiny beside the bias get a coarser scale, so that the bias fits into int32.
            widths = np.maximum(widths, np.abs(bias) / (_LARGEST_BIAS * input_scale))
        scales = widths.astype(np.float32)
        rounded = np.rint(kernel / scales[:, None, None, None]).astype(np.int8)
        self._replace_weights(conv, 1, rounded, scales)
        if bias is not None:
            steps = (scales * input_scale).astype(np.float32)
            counts = np.rint(bias / steps.astype(np.float64))
            self._replace_weights(conv, 2, counts.astype(np.int32), steps)

    def _replace_weights(
        self, conv: ir.Node, place: int, integers: NDArray[np.generic], scales: NDArray[np.float32]
    ) -> None:
        inputs = [self._constant(array) for array in (integers, scales, np.zeros(scales.shape, integers.dtype))]
        node = ir.node("DequantizeLinear", inputs, {"axis": 0})
        self._graph.insert_before(conv, node)
        conv.replace_input_with(place, node.outputs[0])

    def _scale_and_zero(self, value: ir.Value) -> tuple[ir.Value, ir.Value]:
        scale, zero = self._scales[value]
        return self._constant(np.array(scale, np.float32)), self._constant(np.array(zero, np.uint8))

    def _constant(self, array: NDArray[np.generic]) -> ir.Value:
        """Return a constant of the graph; equal arrays share one, because scales and zero points repeat."""
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = initializer(self._graph, f"quantised_{len(self._constants)}", array)
        return self._constants[key]

    def _pair(self, value: ir.Value, twin: ir.Value) -> None:
        twin.shape, twin.dtype = value.shape, ir.DataType.UINT8
        self._twins[value] = twin
