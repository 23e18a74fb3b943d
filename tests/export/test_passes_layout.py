"""The layout for integers: upsampling by copies, and the first convolution over groups of pixels."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from graphs import (
    DOUBLE,
    TWICE,
    assert_rounding_apart,
    assert_same,
    clean,
    kernels,
    numbers,
    operators,
    pixels,
    run,
    traced_graph,
    weighted_graph,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from export.graph import constant
from export.passes.copies import UpsampleByCopies
from export.passes.normalisation import FoldNormalisation
from export.passes.pixel_groups import GroupNarrow, GroupPixels
from export.passes.pixels import TakePixels
from export.passes.upsampling import RestoreUpsampling


class TestUpsampleByCopies:
    @pytest.mark.parametrize("shape", [(1, 2, 3, 5), (1, 1, 1, 1), (2, 3, 4, 1), (1, 7, 1, 6)])
    def test_every_pixel_is_where_it_was(self, shape):
        count, channels, height, width = shape
        model = weighted_graph(
            f"float{list(shape)} image",
            f"float[{count},{channels},{4 * height},{4 * width}] y",
            f'a = {DOUBLE}(image, "", twice) b = {DOUBLE}(a, "", twice) y = Neg(b)',
            TWICE,
        )
        image = numbers(model)
        before = run(model, image)
        assert UpsampleByCopies()(model).modified
        clean(model)
        assert set(operators(model)) == {"Transpose", "Gather", "Neg"}
        assert_same(run(model, image), before)
        np.testing.assert_array_equal(run(model, image)["y"], -image.repeat(4, axis=2).repeat(4, axis=3))

    @pytest.mark.parametrize("preset", ["seed", "classic", "edge", "edge-nano"])
    def test_a_preset_answers_the_same(self, preset):
        model = traced_graph(preset)
        RestoreUpsampling()(model)
        clean(model)
        image = pixels(model).astype(np.float32)
        before = run(model, image)
        assert UpsampleByCopies()(model).modified
        clean(model)
        # None of a preset is left: all of them are nearest ones.
        assert "Resize" not in operators(model)
        assert_same(run(model, image), before)

    @pytest.mark.parametrize(
        ("inputs", "body"),
        [
            pytest.param("1,2,3,4", "r = {nearest}(image, '', thrice) y = Neg(r)", id="3x"),
            pytest.param("1,2,3,4", "r = {nearest}(image, '', flat) y = Neg(r)", id="one axis"),
            pytest.param("1,2,3,4", "r = {bilinear}(image, '', twice) y = Neg(r)", id="bilinear"),
            pytest.param("1,2,3,4", "r = {rounded}(image, '', twice) y = Neg(r)", id="other pixels"),
            pytest.param("1,2,h,4", "r = {nearest}(image, '', twice) y = Neg(r)", id="unknown size"),
            pytest.param("1,2,3,4", "y = {nearest}(image, '', twice)", id="what the graph answers"),
        ],
    )
    def test_other_resizes_stay(self, inputs, body):
        text = body.replace("''", '""').format(
            nearest=DOUBLE,
            bilinear=DOUBLE.replace("nearest", "linear", 1),
            rounded='Resize<mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="ceil">',
        )
        model = weighted_graph(
            f"float[{inputs}] image",
            "float[1,2,a,b] y",
            text,
            f"{TWICE}, float[4] thrice = {{1, 1, 3, 3}}, float[4] flat = {{1, 1, 1, 2}}",
        )
        nodes = operators(model)
        assert not UpsampleByCopies()(model).modified
        assert operators(model) == nodes


def first_convolution(
    size: tuple[int, int] = (6, 16),
    channels: int = 3,
    kernel: int = 3,
    attributes: str = "pads=[1, 1, 1, 1]",
    tail: str = "r = Relu(c) y = Neg(r)",
    groups: int = 1,
    bias: str = ", b",
) -> ir.Model:
    """A graph that takes pixels and begins with a convolution to 4 channels."""
    height, width = size
    return weighted_graph(
        f"uint8[1,{height},{width},{channels}] image, float[4,{channels // groups},{kernel},{kernel}] w, float[4] b",
        "float[1,4,h,w2] y",
        "t = Transpose<perm=[0, 3, 1, 2]>(image) p = Cast<to=1>(t) "
        f"nb = Neg(b) c = Conv<{attributes}>(p, w{bias}) {tail}",
    )


def assert_grouped(model: ir.Model) -> None:
    image = pixels(model)
    before = run(model, image)
    assert GroupPixels()(model).modified
    clean(model)
    assert operators(model)[:4] == ["Reshape", "Transpose", "Cast", "Conv"]
    assert_rounding_apart(run(model, image), before)


class TestGroupPixels:
    # What TensorFlow's 'same' pads at each end, for an even size: (0, 1) for 3 taps at stride 2.
    @pytest.mark.parametrize(
        ("kernel", "stride", "pads"),
        [
            (1, 1, (0, 0)),
            (3, 1, (1, 1)),
            (5, 1, (2, 2)),
            (7, 1, (3, 3)),
            (9, 1, (4, 4)),
            (1, 2, (0, 0)),
            (3, 2, (0, 1)),
            (3, 2, (1, 0)),
            (5, 2, (1, 2)),
            (5, 2, (2, 1)),
            (5, 4, (0, 1)),
        ],
    )
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("tail", ["r = Relu(c) y = Neg(r)", "y = Neg(c)"])
    def test_the_numbers_are_the_same(self, kernel, stride, pads, channels, tail):
        before, after = pads
        model = first_convolution(
            channels=channels,
            kernel=kernel,
            attributes=f"strides=[{min(stride, 2)}, {stride}], pads=[{before}, {before}, {after}, {after}]",
            tail=tail,
        )
        assert_grouped(model)
        relus = operators(model).count("Relu")
        assert relus == ("Relu" in tail)

    @pytest.mark.parametrize(
        ("preset", "channels", "logit_channels"), [("seed", 1, 1), ("seed", 3, 3), ("classic", 3, 3), ("edge", 3, 3)]
    )
    def test_of_a_preset_too(self, preset, channels, logit_channels):
        model = traced_graph(preset, channels, logit_channels)
        for graph_pass in (RestoreUpsampling(), FoldNormalisation(), TakePixels()):
            graph_pass(model)
            clean(model)
        image = pixels(model)
        before = run(model, image)
        assert GroupPixels()(model).modified
        clean(model)
        assert next(iter(kernels(model))) == ((3, 3) if preset != "edge" else (3, 2))
        assert_rounding_apart(run(model, image), before)

    @settings(max_examples=40, deadline=None)
    @given(
        size=st.tuples(st.integers(1, 6), st.integers(1, 4)),
        channels=st.integers(1, 3),
        kernel=st.integers(1, 6),
        left=st.integers(0, 5),
        top=st.integers(0, 2),
        stride=st.sampled_from([1, 2, 4]),
        bias=st.booleans(),
    )
    def test_of_any_kernel_and_padding(self, size, channels, kernel, left, top, stride, bias):
        height, groups = size
        left = min(left, kernel - 1)
        right = max(0, kernel - stride - left)
        if 4 * groups + left + right < kernel:
            return
        model = first_convolution(
            (height + kernel, 4 * groups),
            channels,
            kernel,
            f"strides=[1, {stride}], pads=[{top}, {left}, {top}, {right}]",
            bias=", b" if bias else "",
        )
        image = pixels(model)
        before = run(model, image)
        modified = GroupPixels()(model).modified
        clean(model)
        assert modified == (before["y"].shape[3] * stride == 4 * groups)
        np.testing.assert_allclose(run(model, image)["y"], before["y"], rtol=0, atol=3e-3)

    def test_the_kernel_is_laid_out_by_group(self):
        model = weighted_graph(
            "uint8[1,1,8,1] image",
            "float[1,1,1,8] y",
            "t = Transpose<perm=[0, 3, 1, 2]>(image) p = Cast<to=1>(t) c = Conv<pads=[0, 1, 0, 1]>(p, w) y = Neg(c)",
            "float[1,1,1,3] w = {1, 10, 100}",
        )
        GroupPixels()(model)
        clean(model)
        found = constant(next(node for node in model.graph if node.op_type == "Conv").inputs[1])
        # For each of the four pixels that are made: pixels of the group on the left, of its own, of that on the right.
        assert found[:, :, 0, :].transpose(0, 2, 1).tolist() == [
            [[0, 0, 0, 1], [10, 100, 0, 0], [0, 0, 0, 0]],
            [[0, 0, 0, 0], [1, 10, 100, 0], [0, 0, 0, 0]],
            [[0, 0, 0, 0], [0, 1, 10, 100], [0, 0, 0, 0]],
            [[0, 0, 0, 0], [0, 0, 1, 10], [100, 0, 0, 0]],
        ]

    def test_only_the_first_convolution_is_rewritten(self):
        model = weighted_graph(
            "uint8[1,4,8,1] image, float[4,1,3,3] w, float[4,4,3,3] v",
            "float[1,4,4,8] y",
            "t = Transpose<perm=[0, 3, 1, 2]>(image) p = Cast<to=1>(t) "
            "c = Conv<pads=[1, 1, 1, 1]>(p, w) d = Conv<pads=[1, 1, 1, 1]>(c, v) y = Neg(d)",
        )
        second = model.graph[3]
        assert_grouped(model)
        assert second in list(model.graph)
        assert constant(second.inputs[1]).shape == (4, 4, 3, 3)

    @pytest.mark.parametrize(
        "given_graph",
        [
            pytest.param({"size": (6, 14)}, id="a width that is no multiple of four"),
            pytest.param({"attributes": "pads=[0, 0, 0, 0]"}, id="no padding"),
            pytest.param({"attributes": "pads=[1, 1, 1, 1], strides=[3, 3]", "size": (6, 12)}, id="stride 3"),
            pytest.param({"attributes": "pads=[2, 2, 2, 2], dilations=[2, 2]"}, id="dilation"),
            pytest.param({"attributes": "pads=[1, 1, 1, 1], group=2", "channels": 2, "groups": 2}, id="groups"),
            pytest.param({"attributes": 'auto_pad="SAME_UPPER"'}, id="padding by name"),
            pytest.param({"bias": ", nb"}, id="a bias that is computed"),
            pytest.param({"tail": "d = Relu(c) e = Neg(c) y = Add(d, e)", "size": (6, 14)}, id="two consumers"),
        ],
    )
    def test_any_other_first_convolution_stays(self, given_graph):
        model = first_convolution(**given_graph)
        image = pixels(model)
        before, nodes = run(model, image), operators(model)
        assert not GroupPixels()(model).modified
        assert operators(model) == nodes
        assert_same(run(model, image), before)

    @pytest.mark.parametrize(
        ("image", "body"),
        [
            pytest.param("float[1,3,4,8]", "y = Conv<pads=[1, 1, 1, 1]>(image, w)", id="numbers instead of pixels"),
            pytest.param("float[1,3,4,8]", "y = Relu(image)", id="no convolution"),
            pytest.param(
                "uint8[1,3,4,8]",
                "p = Cast<to=1>(image) v = Neg(w) c = Conv<pads=[1, 1, 1, 1]>(p, v) y = Neg(c)",
                id="weights that are computed",
            ),
            pytest.param(
                "uint8[1,4,8,3]",
                "t = Transpose<perm=[0, 3, 1, 2]>(image) p = Cast<to=1>(t) y = Conv<pads=[1, 1, 1, 1]>(p, w)",
                id="what the graph answers",
            ),
            pytest.param(
                "uint8[1,h,8,3]",
                "t = Transpose<perm=[0, 3, 1, 2]>(image) p = Cast<to=1>(t) c = Conv<pads=[1, 1, 1, 1]>(p, w) y = Neg(c)",
                id="unknown size",
            ),
        ],
    )
    def test_a_graph_that_does_not_begin_so_stays(self, image, body):
        model = weighted_graph(f"{image} image, float[4,3,3,3] w", "float[1,a,b,c2] y", body)
        nodes = operators(model)
        assert not GroupPixels()(model).modified
        assert operators(model) == nodes

    def test_the_relu_goes_along_only_where_nobody_else_needs_what_is_before_it(self):
        model = first_convolution(tail="r = Relu(c) n = Neg(c) y = Add(r, n)")
        assert_grouped(model)
        assert operators(model)[-3:].count("Relu") == 1


class TestGroupNarrow:
    @pytest.mark.parametrize("bias", ["", ", b"])
    @pytest.mark.parametrize(
        ("channels", "filters", "size"), [(1, 1, 4), (3, 5, 4), (16, 7, 4), (16, 8, 2), (3, 15, 2), (40, 8, 2)]
    )
    def test_the_numbers_are_the_same(self, channels, filters, size, bias):
        model = weighted_graph(
            f"float[2,{channels},3,8] image, float[{filters},{channels},1,1] w"
            + (f", float[{filters}] b" if bias else ""),
            f"float[2,{filters},3,8] y",
            f"c = Conv(image, w{bias}) y = Neg(c)",
        )
        image = numbers(model)
        before = run(model, image)
        assert GroupNarrow()(model).modified
        clean(model)
        conv = next(node for node in model.graph if node.op_type == "Conv")
        assert constant(conv.inputs[1]).shape == (size * filters, size * channels, 1, 1)
        assert_rounding_apart(run(model, image), before)

    @settings(max_examples=40, deadline=None)
    @given(
        groups=st.integers(1, 4),
        channels=st.integers(1, 9),
        filters=st.integers(1, 15),
        kernel=st.integers(1, 6),
        left=st.integers(0, 5),
        stride=st.sampled_from([1, 2, 3]),
        relu=st.booleans(),
    )
    def test_of_any_kernel_and_padding(self, groups, channels, filters, kernel, left, stride, relu):
        size = stride * (2 if filters >= 8 else 4)
        left = min(left, kernel - 1)
        right = max(0, kernel - stride - left)
        width = size * groups
        if width + left + right < kernel:
            return
        model = weighted_graph(
            f"float[1,{channels},{kernel + 2},{width}] image, float[{filters},{channels},{kernel},{kernel}] w",
            f"float[1,{filters},h,w2] y",
            f"c = Conv<strides=[1, {stride}], pads=[1, {left}, 0, {right}]>(image, w) "
            + ("r = Relu(c) y = Neg(r)" if relu else "y = Neg(c)"),
        )
        image = numbers(model)
        before = run(model, image)
        modified = GroupNarrow()(model).modified
        clean(model)
        assert modified == (before["y"].shape[3] * stride == width)
        assert operators(model).count("Relu") == relu
        assert_rounding_apart(run(model, image), before)

    def test_a_chain_of_narrow_convolutions_gives_the_same(self):
        model = weighted_graph(
            "float[1,3,6,8] image, float[8,3,3,3] w, float[8,8,3,3] v, float[1,8,1,1] u",
            "float[1,1,6,8] y",
            "a = Conv<pads=[1, 1, 1, 1]>(image, w) b = Relu(a) c = Conv<pads=[1, 1, 1, 1]>(b, v) d = Relu(c) "
            "e = Conv(d, u) y = Sigmoid(e)",
        )
        image = numbers(model)
        before = run(model, image)
        assert GroupNarrow()(model).modified
        clean(model)
        assert list(kernels(model)) == [(3, 3), (3, 3), (1, 1)]
        assert_rounding_apart(run(model, image), before)

    @pytest.mark.parametrize(
        ("inputs", "body"),
        [
            pytest.param("float[1,3,3,6] image, float[5,3,1,1] w", "c = Conv(image, w) y = Neg(c)", id="odd width"),
            pytest.param(
                "float[1,3,3,8] image, float[5,3,3,3] w",
                "c = Conv<pads=[1, 0, 1, 0]>(image, w) y = Neg(c)",
                id="no padding",
            ),
            pytest.param(
                "float[1,5,3,8] image, float[5,1,1,1] w", "c = Conv<group=5>(image, w) y = Neg(c)", id="by depth"
            ),
            pytest.param("float[1,3,3,8] image, float[5,3,1,1] w", "c = Conv(image, w) y = Relu(c)", id="ReLU answers"),
            pytest.param("float[1,3,3,8] image, float[5,3,1,1] w", "y = Conv(image, w)", id="graph output"),
            pytest.param(
                "float[1,3,h,8] image, float[5,3,1,1] w", "c = Conv(image, w) y = Neg(c)", id="unknown height"
            ),
        ],
    )
    def test_is_left_alone(self, inputs, body):
        model = weighted_graph(inputs, "float[1,5,a,b] y", body)
        before = operators(model)
        assert not GroupNarrow()(model).modified
        assert operators(model) == before

    def test_three_dimensions_are_left_alone(self):
        model = weighted_graph(
            "float[1,3,2,4,8] image, float[5,3,1,1,1] w", "float[1,5,2,4,8] y", "c = Conv(image, w) y = Neg(c)"
        )
        assert not GroupNarrow()(model).modified

    @pytest.mark.parametrize(
        "tail",
        ["r = Clip(c, low, high) y = Neg(r)", "r = Relu(c) s = Neg(r) t = Neg(c) y = Add(s, t)"],
        ids=["clipped", "two consumers"],
    )
    def test_what_follows_stays(self, tail):
        model = weighted_graph(
            "float[1,3,6,8] image, float[5,3,3,3] w",
            "float[1,5,3,8] y",
            f"c = Conv<pads=[1, 1, 0, 1], strides=[2, 1]>(image, w) {tail}",
            "float low = {0}, float high = {0.25}",
        )
        image = numbers(model)
        before = run(model, image)
        assert "Clip" not in tail or before["y"].min() == -0.25, "some numbers are above the limit"
        assert GroupNarrow()(model).modified
        clean(model)
        assert_rounding_apart(run(model, image), before)

    def test_many_filters_are_left_alone(self):
        model = weighted_graph(
            "float[1,3,3,8] image, float[16,3,1,1] w", "float[1,16,3,8] y", "c = Conv(image, w) y = Neg(c)"
        )
        assert not GroupNarrow()(model).modified

    def test_filters_and_pixels_do_not_mix(self):
        model = weighted_graph(
            "float[1,2,1,4] image, float[3,2,1,1] w", "float[1,3,1,4] y", "c = Conv(image, w) y = Neg(c)"
        )
        image = np.zeros((1, 2, 1, 4), np.float32)
        image[0, :, 0, 2] = (1, 10)
        before = run(model, image)["y"]
        GroupNarrow()(model)
        clean(model)
        found = run(model, image)["y"]
        np.testing.assert_array_equal(found[..., [0, 1, 3]], 0)
        np.testing.assert_allclose(found, before, rtol=1e-6)
