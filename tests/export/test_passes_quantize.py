"""Quantisation: what is stored, what the integers stand for, and how far the answers are from float."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from graphs import assert_same, clean, operators, pixels, run, traced_graph, weighted_graph
from runs import traced

from export.convert import convolution_layers
from export.graph import LAYER, constant
from export.passes.class_map import AddClassMap
from export.passes.copies import UpsampleByCopies
from export.passes.joined_phases import JoinPhases
from export.passes.names import NameByLayer
from export.passes.normalisation import FoldNormalisation
from export.passes.pixel_groups import GroupPixels
from export.passes.pixels import TakePixels
from export.passes.quantize import Quantize, Range, layers_of, measured_values
from export.passes.upsampling import RestoreUpsampling

PRESETS = [("seed", 1, 1), ("seed", 3, 3), ("classic", 3, 3), ("edge", 3, 3)]
MOVES = {"Concat", "Gather", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose"}
SAME = "Conv<pads=[1, 1, 1, 1]>"
PIXELS = "p = Cast<to=1>(image)"


@cache
def laid_out(preset: str, channels: int, logit_channels: int) -> onnx.ModelProto:
    """A preset in float and laid out for integers, with all of its decoder in phases."""
    model = traced_graph(preset, channels, logit_channels)
    passes = (
        NameByLayer(convolution_layers(traced(preset, channels, logit_channels)[0])),
        RestoreUpsampling(),
        FoldNormalisation(),
        TakePixels(),
        AddClassMap(),
        JoinPhases(1),
        UpsampleByCopies(),
        GroupPixels(),
    )
    for graph_pass in passes:
        graph_pass(model)
        clean(model)
    return ir.to_proto(model)


def float_model(case: tuple[str, int, int]) -> ir.Model:
    return clean(ir.from_proto(laid_out(*case)))


def ranges_of(model: ir.Model, *images: np.ndarray) -> dict[str, Range]:
    """Measure on the images themselves."""
    names = measured_values(model.graph)
    copy = clean(ir.from_proto(ir.to_proto(model)))
    values = {value.name: value for node in copy.graph for value in node.outputs}
    copy.graph.outputs.extend(values[name] for name in names if not values[name].is_graph_output())
    proto = ir.to_proto(copy)
    found = [run(proto, image) for image in images]
    return {
        name: (min(float(f[name].min()) for f in found), max(float(f[name].max()) for f in found)) for name in names
    }


def quantised(model: ir.Model, *images: np.ndarray, keep_float: tuple[str, ...] = ()) -> ir.Model:
    """A model with the ranges of the images; the one in float is left as it is."""
    ranges = ranges_of(model, *images)
    result = clean(ir.from_proto(ir.to_proto(model)))
    Quantize(ranges, keep_float)(result)
    return clean(result)


@cache
def integers(case: tuple[str, int, int]) -> ir.Model:
    """A preset in integers, for one picture; to be left as it is."""
    model = float_model(case)
    return quantised(model, pixels(model))


def scale_and_zero(node: ir.Node) -> tuple[float, int]:
    return float(constant(node.inputs[1])), int(constant(node.inputs[2]))


def sources(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the QuantizeLinear nodes that an 8-bit value comes from through moves."""
    node = value.producer()
    if node is not None and node.op_type == "QuantizeLinear":
        yield node
    elif node is not None:
        assert node.op_type in {*MOVES, "Clip"}  # a ReLU of integers
        for place in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
            yield from sources(place)


def of_type(model: ir.Model, *types: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type in types]


def is_integer(conv: ir.Node) -> bool:
    producer = conv.inputs[1].producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def optimised_operators(model: ir.Model, folder: Path) -> list[str]:
    """The operators that onnxruntime makes of a model."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


class TestOfAPreset:
    @pytest.mark.parametrize("case", PRESETS)
    def test_the_answers_are_near(self, case):
        model = float_model(case)
        image = pixels(model)
        before, after = run(model, image), run(integers(case), image)
        assert list(after) == ["mask", "logits"]
        assert {name: (v.dtype, v.shape) for name, v in after.items()} == {
            name: (v.dtype, v.shape) for name, v in before.items()
        }
        error = np.abs(after["logits"] - before["logits"])
        spread = before["logits"].max() - before["logits"].min()
        assert 0 < error.max() < 0.08 * spread
        assert error.mean() < 0.015 * spread
        assert len(np.unique(before["mask"])) > 1
        assert np.mean(after["mask"] == before["mask"]) > 0.96

    @pytest.mark.parametrize("case", PRESETS)
    def test_only_integers_are_stored_and_moved(self, case):
        model = integers(case)
        # The convolution of the mean has one pixel: nothing to gain.
        assert [conv.name for conv in of_type(model, "Conv") if not is_integer(conv)] in ([], ["context"])
        for node in of_type(model, *MOVES):
            producers = [value.producer() for value in node.inputs[:1] if value.producer() is not None]
            # Only the mean over the bottleneck of 'edge', a number a channel, is in float.
            float_too = {"GlobalAveragePool"} if case[0] == "edge" else set()
            assert all(p.op_type in {"QuantizeLinear"} | MOVES | float_too for p in producers)
        assert not of_type(model, "Relu")
        # An argmax over 8-bit logits is slow: they are cast for it, and its result is.
        casts = [ir.DataType.UINT8] if case[2] == 1 else [ir.DataType.FLOAT, ir.DataType.UINT8]
        assert [node.attributes.get_int("to") for node in of_type(model, "Cast")] == casts
        assert len(of_type(model, "QuantizeLinear")) == len(of_type(model, "Conv", "Add"))
        assert {entry.domain for entry in ir.to_proto(model).opset_import} <= {"", "ai.onnx.ml"}
        assert {node.domain for node in model.graph} == {""}

    @pytest.mark.parametrize("case", PRESETS)
    def test_what_is_joined_shares_a_scale(self, case):
        model = integers(case)
        found = {
            node: {scale_and_zero(source) for source in sources(node.inputs[0])}
            for node in of_type(model, "DequantizeLinear")
            if node.inputs[0].dtype == ir.DataType.UINT8
        }
        assert all(scales <= {scale_and_zero(node)} for node, scales in found.items())
        # Behind all but the image.
        assert sum(not scales for scales in found.values()) == 1
        assert of_type(model, "Concat")

    @pytest.mark.parametrize("case", PRESETS)
    def test_the_image_goes_into_the_first_convolution_as_it_is(self, case):
        model = integers(case)
        first = of_type(model, "Conv")[0].inputs[0].producer()
        assert scale_and_zero(first) == (1.0, 0)
        node = first.inputs[0].producer()
        while node is not None and node.op_type in MOVES:
            node = node.inputs[0].producer()
        assert node is None

    def test_onnxruntime_makes_integer_convolutions_of_it(self, tmp_path):
        case = ("classic", 3, 3)
        model = float_model(case)
        model = quantised(model, pixels(model), keep_float=("bottleneck_a", "logits"))
        found = optimised_operators(model, tmp_path)
        convolutions = len(of_type(model, "Conv"))
        assert found.count("QLinearConv") == convolutions - 2
        assert found.count("QLinearAdd") == len(of_type(model, "Add"))
        assert convolutions > 20

    def test_without_the_layout_it_is_quantised_too(self):
        model = traced_graph("edge")
        for graph_pass in (RestoreUpsampling(), FoldNormalisation(), TakePixels(), AddClassMap()):
            graph_pass(model)
            clean(model)
        image = pixels(model)
        before, after = run(model, image), run(quantised(model, image), image)
        assert np.abs(after["logits"] - before["logits"]).max() < 0.08 * np.ptp(before["logits"])


class TestKeepFloat:
    @pytest.mark.parametrize("kept", [("logits",), ("encoder_0_a", "decoder_0_b"), ("bottleneck_b",)])
    def test_leaves_the_convolutions_of_these_layers(self, kept):
        model = float_model(("classic", 3, 3))
        image = pixels(model)
        result = quantised(model, image, keep_float=kept)
        in_float = {node.metadata_props[LAYER] for node in of_type(result, "Conv") if not is_integer(node)}
        assert in_float == set(kept)
        assert {node.metadata_props[LAYER] for node in of_type(result, "Conv") if is_integer(node)} == set(
            layers_of(model.graph)
        ) - set(kept)
        before = run(model, image)
        assert np.abs(run(result, image)["logits"] - before["logits"]).max() < 0.08 * np.ptp(before["logits"])

    @pytest.mark.parametrize("relu", [True, False])
    def test_holds_in_onnxruntime_too(self, relu, tmp_path):
        # Left between two pairs, it would get 8-bit weights there, with one scale for all channels.
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[8,1,3,3] w, float[4,8,3,3] v, float[4] b",
            "float[1,4,4,8] y",
            f"{PIXELS} c = {SAME}(p, w) r = Relu(c) d = {SAME}(r, v, b) {'e = Relu(d) y = Neg(e)' if relu else 'y = Neg(d)'}",
        )
        model.graph[3].metadata_props[LAYER] = "kept"
        value = model.graph.initializers["v"]
        factors = np.array([1e-3, 1e-2, 1e-1, 1], np.float32)[:, None, None, None]
        value.const_value = ir.tensor(value.const_value.numpy() * factors, name="v")
        image = pixels(model)
        before, result = run(model, image)["y"], quantised(model, image, keep_float=("kept",))
        assert optimised_operators(result, tmp_path).count("QLinearConv") == 1
        # Its smallest channel is lost where all channels have one scale.
        apart = np.abs(run(result, image)["y"] - before)
        assert apart.max() < 0.02 * np.ptp(before)

    def test_of_all_layers_leaves_their_weights(self):
        model = float_model(("seed", 3, 3))
        image = pixels(model)
        result = quantised(model, image, keep_float=tuple(layers_of(model.graph)))
        assert not any(is_integer(conv) for conv in of_type(result, "Conv"))
        all_integer = quantised(model, image)
        before = run(model, image)["logits"]
        errors = [np.abs(run(m, image)["logits"] - before).mean() for m in (result, all_integer)]
        assert 0 < errors[0] < errors[1]

    def test_of_nothing_that_is_there_changes_nothing(self):
        model = float_model(("seed", 3, 3))
        image = pixels(model)
        assert_same(run(quantised(model, image, keep_float=("none",)), image), run(quantised(model, image), image))

    def test_layers_are_named_in_their_order(self):
        layers = convolution_layers(traced("seed", 3, 3)[0])
        assert layers_of(float_model(("seed", 3, 3)).graph) == layers
        assert layers[-1] == "logits"


class TestConvolution:
    MODEL = {
        "inputs": "uint8[1,3,4,6] image, float[5,3,3,3] w, float[5] b",
        "outputs": "float[1,5,4,6] y",
        "body": f"{PIXELS} y = {SAME}(p, w, b)",
    }

    def test_is_integer_arithmetic(self):
        model = weighted_graph(**self.MODEL)
        image = pixels(model)
        ranges = ranges_of(model, image)
        weights, bias = (model.graph.initializers[name].const_value.numpy().copy() for name in "wb")
        result = quantised(model, image)
        conv = of_type(result, "Conv")[0]
        kernel, counts = (conv.inputs[place].producer() for place in (1, 2))
        integers, scales, zeros = (constant(value) for value in kernel.inputs)
        assert (integers.dtype, zeros.dtype, kernel.attributes.get_int("axis")) == (np.int8, np.int8, 0)
        assert not zeros.any()
        # One scale a channel, so that the largest weight of each is 64.
        assert np.abs(integers).max(axis=(1, 2, 3)).tolist() == [64] * 5
        np.testing.assert_allclose(scales, np.abs(weights).max(axis=(1, 2, 3)) / 64, rtol=1e-6)
        assert np.abs(integers * scales[:, None, None, None] - weights).max() <= 0.5001 * scales.max()
        # The image has scale one, so the bias counts in the scales of the weights.
        stored, steps, zeros = (constant(value) for value in counts.inputs)
        assert (stored.dtype, zeros.dtype) == (np.int32, np.int32)
        np.testing.assert_allclose(steps, scales, rtol=1e-6)
        np.testing.assert_array_equal(stored, np.rint(bias / scales.astype(np.float64)))
        # The result, by hand.
        low, high = ranges["y"]
        scale, zero = (high - low) / 255, round(-low / ((high - low) / 255))
        assert scale_and_zero(of_type(result, "QuantizeLinear")[0]) == (pytest.approx(scale, rel=1e-6), zero)
        padded = np.pad(image[0].astype(np.int64), ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        sums = np.einsum("chwij,ocij->ohw", windows, integers.astype(np.int64)) + stored[:, None, None]
        expected = np.clip(np.rint(sums * scales[:, None, None] / scale) + zero, 0, 255)
        found = run(result, image)["y"][0] / np.float32(scale) + zero
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.01)
        assert np.mean(np.rint(found) == expected) > 0.98
        assert len(np.unique(expected)) > 50

    def test_stays_within_half_a_step_of_everything_that_is_rounded(self):
        model = weighted_graph(**self.MODEL)
        image = pixels(model)
        weights = model.graph.initializers["w"].const_value.numpy()
        before = run(model, image)["y"]
        result = quantised(model, image)
        scale = scale_and_zero(of_type(result, "QuantizeLinear")[0])[0]
        scales = np.abs(weights).max(axis=(1, 2, 3)) / 64
        sums = np.pad(image[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
        sums = np.lib.stride_tricks.sliding_window_view(sums, (3, 3), axis=(1, 2)).sum((0, 3, 4))
        bound = (0.5 * scales[:, None, None] * (sums + 1) + 0.501 * scale) * 1.001
        error = np.abs(run(result, image)["y"] - before)[0]
        assert (error <= bound).all()

    def test_no_processor_cuts_off_a_sum(self):
        # White pixels times equal weights are the largest sums; without VNNI, two products must fit into int16.
        model = weighted_graph(
            "uint8[1,4,6,8] image, float[8,4,3,3] w", "float[1,8,6,8] y", f"{PIXELS} y = {SAME}(p, w)"
        )
        signs = np.where(np.arange(8) % 2, -1, 1).astype(np.float32)
        weights = np.broadcast_to(signs[:, None, None, None] * np.float32(0.5), (8, 4, 3, 3))
        model.graph.initializers["w"].const_value = ir.tensor(weights.copy(), name="w")
        image = np.full((1, 4, 6, 8), 255, np.uint8)
        before = run(model, image)["y"]
        np.testing.assert_allclose(run(quantised(model, image), image)["y"], before, rtol=0, atol=np.ptp(before) / 255)

    def test_the_bias_counts_in_products_of_both_scales(self):
        model = weighted_graph(
            "uint8[1,1,4,6] image, float[3,1,3,3] w, float[4,3,1,1] v, float[4] b",
            "float[1,4,4,6] y",
            f"{PIXELS} c = {SAME}(p, w) y = Conv(c, v, b)",
        )
        image = pixels(model)
        low, high = ranges_of(model, image)["c"]
        bias = model.graph.initializers["b"].const_value.numpy().copy()
        result = quantised(model, image)
        conv = of_type(result, "Conv")[1]
        scales = constant(conv.inputs[1].producer().inputs[1])
        stored, steps, _ = (constant(value) for value in conv.inputs[2].producer().inputs)
        np.testing.assert_allclose(steps, scales * (high - low) / 255, rtol=1e-6)
        np.testing.assert_allclose(stored * steps, bias, rtol=0, atol=0.51 * steps.max())
        assert len(of_type(result, "Conv")[0].inputs) == 2

    @pytest.mark.parametrize("factor", [0.0, 1e-9, 1e-6])
    def test_a_channel_whose_weights_are_next_to_nothing_keeps_its_bias(self, factor):
        # What a normalisation with a gamma near zero leaves when it is folded.
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w",
            "float[1,2,4,8] y",
            f"{PIXELS} y = {SAME}(p, w, b)",
            "float[2] b = {0.5, -300.0}",
        )
        value = model.graph.initializers["w"]
        value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name="w")
        image = pixels(model)
        before = run(model, image)["y"]
        found = run(quantised(model, image), image)["y"]
        np.testing.assert_allclose(found, before, rtol=0, atol=np.ptp(before) / 255)

    def test_what_is_always_zero_stays_zero_and_the_next_bias_counts(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[3,1,3,3] w, float[4,3,1,1] v, float[4] b",
            "float[1,4,4,8] y, float[1,3,4,8] r",
            f"{PIXELS} c = {SAME}(p, w, low) r = Relu(c) y = Conv(r, v, b)",
            "float[3] low = {-1e5, -1e5, -1e5}",
        )
        image = pixels(model)
        before = run(model, image)
        assert not before["r"].any()
        assert ranges_of(model, image)["r"] == (0.0, 0.0)
        found = run(quantised(model, image), image)
        assert np.abs(found["r"]).max() < 1e-12
        np.testing.assert_allclose(found["y"], before["y"], rtol=0, atol=np.ptp(before["y"]) / 255)


class TestScales:
    def test_zero_is_a_number_of_every_scale(self):
        # Both maps are far from zero, which is what the convolution behind them pads with.
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[3,1,1,1] w, float[2,3,3,3] v",
            "float[1,2,4,8] y",
            f"{PIXELS} c = Conv(p, w, high) y = {SAME}(c, v)",
            "float[3] high = {900, 1000, 1100}",
        )
        image = pixels(model)
        before = run(model, image)["y"]
        result = quantised(model, image)
        assert scale_and_zero(of_type(result, "QuantizeLinear")[0])[1] == 0
        assert np.abs(run(result, image)["y"] - before).max() < 0.03 * np.abs(before).max()

    def test_negative_numbers_only(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,1,1] w",
            "float[1,2,4,8] y",
            f"{PIXELS} y = Conv(p, w, low)",
            "float[2] low = {-900, -1000}",
        )
        image = pixels(model)
        before = run(model, image)["y"]
        assert before.max() < 0
        result = quantised(model, image)
        scale, zero = scale_and_zero(of_type(result, "QuantizeLinear")[0])
        assert zero == 255
        assert scale == pytest.approx(-before.min() / 255, rel=1e-6)
        assert np.abs(run(result, image)["y"] - before).max() <= scale

    @pytest.mark.parametrize("rectifier", ["Relu(c)", "Clip(c, none, six)"])
    def test_a_concatenation_takes_the_widest_range_and_the_relu_works_on_integers(self, rectifier, tmp_path):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w, float[3,1,3,3] v, float[4,5,1,1] x",
            "float[1,4,4,8] y",
            f"{PIXELS} c = {SAME}(p, w) r = {rectifier} d = {SAME}(p, v) m = Concat<axis=1>(r, d) y = Conv(m, x)",
            "float none = {0}, float six = {20}",
        )
        image = pixels(model)
        ranges, before = ranges_of(model, image), run(model, image)["y"]
        assert set(ranges) == {"r", "d", "y"}
        result = quantised(model, image)
        low, high = min(ranges["d"][0], 0), max(ranges["r"][1], ranges["d"][1])
        assert low < 0
        concat = of_type(result, "Concat")[0]
        found = {scale_and_zero(node) for node in sources(concat.outputs[0])}
        assert len(found) == 1
        assert found.pop() == (pytest.approx((high - low) / 255, rel=1e-6), round(-low / ((high - low) / 255)))
        assert [value.producer().op_type for value in concat.inputs] == ["Clip", "QuantizeLinear"]
        assert operators(result).count("Relu") == 0
        assert optimised_operators(result, tmp_path).count("QLinearConv") == 3
        assert np.abs(run(result, image)["y"] - before).max() < 0.05 * np.ptp(before)

    @pytest.mark.parametrize(
        "activation",
        [
            "e = Elu(c)",
            "e = LeakyRelu<alpha=0.2>(c)",
            "e = Tanh(c)",
            "e = HardSwish(c)",
            "s = Sigmoid(c) e = Mul(c, s)",
        ],
    )
    def test_convolutions_around_an_activation_compute_with_integers(self, activation, tmp_path):
        model = weighted_graph(
            "uint8[1,1,8,8] image, float[4,1,3,3] w, float[3,4,3,3] v",
            "float[1,3,8,8] y",
            f"{PIXELS} c = {SAME}(p, w) {activation} y = {SAME}(e, v)",
        )
        image = pixels(model)
        before = run(model, image)["y"]
        assert measured_values(model.graph)[-2:] == ["e", "y"]
        result = quantised(model, image)
        assert optimised_operators(result, tmp_path).count("QLinearConv") == 2
        assert np.abs(run(result, image)["y"] - before).max() < 0.05 * np.ptp(before)

    def test_a_product_without_a_gate_stays_in_float(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w, float[2,1,3,3] v",
            "float[1,2,4,8] y",
            f"{PIXELS} c = {SAME}(p, w) d = {SAME}(p, v) y = Mul(c, d)",
        )
        assert measured_values(model.graph) == ["c", "d"]

    def test_a_relu_whose_input_somebody_else_needs_stays_in_float(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w, float[2,2,1,1] v",
            "float[1,2,4,8] y",
            f"{PIXELS} c = {SAME}(p, w) r = Relu(c) d = Conv(r, v) y = Add(c, d)",
        )
        image = pixels(model)
        before = run(model, image)["y"]
        result = quantised(model, image)
        assert operators(result).count("Relu") == 1
        assert np.abs(run(result, image)["y"] - before).max() < 0.03 * np.ptp(before)

    def test_the_image_keeps_its_own_scale(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w, float[2,3,1,1] v",
            "float[1,2,4,8] y, float[1,3,4,8] m",
            f"{PIXELS} c = {SAME}(p, w) m = Concat<axis=1>(p, c) y = Conv(m, v)",
        )
        image = pixels(model)
        before = run(model, image)
        found = run(quantised(model, image), image)
        np.testing.assert_array_equal(found["m"][:, :1], image)
        for name in "my":
            assert np.abs(found[name] - before[name]).max() < 0.03 * np.ptp(before[name])

    def test_only_what_is_computed_has_to_be_measured(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w, float[3,2,1,1] v, float[3] b",
            "float[1,2,4,3] z",
            f"{PIXELS} c = {SAME}(p, w) r = Relu(c) m = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r) "
            "d = Conv(m, v, b) t = Transpose<perm=[0, 2, 3, 1]>(d) z = Neg(t)",
        )
        assert measured_values(model.graph) == ["r", "d"]
        with pytest.raises(KeyError, match="'d'"):
            Quantize({"r": (0.0, 1.0)})(model)


class TestOutputs:
    def test_a_value_that_the_graph_answers_and_needs_keeps_its_name_and_type(self):
        model = weighted_graph(
            "uint8[1,1,4,8] image, float[2,1,3,3] w, float[3,2,1,1] v",
            "float[1,2,4,8] r, float[1,3,4,8] y, float[1,4,8,3] t",
            f"{PIXELS} c = {SAME}(p, w) r = Relu(c) y = Conv(r, v) t = Transpose<perm=[0, 2, 3, 1]>(y)",
        )
        image = pixels(model)
        before = run(model, image)
        result = quantised(model, image)
        assert [(v.name, v.dtype, v.shape) for v in result.graph.outputs] == [
            (v.name, v.dtype, v.shape) for v in model.graph.outputs
        ]
        after = run(result, image)
        for name, value in before.items():
            assert np.abs(after[name] - value).max() < 0.03 * np.ptp(value)
        np.testing.assert_array_equal(after["t"], after["y"].transpose(0, 2, 3, 1))
