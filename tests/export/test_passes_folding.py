"""What is folded into a convolution, what is left alone, and a clipping ReLU in 8-bit integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphs import assert_rounding_apart, assert_same, clean, numbers, operators, run, weighted_graph

from export.graph import rectifier_of
from export.passes.batch_norm import FoldBatchNorm
from export.passes.hard_sigmoid import FuseHardSigmoid
from export.passes.padding import FoldPadding
from export.passes.quantize import Quantize, measured_values

DEPTHWISE = "float[1,4,6,8] image, float[4,1,3,3] w, float[4,1,1] s, float[4,1,1] t"


class TestFoldBatchNorm:
    @pytest.mark.parametrize(
        "body",
        [
            "c = Conv<group=4>(image, w) m = Mul(c, s) a = Add(m, t) y = Relu(a)",
            "c = Conv<group=4, strides=[2, 2]>(image, w, b) m = Mul(s, c) y = Relu(m)",
            "c = Conv<group=4>(image, w) a = Add(t, c) y = Relu(a)",
            "c = Conv(image, whole, b) m = Mul(c, s) a = Add(m, t) y = Relu(a)",
            "c = ConvTranspose(image, turned, b) m = Mul(c, s) a = Add(m, t) y = Relu(a)",
        ],
        ids=["both", "factor, with a bias", "offset", "not depthwise", "transposed"],
    )
    def test_factor_and_offset_go_into_a_convolution(self, body):
        size = "[1,4,2,3]" if "strides" in body else "[1,4,8,10]" if "turned" in body else "[1,4,4,6]"
        weights = "float[4] b, float[4,4,3,3] whole, float[4,4,3,3] turned"
        model = weighted_graph(f"{DEPTHWISE}, {weights}", f"float{size} y", body)
        image = numbers(model)
        before = run(model, image)
        assert FoldBatchNorm()(model).modified
        clean(model)
        assert operators(model) == ["ConvTranspose" if "turned" in body else "Conv", "Relu"]
        assert model.graph[0].inputs[1].name.partition("/")[0] in ("w", "whole", "turned")
        assert model.graph[0].outputs[0].name == "c"
        assert_rounding_apart(run(model, image), before)

    @pytest.mark.parametrize(
        "body",
        [
            "c = Conv<group=4>(image, w) m = Mul(c, s) y = Add(m, c)",
            "c = Conv<group=4>(image, w) y = Mul(c, s)",
            "c = Conv<group=4>(image, w) m = Mul(c, row) y = Relu(m)",
            "c = Conv<group=4>(image, w) m = Mul(c, one) y = Relu(m)",
        ],
        ids=["needed elsewhere", "a graph output", "a number for each column", "one number"],
    )
    def test_what_is_no_normalisation_behind_a_convolution_stays(self, body):
        inputs = f"{DEPTHWISE}, float[1,1,1,6] row, float one"
        model = weighted_graph(inputs, "float[1,4,4,6] y", body)
        before = operators(model)
        assert not FoldBatchNorm()(model).modified
        assert operators(model) == before

    def test_a_transpose_may_stand_between(self):
        body = "c = Conv(image, w, b) n = Transpose<perm=[0, 2, 3, 1]>(c) m = Mul(n, s) a = Add(m, t) y = Relu(a)"
        weights = "float[5,4,3,3] w, float[5] b, float[5] s, float[5] t"
        model = weighted_graph(f"float[1,4,6,8] image, {weights}", "float[1,4,6,5] y", body)
        image = numbers(model)
        before = run(model, image)
        assert FoldBatchNorm()(model).modified
        clean(model)
        assert operators(model) == ["Conv", "Transpose", "Relu"]
        assert_rounding_apart(run(model, image), before)


class TestFuseHardSigmoid:
    CONSTANTS = (
        "float three = {3}, float zero = {0}, float six = {6}, float[1] sixth = {0.16666667}, float half = {0.5}"
    )

    @pytest.mark.parametrize(
        "body",
        [
            "a = Add(image, three) c = Clip(a, zero, six) y = Mul(c, sixth)",
            "a = Add(three, image) c = Clip(a, zero, six) h = Mul(sixth, c) y = Mul(image, h)",
        ],
        ids=["hard sigmoid", "hard swish"],
    )
    def test_three_nodes_become_one(self, body):
        model = weighted_graph("float[1,4,6,8] image", "float[1,4,6,8] y", body, self.CONSTANTS)
        image = 4 * numbers(model)
        assert image.min() < -3 < 3 < image.max()
        before = run(model, image)
        assert FuseHardSigmoid()(model).modified
        clean(model)
        assert operators(model) == ["HardSigmoid", "Mul"][: 1 + ("image, h" in body)]
        assert model.graph.outputs[0].name == "y"
        assert_same(run(model, image), before, atol=2e-6)

    @pytest.mark.parametrize(
        "body",
        [
            "a = Add(image, three) c = Clip(a, zero, six) y = Mul(c, half)",
            "a = Add(image, sixth) c = Clip(a, zero, six) y = Mul(c, sixth)",
            "a = Add(image, three) c = Clip(a, zero, three) y = Mul(c, sixth)",
            "a = Add(image, three) c = Clip(a, zero, six) m = Mul(c, sixth) y = Add(m, c)",
            "a = Add(image, three) c = Clip(a, zero, six) m = Mul(c, sixth) y = Add(m, a)",
            "a = Mul(image, three) c = Clip(a, zero, six) y = Mul(c, sixth)",
            "c = Clip(image, zero, six) y = Mul(c, sixth)",
        ],
        ids=["half", "no shift by 3", "up to 3", "clip used twice", "sum used twice", "no sum", "a ReLU6"],
    )
    def test_what_is_no_hard_sigmoid_stays(self, body):
        model = weighted_graph("float[1,4,6,8] image", "float[1,4,6,8] y", body, self.CONSTANTS)
        assert not FuseHardSigmoid()(model).modified


class TestFoldPadding:
    CONV = "Conv<strides=[2, 2]>(p, w)"
    INPUTS = "float[1,4,6,8] image, float[2,4,3,3] w"

    @pytest.mark.parametrize("zero", ["", ", zero"])
    def test_padding_with_zeros_goes_into_the_convolution(self, zero):
        constants = "int64[8] pads = {0,0,0,1,0,0,1,0}, float zero = {0}"
        body = f"p = Pad(image, pads{zero}) y = Conv<strides=[2, 2], pads=[1, 0, 0, 1]>(p, w)"
        model = weighted_graph(self.INPUTS, "float[1,2,3,4] y", body, constants)
        image = numbers(model)
        before = run(model, image)
        assert FoldPadding()(model).modified
        assert operators(clean(model)) == ["Conv"]
        assert_same(run(model, image), before)

    @pytest.mark.parametrize(
        ("constants", "body"),
        [
            ("int64[8] pads = {0,0,0,0,0,0,1,1}, float one = {1}", f"p = Pad(image, pads, one) y = {CONV}"),
            ("int64[8] pads = {0,0,0,0,0,0,1,1}", f'p = Pad<mode="edge">(image, pads) y = {CONV}'),
            ("int64[8] pads = {0,0,1,1,0,0,-1,-1}", f"p = Pad(image, pads) y = {CONV}"),
            ("int64[8] pads = {0,1,0,0,0,1,1,1}", "p = Pad(image, pads) y = Conv<strides=[2, 2]>(p, wide)"),
            ("int64[8] pads = {0,0,0,0,0,0,1,1}", f"p = Pad(image, pads) y = {CONV} z = Relu(p)"),
        ],
        ids=["another number", "of the edge", "cropping", "of channels", "needed elsewhere"],
    )
    def test_any_other_padding_stays(self, constants, body):
        outputs = "float[1,2,h,w] y" + (", float[1,4,7,9] z" if "z =" in body else "")
        model = weighted_graph(f"{self.INPUTS}, float[2,6,3,3] wide", outputs, body, constants)
        before = run(model, numbers(model))
        assert not FoldPadding()(model).modified
        assert_same(run(model, numbers(model)), before)


class TestClippingRelu:
    BODY = "x = Cast<to=1>(image) c = Conv<pads=[1,1,1,1]>(x, w, b) r = Clip(c, zero, six) y = Conv(r, v)"
    INPUTS = "uint8[1,2,6,8] image, float[4,2,3,3] w, float[4] b, float[3,4,1,1] v"

    def model(self, lowest=0.0):
        constants = f"float zero = {{{lowest}}}, float six = {{6.0}}"
        return weighted_graph(self.INPUTS, "float[1,3,6,8] y", self.BODY, constants)

    def quantised(self, highest):
        model = self.model()
        image = np.random.default_rng(0).integers(0, 256, (1, 2, 6, 8), dtype=np.uint8)
        expected = run(model, image)["y"]
        assert measured_values(model.graph) == ["r", "y"]
        Quantize({"r": (0.0, highest), "y": (float(expected.min()), float(expected.max()))})(model)
        clean(model)
        return model, np.abs(run(model, image)["y"] - expected).max() / np.abs(expected).max()

    def test_the_scale_does_its_work_where_it_ends_there(self):
        model, error = self.quantised(6.0)
        assert "Clip" not in operators(model)
        assert error < 0.06

    def test_it_stays_where_the_scale_goes_on(self):
        model, error = self.quantised(50.0)
        assert "Clip" in operators(model)
        assert error < 0.1

    def test_a_layer_left_in_float_is_clipped_too(self):
        model = self.model()
        first = next(node for node in model.graph if node.op_type == "Conv")
        first.metadata_props["keras_layer"] = "first"
        image = np.full((1, 2, 6, 8), 255, np.uint8)
        expected = run(model, image)
        limits = (float(expected["y"].min()), float(expected["y"].max()))
        Quantize({"r": (0.0, 50.0), "y": limits}, ["first"])(model)
        assert np.abs(run(clean(model), image)["y"] - expected["y"]).max() < 0.1 * np.abs(expected["y"]).max()

    def test_a_clip_that_begins_elsewhere_is_no_relu(self):
        conv = next(node for node in self.model(-1.0).graph if node.op_type == "Conv")
        assert rectifier_of(conv) is None


def test_what_is_interpolated_for_a_concatenation_keeps_its_scale():
    body = (
        "x = Cast<to=1>(image) c = Conv(x, w) d = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c) "
        'u = Resize<mode="linear">(d, , twice) j = Concat<axis=1>(c, u) y = Conv(j, v) '
    )
    model = weighted_graph(
        "uint8[1,2,6,8] image, float[4,2,1,1] w, float[3,8,1,1] v",
        "float[1,3,6,8] y",
        body,
        "float[4] twice = {1,1,2,2}",
    )
    image = np.random.default_rng(0).integers(0, 256, (1, 2, 6, 8), dtype=np.uint8)
    expected = run(model, image)["y"]
    assert measured_values(model.graph) == ["c", "y"]
    limits = (float(expected.min()), float(expected.max()))
    Quantize({"c": (-100.0, 350.0), "y": limits})(model)
    resize = next(node for node in clean(model).graph if node.op_type == "Resize")
    assert resize.inputs[0].dtype == ir.DataType.UINT8
    assert np.abs(run(model, image)["y"] - expected).max() < 0.05 * np.abs(expected).max()
