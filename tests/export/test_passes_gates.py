"""Means, gates and skips of networks with squeeze-and-excitation: rewritten where it is exact, else left alone."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import assert_same, clean, numbers, operators, run, weighted_graph

from export.passes.gates import SpreadGates
from export.passes.means import PoolMeans, _kernels
from export.passes.reshapes import DropReshapes
from export.passes.skips import ConvolveBeforeDoubling

SMALL = "float[1,4,6,8] image"
MEAN = "c = ReduceMean<axes=[3]>(image) y = GlobalAveragePool(c)"
DOUBLE = 'd = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(image, , twice)'
NEAREST = (
    'd = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(image, , twice)'
)
TWICE = "float[4] twice = {1,1,2,2}"


def rewritten(graph_pass, model, expected):
    """Apply a pass that must change the model, and check the operators and the results."""
    image = numbers(model)
    before = run(model, image)
    assert graph_pass(model).modified
    clean(model)
    assert operators(model) == expected
    assert model.graph.outputs[0].name == "y"
    assert_same(run(model, image), before, atol=2e-6)


def left_alone(graph_pass, model):
    before = operators(model)
    assert not graph_pass(model).modified
    assert operators(model) == before


class TestDropReshapes:
    def test_a_reshape_to_the_same_shape_goes(self):
        body = "r = Reshape(image, same) y = Relu(r)"
        model = weighted_graph(SMALL, "float[1,4,6,8] y", body, "int64[4] same = {1,4,6,8}")
        rewritten(DropReshapes(), model, ["Relu"])

    def test_one_that_changes_the_shape_or_gives_the_result_stays(self):
        body = "r = Reshape(image, other) y = Relu(r)"
        left_alone(DropReshapes(), weighted_graph(SMALL, "float[1,8,6,4] y", body, "int64[4] other = {1,8,6,4}"))
        body = "r = Relu(image) y = Reshape(r, same)"
        left_alone(DropReshapes(), weighted_graph(SMALL, "float[1,4,6,8] y", body, "int64[4] same = {1,4,6,8}"))


class TestPoolMeans:
    @pytest.mark.parametrize("axes", ["axes=[3]", "axes=[-1]"])
    def test_a_mean_of_columns_is_pooled(self, axes):
        model = weighted_graph(SMALL, "float[1,4,1,1] y", f"{MEAN.replace('axes=[3]', axes)}")
        rewritten(PoolMeans(), model, ["GlobalAveragePool"])

    @pytest.mark.parametrize(
        ("size", "kernels"),
        [
            ((6, 8), []),
            ((10, 12), []),
            ((15, 20), [(15, 4)]),
            ((120, 160), [(8, 8), (15, 4)]),
            ((13, 17), [(13, 1)]),
            ((1, 997), []),
            ((1, 999), [(1, 9)]),
        ],
    )
    def test_few_values_are_added_up_in_a_row(self, size, kernels):
        assert _kernels(size) == kernels

    def test_a_large_map_loses_no_digit_to_adding_up(self):
        model = weighted_graph("float[1,8,240,320] image", "float[1,8,1,1] y", MEAN)
        assert PoolMeans()(model).modified
        clean(model)
        assert operators(model) == ["AveragePool", "AveragePool", "GlobalAveragePool"]
        image = 1000 + np.random.default_rng(0).random((1, 8, 240, 320)).astype(np.float32)
        exact = image.astype(np.float64).mean((2, 3), keepdims=True)
        assert np.abs(run(model, image)["y"] - exact).max() / 1000 < 2e-7

    @pytest.mark.parametrize("double", [DOUBLE, NEAREST], ids=["bilinear", "nearest"])
    @pytest.mark.parametrize("total", ["Add(skip, d)", "Add(d, skip)"])
    def test_the_mean_of_a_skip_and_a_doubled_map_needs_neither_sum_nor_doubling(self, double, total):
        body = f"skip = Conv(w, v) {double} t = {total} c = ReduceMean<axes=[3]>(t) y = GlobalAveragePool(c)"
        inputs = f"{SMALL}, float[1,4,12,16] w, float[4,4,1,1] v"
        model = weighted_graph(inputs, "float[1,4,1,1] y", body, TWICE)
        expected = ["Conv", "AveragePool", "GlobalAveragePool", "GlobalAveragePool", "Add"]
        image = numbers(model)
        before = run(model, image)
        assert PoolMeans()(model).modified
        clean(model)
        assert sorted(operators(model)) == sorted(expected)
        assert_same(run(model, image), before, atol=2e-6)

    @pytest.mark.parametrize(
        "body",
        [
            "c = ReduceMean<axes=[2]>(image) y = GlobalAveragePool(c)",
            "c = ReduceMean<axes=[3]>(image) r = Relu(c) y = GlobalAveragePool(r)",
            "c = ReduceMax<axes=[3]>(image) y = GlobalAveragePool(c)",
        ],
        ids=["of rows", "read by another", "a maximum"],
    )
    def test_what_is_no_global_mean_stays(self, body):
        left_alone(PoolMeans(), weighted_graph(SMALL, "float[1,4,1,1] y", body))

    def test_the_mean_of_a_sum_of_two_maps_needs_the_sum(self):
        body = "r = Relu(image) t = Add(image, r) c = ReduceMean<axes=[3]>(t) y = GlobalAveragePool(c)"
        model = weighted_graph(SMALL, "float[1,4,1,1] y", body)
        rewritten(PoolMeans(), model, ["Relu", "Add", "GlobalAveragePool"])


class TestSpreadGates:
    GATE = "g = GlobalAveragePool(image) s = Sigmoid(g)"

    @pytest.mark.parametrize("product", ["Mul(image, s)", "Mul(s, image)"])
    def test_a_gate_is_spread_over_its_map(self, product):
        model = weighted_graph(SMALL, "float[1,4,6,8] y", f"{self.GATE} y = {product}")
        rewritten(SpreadGates(), model, ["GlobalAveragePool", "Sigmoid", "Resize", "Mul"])

    @pytest.mark.parametrize(
        ("size", "body"),
        [
            ("[1,4,6,8]", "r = Relu(image) y = Mul(image, r)"),
            ("[1,4,6,8]", "y = Mul(image, v)"),
            ("[1,4,1,1]", "g = GlobalAveragePool(image) s = Sigmoid(g) y = Mul(g, s)"),
            ("[1,4,6,8]", "g = GlobalAveragePool(image) y = Add(image, g)"),
        ],
        ids=["two maps", "a constant", "two gates", "a sum"],
    )
    def test_other_products_stay(self, size, body):
        left_alone(SpreadGates(), weighted_graph(f"{SMALL}, float[1,4,1,1] v", f"float{size} y", body))


class TestConvolveBeforeDoubling:
    INPUTS = (
        f"{SMALL}, float[1,4,12,16] w, float[4,4,1,1] v, float[4,4,1,1] below, float[4] b, float[5,4,1,1] k, float[5] o, "
        "float[5,4,3,3] wide"
    )
    BELOW = "skip = Conv(w, v) x = Conv(image, below, b) " + DOUBLE.replace("(image", "(x")

    @pytest.mark.parametrize("total", ["Add(skip, d)", "Add(d, skip)"])
    @pytest.mark.parametrize("bias", ["", ", b"])
    @pytest.mark.parametrize("double", [DOUBLE, NEAREST], ids=["bilinear", "nearest"])
    def test_the_sum_is_of_convolved_maps(self, double, bias, total):
        body = f"skip = Conv(w, v) x = Conv(image, below{bias}) {double.replace('(image', '(x')} t = {total} y = Conv(t, k, o)"
        model = weighted_graph(self.INPUTS, "float[1,5,12,16] y", body, TWICE)
        image = numbers(model)
        before = run(model, image)
        assert ConvolveBeforeDoubling()(model).modified
        clean(model)
        assert sorted(operators(model)) == ["Add", "Conv", "Conv", "Conv", "Resize"]
        assert [node.op_type for node in model.graph][-1] == "Add"
        assert model.graph.outputs[0].name == "y"
        assert_same(run(model, image), before, atol=2e-6)

    SQUARE = INPUTS.replace("float[5,4,1,1] k, float[5] o", "float[4,4,1,1] k, float[4] o")
    GATED = BELOW + " {mean} m = GlobalAveragePool(p) t = Add(skip, d) c = Conv(t, k, o) y = Mul(c, m)"

    def test_a_gate_convolves_the_mean(self):
        body = self.GATED.format(mean="p = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)")
        model = weighted_graph(self.SQUARE, "float[1,4,12,16] y", body, TWICE)
        image = numbers(model)
        before = run(model, image)
        assert ConvolveBeforeDoubling()(model).modified
        clean(model)
        means = [node for node in model.graph if node.op_type == "Conv" and node.inputs[0].producer() is not None]
        assert "GlobalAveragePool" in [node.inputs[0].producer().op_type for node in means]
        pooled = next(node for node in model.graph if node.op_type == "AveragePool")
        assert pooled.inputs[0].name == "image"
        assert_same(run(model, image), before, atol=2e-6)

    @pytest.mark.parametrize(
        "mean",
        [
            "p = AveragePool<kernel_shape=[2,2], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(x)",
            "p = MaxPool<kernel_shape=[2,2]>(x)",
        ],
        ids=["with a border", "a maximum"],
    )
    def test_a_gate_of_something_else_than_the_mean_is_right(self, mean):
        model = weighted_graph(self.SQUARE, "float[1,4,12,16] y", self.GATED.format(mean=mean), TWICE)
        image = numbers(model)
        before = run(model, image)
        ConvolveBeforeDoubling()(model)
        clean(model)
        assert_same(run(model, image), before, atol=2e-6)

    @pytest.mark.parametrize(
        ("size", "body"),
        [
            ("[1,5,10,14]", "t = Add(skip, d) y = Conv(t, wide)"),
            ("[1,5,12,16]", "t = Add(skip, d) c = Conv(t, k) p = Conv(t, k, o) y = Add(c, p)"),
            ("[1,5,12,16]", "t = Add(skip, d) c = Conv(t, k) p = Conv(d, k) y = Add(c, p)"),
            ("[1,5,12,16]", "t = Mul(skip, d) y = Conv(t, k)"),
        ],
        ids=["3x3", "the sum needed elsewhere", "the doubled map needed elsewhere", "a product"],
    )
    def test_what_cannot_change_places_stays(self, size, body):
        left_alone(
            ConvolveBeforeDoubling(), weighted_graph(self.INPUTS, f"float{size} y", f"{self.BELOW} {body}", TWICE)
        )

    def test_a_doubled_map_that_no_convolution_made_stays(self):
        body = f"skip = Conv(w, v) {DOUBLE} t = Add(skip, d) y = Conv(t, k)"
        left_alone(ConvolveBeforeDoubling(), weighted_graph(self.INPUTS, "float[1,5,12,16] y", body, TWICE))


def test_the_mean_of_a_doubled_map_is_that_of_the_map():
    """What ``PoolMeans`` relies on, to rounding, for sizes at which edges weigh much."""
    for height, width in ((2, 3), (3, 2), (7, 5)):
        body = f"{DOUBLE} y = GlobalAveragePool(d)"
        model = weighted_graph(f"float[1,4,{height},{width}] image", "float[1,4,1,1] y", body, TWICE)
        image = numbers(model)
        np.testing.assert_allclose(run(model, image)["y"].ravel(), image.mean((0, 2, 3)).ravel(), atol=1e-6)
