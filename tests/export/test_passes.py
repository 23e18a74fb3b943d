"""Each graph pass alone: on what tf2onnx makes of our presets, and on small graphs that it must leave alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphs import (
    assert_rounding_apart,
    assert_same,
    clean,
    graph,
    operators,
    pixels,
    run,
    traced_graph,
    weighted_graph,
)
from runs import traced

from export.passes.class_map import AddClassMap
from export.passes.names import NameByPlace
from export.passes.normalisation import FoldNormalisation
from export.passes.pixel_rows import SortPixelRows
from export.passes.pixels import TakePixels
from export.passes.upsampling import RestoreUpsampling

TRACES = [("seed", 1, 1), ("seed", 3, 3), ("classic", 3, 3), ("edge", 3, 3), ("edge", 3, 1)]
LEVELS = {"seed": 1, "classic": 4, "edge": 4}


class TestRestoreUpsampling:
    @pytest.mark.parametrize(("preset", "channels", "logit_channels"), TRACES)
    def test_every_upsampling_of_a_preset_becomes_one_resize(self, preset, channels, logit_channels):
        model = traced_graph(preset, channels, logit_channels)
        image = pixels(model).astype(np.float32)
        before, bilinear = run(model, image), operators(model).count("Resize")
        assert operators(model).count("Tile") > 0
        assert RestoreUpsampling()(model).modified
        assert operators(model).count("Tile") == operators(model).count("Unsqueeze") == 0
        assert operators(model).count("Resize") == bilinear + LEVELS[preset]
        assert_same(run(model, image), before)

    @pytest.mark.parametrize(
        ("header", "body"),
        [
            pytest.param(
                "(float[1,2,3,4] image) => (float[1,2,6,8] y) "
                "<int64[6] five = {1,2,3,1,4,1}, int64[6] twice = {1,1,1,2,1,2}, int64[4] four = {1,2,6,8}>",
                "a = Reshape(image, five) b = Tile(a, twice) y = Reshape(b, four)",
                id="2x, NCHW, by one tile",
            ),
            pytest.param(
                "(float[1,3,4,2] image) => (float[1,9,12,2] y) "
                "<int64[2] axes = {2,4}, int64[6] thrice = {1,1,3,1,3,1}, int64[4] four = {0,9,12,2}>",
                "a = Unsqueeze(image, axes) b = Tile(a, thrice) y = Reshape(b, four)",
                id="3x, NHWC, with a zero in the shape",
            ),
            pytest.param(
                "(float[1,3,4,2] image) => (float[1,2,6,8] y) "
                "<int64[2] axes = {3,5}, int64[6] twice = {1,1,1,2,1,2}, int64[4] four = {1,2,6,8}>",
                "t = Transpose<perm=[0,3,1,2]>(image) a = Unsqueeze(t, axes) b = Tile(a, twice) y = Reshape(b, four)",
                id="2x, NHWC to NCHW",
            ),
        ],
    )
    def test_an_upsampling_is_found_however_it_is_written(self, header, body):
        model = graph(header, body)
        image = pixels(model).astype(np.float32)
        before = run(model, image)
        assert RestoreUpsampling()(model).modified
        assert set(operators(model)) <= {"Resize", "Transpose"}
        assert_same(run(model, image), before)

    @pytest.mark.parametrize(
        ("header", "body"),
        [
            pytest.param(
                "(float[1,2,3,4] image) => (float[1,2,6,8] y) <int64[4] repeats = {1,1,2,2}>",
                "y = Tile(image, repeats)",
                id="the picture repeated, not its pixels",
            ),
            pytest.param(
                "(float[1,2,3,4] image) => (float[1,2,6,4] y) "
                "<int64[5] five = {1,2,3,1,4}, int64[5] twice = {1,1,1,2,1}, int64[4] four = {1,2,6,4}>",
                "a = Reshape(image, five) b = Tile(a, twice) y = Reshape(b, four)",
                id="rows only",
            ),
            pytest.param(
                "(float[1,2,3,4] image) => (float[1,2,3,1,4,1] a, float[1,2,6,8] y) "
                "<int64[6] five = {1,2,3,1,4,1}, int64[6] twice = {1,1,1,2,1,2}, int64[4] four = {1,2,6,8}>",
                "a = Reshape(image, five) b = Tile(a, twice) y = Reshape(b, four)",
                id="somebody else needs the middle",
            ),
            pytest.param(
                "(float[1,2,3,4] image) => (float[1,2,y3,y4] y) <int64[2] ones = {1,1}, int64[2] none = {0,0}, "
                "int64[1] from = {2}, int64[1] to = {4}>",
                "s = Shape(image) hw = Slice(s, from, to) more = Sub(hw, ones) r = Concat<axis=0>(ones, more) "
                "y = Tile(image, r)",
                id="repeats that are computed",
            ),
            pytest.param(
                "(float[1,2,3,4] image) => (float[1,2,3,4] y)",
                "t = Transpose(image) y = Transpose(t)",
                id="no tile at all",
            ),
        ],
    )
    def test_any_other_chain_of_moves_stays(self, header, body):
        model = graph(header, body)
        image = pixels(model).astype(np.float32)
        before, nodes = run(model, image), operators(model)
        assert not RestoreUpsampling()(model).modified
        assert operators(model) == nodes
        assert_same(run(model, image), before)

    def test_a_chain_on_an_unknown_size_stays(self):
        model = graph(
            "(float[1,c,3,4] image) => (float[1,c,6,8] y) "
            "<int64[2] axes = {3,5}, int64[6] twice = {1,1,1,2,1,2}, int64[4] four = {1,-1,6,8}>",
            "a = Unsqueeze(image, axes) b = Tile(a, twice) y = Reshape(b, four)",
        )
        assert not RestoreUpsampling()(model).modified
        assert operators(model) == ["Unsqueeze", "Tile", "Reshape"]


class TestFoldNormalisation:
    @pytest.mark.parametrize(("preset", "channels", "logit_channels"), TRACES)
    def test_the_scaling_of_a_preset_goes_into_its_first_convolution(self, preset, channels, logit_channels):
        model = traced_graph(preset, channels, logit_channels)
        image = pixels(model).astype(np.float32)
        before = run(model, image)
        assert {"Mul", "Add"} <= set(operators(model))
        additions = operators(model).count("Add")
        assert FoldNormalisation()(model).modified
        assert "Mul" not in operators(model)
        assert operators(model).count("Add") == additions - 1, "the network's own are left"
        assert_same(run(model, image), before, atol=2e-5)

    def test_factors_multiply(self):
        model = graph(
            "(float[1,2,2,2] image) => (float[1,1,2,2] y) "
            "<float[1] a = {0.5}, float b = {4.0}, float zero = {0.0}, float[1,2,1,1] w = {1.0, 3.0}>",
            "m = Mul(image, a) n = Add(m, zero) o = Mul(n, b) y = Conv(o, w)",
        )
        image = pixels(model).astype(np.float32)
        before = run(model, image)
        assert FoldNormalisation()(model).modified
        assert operators(model) == ["Conv"]
        assert model.graph[0].inputs[1].const_value.numpy().reshape(-1).tolist() == [2.0, 6.0]
        assert_same(run(model, image), before)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param("m = Mul(image, s) n = Add(m, offset) y = Conv<pads=[1,1,1,1]>(n, w)", id="an offset"),
            pytest.param("m = Sub(image, s) y = Conv(m, w)", id="a subtraction"),
            pytest.param("m = Mul(image, each) y = Conv(m, w)", id="a factor a channel"),
            pytest.param("m = Mul(image, image) y = Conv(m, w)", id="no constant"),
            pytest.param("m = Mul(image, s) r = Relu(m) y = Conv(r, w)", id="something in between"),
            pytest.param("m = Mul(image, s) c = Conv(m, w) y = Add(c, m)", id="a second user"),
            pytest.param("v = Neg(w) m = Mul(image, s) y = Conv(m, v)", id="weights that are computed"),
            pytest.param("y = Conv(image, w)", id="nothing to fold"),
        ],
    )
    def test_anything_else_stays(self, body):
        model = graph(
            "(float[1,2,2,2] image) => (float[1,n,h,w2] y) <float[1] s = {0.5}, float[1] offset = {-1.0}, "
            "float[1,2,1,1] each = {0.5, 2.0}, float[1,2,1,1] w = {1.0, 3.0}>",
            body,
        )
        image = pixels(model).astype(np.float32)
        before, nodes = run(model, image), operators(model)
        assert not FoldNormalisation()(model).modified
        assert operators(model) == nodes
        assert_same(run(model, image), before)

    def test_weights_that_another_convolution_shares_keep_their_values_there(self):
        model = graph(
            "(float[1,2,2,2] image) => (float[1,2,2,2] y) <float[1] s = {0.5}, float[2,2,1,1] w = {1.0, 2.0, 3.0, 4.0}>",
            "m = Mul(image, s) c = Conv(m, w) y = Conv(c, w)",
        )
        image = pixels(model).astype(np.float32)
        before = run(model, image)
        assert FoldNormalisation()(model).modified
        assert_same(run(model, image), before)


class TestTakePixels:
    @pytest.mark.parametrize(("preset", "channels", "logit_channels"), TRACES)
    def test_bgr_bytes_give_what_rgb_floats_gave(self, preset, channels, logit_channels):
        model = traced_graph(preset, channels, logit_channels)
        FoldNormalisation()(model)
        image_rgb = pixels(model)
        before = run(model, image_rgb.astype(np.float32))
        TakePixels()(model)
        assert model.graph.inputs[0].dtype == ir.DataType.UINT8
        assert_same(run(model, np.ascontiguousarray(image_rgb[..., ::-1])), before, atol=2e-5)

    def test_red_and_blue_change_places_and_green_stays(self):
        model = graph(
            "(float[1,1,1,3] image) => (float[1,1,1,1] y) <float[1,3,1,1] w = {1.0, 10.0, 100.0}>",
            "n = Transpose<perm=[0,3,1,2]>(image) y = Conv(n, w)",
        )
        TakePixels()(model)
        assert run(model, np.array([[[[5, 2, 7]]]], np.uint8))["y"].item() == 7 * 1 + 2 * 10 + 5 * 100

    def test_bytes_are_moved_before_they_become_floats(self):
        model = traced_graph("edge")
        FoldNormalisation()(model)
        TakePixels()(model)
        assert operators(model)[:3] == ["Transpose", "Cast", "Conv"]

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param("m = Mul(image, s) n = Transpose<perm=[0,3,1,2]>(m) y = Conv(n, w)", id="scales that differ"),
            pytest.param("n = Transpose<perm=[0,3,1,2]>(image) y = Relu(n)", id="no convolution"),
            pytest.param("n = Transpose<perm=[0,3,1,2]>(image) c = Conv(n, w) y = Add(c, n)", id="two users"),
            pytest.param("n = Transpose<perm=[0,3,1,2]>(image) v = Neg(w) y = Conv(n, v)", id="computed weights"),
            pytest.param("n = Transpose<perm=[0,3,1,2]>(image) y = Conv<group=3>(n, d)", id="a filter per channel"),
            pytest.param(
                "r = Gather<axis=3>(image, order) n = Transpose<perm=[0,3,1,2]>(r) y = Conv(n, w)", id="blue first"
            ),
        ],
    )
    def test_a_graph_may_begin_in_any_way(self, body):
        constants = "float[3] s = {0.5, 0.25, 2}, float[1,3,1,1] w = {1, 2, 3}, float[3,1,1,1] d = {1, 2, 3}"
        header = f"(float[1,2,2,3] image) => (float[a,b,c,d] y) <{constants}, int64[3] order = {{2, 1, 0}}>"
        model = graph(header, body)
        image_rgb = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
        before = run(model, image_rgb.astype(np.float32))
        TakePixels()(model)
        assert_same(run(model, np.ascontiguousarray(image_rgb[..., ::-1])), before, atol=0)
        if "Gather" in body:
            assert operators(model) == ["Transpose", "Cast", "Conv"]


class TestSortPixelRows:
    SORT = "t = Transpose<perm=[0,2,3,1]>(c) g = Reshape(t, groups) {sort} logits = Reshape(s, whole)"

    def head(self, stride: int, sort: str = "s = Transpose<perm=[0,1,3,2,4]>(g)", conv: str = "c = Conv(image, w, b)"):
        channels = 3 * stride * stride
        return weighted_graph(
            f"float[1,5,2,4] image, float[{channels},5,1,1] w, float[{channels}] b",
            f"float[1,{2 * stride},{4 * stride},3] logits",
            f"{conv} {self.SORT.format(sort=sort)}",
            f"int64[5] groups = {{1, 2, 4, {stride}, {3 * stride}}}, int64[4] whole = {{1, {2 * stride}, {4 * stride}, 3}}",
        )

    @pytest.mark.parametrize(
        ("stride", "moves"),
        [
            pytest.param(2, ["Conv", "Transpose", "Reshape", "Transpose", "Reshape"], id="two rows by a transpose"),
            # Each row is put into NHWC, which integer convolutions write anyway.
            pytest.param(4, [*["Conv", "Transpose", "Reshape"] * 4, "Concat", "Reshape"], id="four by a concatenation"),
        ],
    )
    def test_the_pixels_are_in_the_same_order(self, stride, moves):
        model = self.head(stride)
        image = np.random.default_rng(0).normal(size=(1, 5, 2, 4)).astype(np.float32)
        before = run(model, image)
        assert SortPixelRows()(model).modified
        clean(model)
        assert operators(model) == moves
        # onnxruntime takes longer for five axes.
        assert all(len(node.inputs[0].shape or ()) <= 4 for node in model.graph if node.op_type == "Transpose")
        assert len(np.unique(before["logits"])) == before["logits"].size
        assert_rounding_apart(run(model, image), before)

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"sort": "s = Transpose<perm=[0,2,1,3,4]>(g)"}, id="another order"),
            pytest.param({"sort": "n = Neg(g) s = Transpose<perm=[0,1,3,2,4]>(n)"}, id="something between"),
            pytest.param({"conv": "d = Conv(image, w, b) c = Neg(d)"}, id="no convolution before"),
        ],
    )
    def test_what_is_no_sub_pixel_head_stays(self, other):
        assert not SortPixelRows()(self.head(2, **other)).modified


class TestAddClassMap:
    @pytest.mark.parametrize(("preset", "channels", "logit_channels"), TRACES)
    def test_the_mask_is_the_argmax_or_the_threshold_of_the_probabilities(self, preset, channels, logit_channels):
        model = traced_graph(preset, channels, logit_channels)
        image = pixels(model).astype(np.float32)
        before = run(model, image)
        AddClassMap()(model)
        after = run(model, image)
        assert list(after) == ["mask", "logits"]
        assert after["mask"].dtype == np.uint8
        np.testing.assert_array_equal(after["logits"], before["logits"])
        binary, probabilities = logit_channels == 1, before["probabilities"]
        expected = probabilities[..., 0] > 0.5 if binary else probabilities.argmax(-1)
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(after["mask"], expected)

    @pytest.mark.parametrize("perm", [None, (0, 2, 3, 1), (0, 3, 2, 1), (0, 1, 2, 3)])
    @pytest.mark.parametrize("channels", [1, 4])
    def test_it_is_right_whatever_makes_the_logits(self, perm, channels):
        shape = [1, 2, 3, channels]
        if perm is not None:
            given = [0] * 4
            for place, axis in enumerate(perm):
                given[axis] = shape[place]
            body = f"logits = Transpose<perm={list(perm)}>(image)"
        else:
            given, body = shape, "logits = Identity(image)"
        model = graph(f"(float{given} image) => (float{shape} logits)", body)
        image = np.random.default_rng(1).normal(size=given).astype(np.float32)
        AddClassMap()(model)
        found = run(model, image)
        logits = found["logits"]
        np.testing.assert_array_equal(found["mask"], logits[..., 0] > 0 if channels == 1 else logits.argmax(-1))

    def test_of_two_equal_logits_the_first_wins_and_zero_is_background(self):
        several = graph("(float[1,1,1,3] image) => (float[1,1,1,3] logits)", "logits = Identity(image)")
        single = graph("(float[1,1,2,1] image) => (float[1,1,2,1] logits)", "logits = Identity(image)")
        AddClassMap()(several)
        AddClassMap()(single)
        assert run(several, np.array([[[[1, 2, 2]]]], np.float32))["mask"].tolist() == [[[1]]]
        assert run(single, np.array([[[[0.0], [1e-30]]]], np.float32))["mask"].tolist() == [[[0, 1]]]


class TestNameByPlace:
    def test_names_tell_the_place_and_constants_come_in_the_order_of_use(self):
        model = graph(
            "(float[1,2] image) => (float[1,2] y) <float[2] late = {1.0, 2.0}, float[2] early = {3.0, 4.0}>",
            "odd = Mul(image, early) y = Add(odd, late)",
        )
        image = np.array([[5, 6]], np.float32)
        before = run(model, image)
        NameByPlace()(model)
        proto = ir.to_proto(model)
        assert [(n.name, *n.input, *n.output) for n in proto.graph.node] == [
            ("mul_0", "image", "constant_0", "mul_0_0"),
            ("add_1", "mul_0_0", "constant_1", "y"),
        ]
        assert [w.name for w in proto.graph.initializer] == ["constant_0", "constant_1"]
        assert_same(run(model, image), before)

    @pytest.mark.parametrize("preset", ["seed", "edge"])
    def test_the_graph_that_was_read_keeps_its_own_names(self, preset):
        raw = traced(preset, 3, 3)[1]
        before = raw.SerializeToString()
        NameByPlace()(ir.from_proto(raw))
        assert raw.SerializeToString() == before
