"""The decoder in phases: the same numbers for fewer multiplications, and nothing else touched."""

from __future__ import annotations

from functools import cache

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
from runs import traced

from export.convert import gflops, with_logits
from export.passes.joined_phases import JoinPhases
from export.passes.names import NameByLayer
from export.passes.phases import SplitUpsampling
from export.passes.upsampling import RestoreUpsampling

SAME = "Conv<pads=[1, 1, 1, 1]>"
LARGE = "wide = Concat<axis=3>(image, image) large = Concat<axis=2>(wide, wide)"
"""Another map that is twice as large as the image: for the skips."""
THROUGH = pytest.mark.parametrize("in_phases", [True, False])


@cache
def keras_answer(preset: str, channels: int, logit_channels: int) -> list[np.ndarray]:
    """Logits and probabilities of the picture that ``pixels`` makes."""
    image = pixels(traced_graph(preset, channels, logit_channels)).astype(np.float32)
    return [np.asarray(y) for y in with_logits(traced(preset, channels, logit_channels)[0])(image)]


def split(model: ir.Model, minimum_saving: int = 1, *, in_phases: bool = True) -> bool:
    modified = (SplitUpsampling if in_phases else JoinPhases)(minimum_saving)(model).modified
    clean(model)
    return modified


def assert_split(model: ir.Model, *, in_phases: bool = True) -> None:
    """Split a graph, of which no Resize may be left, and compare the answers."""
    image = numbers(model)
    before = run(model, image)
    assert split(model, in_phases=in_phases)
    assert "Resize" not in operators(model)
    assert_rounding_apart(run(model, image), before)


def decoder(tail: str = "y = Relu(c)", outputs: str = "float[1,5,6,10] y", more_inputs: str = "") -> ir.Model:
    """A map of 2 channels and 3×5 pixels, upsampled, concatenated with a skip of 3 channels and convolved to 5."""
    return weighted_graph(
        "float[1,2,3,5] image, float[3,2,1,1] v, float[5,5,3,3] w, float[5] b" + more_inputs,
        outputs,
        f'{LARGE} s = Conv(large, v) u = {DOUBLE}(image, "", twice) m = Concat<axis=1>(s, u) c = {SAME}(m, w, b) {tail}',
        TWICE,
    )


class TestTheSameNumbers:
    @THROUGH
    @pytest.mark.parametrize(
        ("preset", "channels", "logit_channels"),
        [("seed", 3, 3), ("seed", 1, 1), ("classic", 3, 3), ("edge", 3, 3), ("edge", 3, 1)],
    )
    def test_of_a_preset_and_of_keras(self, preset, channels, logit_channels, in_phases):
        model = traced_graph(preset, channels, logit_channels)
        image = pixels(model).astype(np.float32)
        RestoreUpsampling()(model)
        clean(model)
        before = run(model, image)
        work = gflops(ir.to_proto(model))
        assert split(model, in_phases=in_phases)
        assert "Resize" not in operators(model)
        found = run(model, image)
        assert_rounding_apart(found, before)
        logits, probabilities = keras_answer(preset, channels, logit_channels)
        assert_rounding_apart(found, {"logits": logits, "probabilities": probabilities})
        # Joined phases compute a border that is cropped again, which on maps this small is much.
        assert gflops(ir.to_proto(model)) < (0.92 if in_phases else 0.96) * work

    @THROUGH
    @pytest.mark.parametrize(
        ("inputs", "body"),
        [
            pytest.param("", "c = {same}(u, w, b)", id="no concatenation"),
            pytest.param("", "c = {same}(u, w)", id="no bias"),
            pytest.param(
                "float[3,2,1,1] v", "s = Conv(large, v) m = Concat<axis=1>(s, u) c = {same}(m, w, b)", id="skip first"
            ),
            pytest.param(
                "float[3,2,1,1] v", "s = Conv(large, v) m = Concat<axis=1>(u, s) c = {same}(m, w, b)", id="skip second"
            ),
            pytest.param(
                "float[3,2,1,1] v, float[1,2,1,1] x",
                "s = Conv(large, v) t = Conv(large, x) m = Concat<axis=1>(s, u, t) c = {same}(m, w, b)",
                id="between two skips",
            ),
            pytest.param(
                "float[3,2,1,1] v",
                'p = Conv(image, v) o = {double}(p, "", twice) m = Concat<axis=1>(o, u) c = {same}(m, w)',
                id="two upsampled maps",
            ),
        ],
    )
    def test_however_the_convolution_is_fed(self, inputs, body, in_phases):
        channels = {1: 2, 2: 5, 3: 6}[body.count("Conv") + 1]
        model = weighted_graph(
            f"float[1,2,3,5] image, float[7,{channels},3,3] w, float[7] b" + (f", {inputs}" if inputs else ""),
            "float[1,7,6,10] y",
            f'{LARGE} u = {DOUBLE}(image, "", twice) {body.format(same=SAME, double=DOUBLE)} y = Neg(c)',
            TWICE,
        )
        assert_split(model, in_phases=in_phases)
        assert kernels(model).count((2, 2)) == (4 if in_phases else 2) * (1 + body.count("{double}"))

    @THROUGH
    def test_over_several_levels(self, in_phases):
        model = weighted_graph(
            "float[1,2,3,5] image, float[4,2,3,3] w, float[3,4,3,3] v",
            "float[1,3,12,20] y",
            f'u = {DOUBLE}(image, "", twice) c = {SAME}(u, w) r = Relu(c) '
            f'o = {DOUBLE}(r, "", twice) d = {SAME}(o, v) y = Relu(d)',
            TWICE,
        )
        assert_split(model, in_phases=in_phases)
        assert kernels(model) == [(2, 2)] * (8 if in_phases else 4)

    def test_of_several_frames(self):
        model = weighted_graph(
            "float[3,2,3,5] image, float[4,2,3,3] w, float[4] b",
            "float[3,4,6,10] y",
            f'u = {DOUBLE}(image, "", twice) c = {SAME}(u, w, b) y = Relu(c)',
            TWICE,
        )
        assert_split(model)

    def test_where_the_convolution_is_what_the_graph_answers(self):
        model = weighted_graph(
            "float[1,2,3,5] image, float[4,2,3,3] w",
            "float[1,4,6,10] y",
            f'u = {DOUBLE}(image, "", twice) y = {SAME}(u, w)',
            TWICE,
        )
        assert_split(model)
        assert model.graph.outputs[0].shape == ir.Shape((1, 4, 6, 10))

    @settings(max_examples=60, deadline=None)
    @given(
        parts=st.lists(st.tuples(st.booleans(), st.integers(1, 4)), min_size=1, max_size=3).filter(
            lambda parts: any(upsampled for upsampled, _ in parts)
        ),
        size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        filters=st.integers(1, 4),
        bias=st.booleans(),
        tail=st.lists(st.sampled_from(["relu", "1x1", "3x3"]), max_size=4),
        in_phases=st.booleans(),
    )
    def test_of_any_decoder(self, parts, size, filters, bias, tail, in_phases):
        height, width = size
        channels = sum(count for _, count in parts)
        inputs = [f"float[1,2,{height},{width}] image", f"float[{filters},{channels},3,3] w", f"float[{filters}] b"]
        lines = [LARGE]
        for number, (upsampled, count) in enumerate(parts):
            inputs.append(f"float[{count},2,1,1] v{number}")
            if upsampled:
                lines.append(f'q{number} = Conv(image, v{number}) p{number} = {DOUBLE}(q{number}, "", twice)')
            else:
                lines.append(f"p{number} = Conv(large, v{number})")
        joined = ", ".join(f"p{number}" for number in range(len(parts)))
        lines.append(f"m = Concat<axis=1>({joined}) t0 = {SAME}(m, w{', b' if bias else ''})")
        for number, step in enumerate(tail):
            if step == "relu":
                lines.append(f"t{number + 1} = Relu(t{number})")
            else:
                inputs.append(f"float[{filters},{filters},{step.replace('x', ',')}] k{number}")
                operator = SAME if step == "3x3" else "Conv"
                lines.append(f"t{number + 1} = {operator}(t{number}, k{number}{', b' if bias else ''})")
        lines.append(f"y = Neg(t{len(tail)})")
        model = weighted_graph(
            ", ".join(inputs), f"float[1,{filters},{2 * height},{2 * width}] y", " ".join(lines), TWICE, seed=channels
        )
        image = numbers(model)
        before = run(model, image)
        assert split(model, in_phases=in_phases)
        assert "Resize" not in operators(model)
        np.testing.assert_allclose(run(model, image)["y"], before["y"], rtol=0, atol=2e-5)


class TestHowFarPhasesGo:
    def test_relu_and_small_convolutions_are_computed_in_phases(self):
        model = decoder(
            "r = Relu(c) d = Conv(r, x, z) o = Relu(d) y = Neg(o)",
            "float[1,4,6,10] y",
            ", float[4,5,1,1] x, float[4] z",
        )
        image = numbers(model)
        before = run(model, image)
        assert split(model)
        assert_rounding_apart(run(model, image), before)
        assert operators(model).count("Relu") == 4 + 4
        assert kernels(model).count((1, 1)) == 1 + 4
        # They are made whole once, at the end.
        assert operators(model).count("Transpose") == 5
        assert operators(model)[-3:] == ["Reshape", "Transpose", "Neg"]

    def test_a_large_convolution_is_computed_in_phases_too(self):
        model = decoder(f"r = Relu(c) d = {SAME}(r, x, b) y = Neg(d)", "float[1,5,6,10] y", ", float[5,5,3,3] x")
        image = numbers(model)
        before, work = run(model, image), gflops(ir.to_proto(model))
        assert split(model)
        assert_rounding_apart(run(model, image), before)
        # 5 of 9 multiplications of the first convolution, and of its two upsampled channels only, are saved.
        assert gflops(ir.to_proto(model)) == pytest.approx(work - 2 * 5 * 2 * 5 * 60 / 1e9, rel=1e-9)
        assert kernels(model).count((3, 3)) == 4
        assert {(1, 2), (2, 1)} <= set(kernels(model))

    def test_joined_phases_are_whole_before_what_follows(self):
        model = decoder(f"r = Relu(c) d = {SAME}(r, x, b) y = Neg(d)", "float[1,5,6,10] y", ", float[5,5,3,3] x")
        image = numbers(model)
        before = run(model, image)
        assert split(model, in_phases=False)
        assert_rounding_apart(run(model, image), before)
        assert sorted(set(kernels(model))) == [(1, 1), (2, 2), (3, 3)]
        assert [kernels(model).count(size) for size in ((2, 2), (3, 3))] == [2, 2]
        assert operators(model).count("Relu") == 1

    def test_a_map_with_two_consumers_is_made_whole(self):
        model = decoder("r = Relu(c) n = Neg(r) y = Add(r, n)")
        relus = operators(model).count("Relu")
        image = numbers(model)
        model.graph.outputs.append(next(v for n in model.graph for v in n.outputs if v.name == "n"))
        before = run(model, image)
        assert split(model)
        assert_same(run(model, image), before, atol=1e-5)
        assert operators(model).count("Relu") == relus + 3
        assert operators(model)[-3:].count("Neg") == operators(model)[-3:].count("Add") == 1

    @pytest.mark.parametrize("kept", ["c", "r"])
    def test_a_map_that_the_graph_also_answers_is_made_whole(self, kept):
        model = decoder("r = Relu(c) d = Conv(r, x) y = Neg(d)", "float[1,5,6,10] y", ", float[5,5,1,1] x")
        model.graph.outputs.append(next(v for n in model.graph for v in n.outputs if v.name == kept))
        image = numbers(model)
        before = run(model, image)
        assert split(model)
        assert_rounding_apart(run(model, image), before)
        assert operators(model).count("Transpose") == 5
        assert kernels(model).count((1, 1)) == 2

    @pytest.mark.parametrize(
        ("tail", "weights"),
        [
            pytest.param("y = Sigmoid(c)", "", id="another function"),
            pytest.param("y = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(c)", "", id="a pooling"),
            pytest.param("y = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(c, x)", ", float[5,5,3,3] x", id="stride"),
            pytest.param("y = Conv<dilations=[2, 2], pads=[2, 2, 2, 2]>(c, x)", ", float[5,5,3,3] x", id="dilation"),
            pytest.param(
                "y = Conv<dilations=[2, 2], pads=[1, 1, 1, 1]>(c, x)", ", float[5,5,3,3] x", id="dilation, pads as else"
            ),
            pytest.param("y = Conv<pads=[2, 2, 2, 2]>(c, x)", ", float[5,5,5,5] x", id="5x5"),
            pytest.param("y = Conv<group=5, pads=[1, 1, 1, 1]>(c, x)", ", float[5,1,3,3] x", id="groups"),
            pytest.param("y = Conv(c, x)", ", float[5,5,3,3] x", id="no padding"),
            pytest.param('y = Conv<auto_pad="SAME_UPPER">(c, x)', ", float[5,5,3,3] x", id="padding by name"),
            pytest.param(f"n = Neg(x) y = {SAME}(c, n)", ", float[5,5,3,3] x", id="weights that are computed"),
        ],
    )
    def test_anything_else_gets_the_whole_map(self, tail, weights):
        model = decoder(tail, "float[1,n,h,w2] y", weights)
        last = operators(model)[-1]
        image = numbers(model)
        before = run(model, image)
        assert split(model)
        assert_rounding_apart(run(model, image), before)
        assert operators(model).count("Transpose") == 5
        assert operators(model)[-1] == last
        assert model.graph[-1].inputs[0].name == "c"

    def test_everything_is_counted_to_the_layer_whose_work_it_does(self):
        model = traced_graph("classic")
        layers = [layer.name for layer in traced("classic", 3, 3)[0].layers]
        NameByLayer(layers)(model)
        RestoreUpsampling()(model)
        assert split(model)
        found = {}
        for node in model.graph:
            if node.op_type == "Conv":
                found.setdefault(node.metadata_props["keras_layer"], []).append(node.name)
        assert [layer for layer, names in found.items() if len(names) > 1] == [
            f"decoder_{level}_{part}" for level in (3, 2, 1, 0) for part in "ab"
        ] + ["logits"]
        names = [node.name for node in model.graph]
        assert len(names) == len(set(names))


class TestWhatStays:
    @pytest.mark.parametrize(
        ("body", "kernel"),
        [
            pytest.param("u = {double} y = Conv<pads=[2, 2, 2, 2]>(u, w)", "5,2,5,5", id="5x5"),
            pytest.param("u = {double} y = Conv(u, w)", "5,2,1,1", id="1x1"),
            pytest.param("u = {double} y = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(u, w)", "5,2,3,3", id="stride"),
            pytest.param("u = {double} y = Conv<pads=[2, 2, 2, 2], dilations=[2, 2]>(u, w)", "5,2,3,3", id="dilation"),
            pytest.param(
                "u = {double} y = Conv<pads=[1, 1, 1, 1], dilations=[2, 2]>(u, w)",
                "5,2,3,3",
                id="dilation, pads as else",
            ),
            pytest.param("u = {double} y = Conv<pads=[1, 1, 1, 1], group=2>(u, w)", "4,1,3,3", id="groups"),
            pytest.param("u = {double} y = Conv(u, w)", "5,2,3,3", id="no padding"),
            pytest.param("u = {double} y = Conv<pads=[0, 0, 2, 2]>(u, w)", "5,2,3,3", id="padding on one side"),
            pytest.param('u = {double} y = Conv<auto_pad="SAME_UPPER">(u, w)', "5,2,3,3", id="padding by name"),
            pytest.param("u = {double} v = Neg(w) y = {same}(u, v)", "5,2,3,3", id="weights that are computed"),
            pytest.param("u = {double} c = {same}(u, w) y = Concat<axis=1>(c, u)", "5,2,3,3", id="a second consumer"),
            pytest.param("u = {double} r = Relu(u) y = {same}(r, w)", "5,2,3,3", id="something in between"),
            pytest.param("u = {double} m = Concat<axis=1>(u, u) y = {same}(m, w)", "5,4,3,3", id="the same map twice"),
            pytest.param("u = {double} m = Concat<axis=3>(u, u) y = {same}(m, w)", "5,2,3,3", id="another axis"),
            pytest.param(
                "u = {double} m = Concat<axis=1>(u, large) c = {same}(m, w) y = Concat<axis=1>(m, c)",
                "5,4,3,3",
                id="a concatenation with a second consumer",
            ),
            pytest.param('u = {bilinear}(image, "", twice) y = {same}(u, w)', "5,2,3,3", id="bilinear"),
            pytest.param('u = {rounded}(image, "", twice) y = {same}(u, w)', "5,2,3,3", id="other pixels"),
            pytest.param('u = {nearest}(image, "", thrice) y = {same}(u, w)', "5,2,3,3", id="3x"),
            pytest.param('u = {nearest}(image, "", flat) y = {same}(u, w)', "5,2,3,3", id="2x wide, 1x high"),
            pytest.param("y = {same}(image, w)", "5,2,3,3", id="no upsampling"),
        ],
    )
    def test_what_is_not_a_plain_convolution_over_a_doubled_map(self, body, kernel):
        text = body.format(
            double=f'{DOUBLE}(image, "", twice)',
            nearest=DOUBLE,
            same=SAME,
            bilinear=DOUBLE.replace("nearest", "linear", 1),
            rounded='Resize<mode="nearest", coordinate_transformation_mode="align_corners", nearest_mode="floor">',
        )
        if "large" in text:
            text = f"{LARGE} {text}"
        model = weighted_graph(
            f"float[1,2,3,4] image, float[{kernel}] w",
            "float[1,n,h,w2] y",
            text,
            f"{TWICE}, float[4] thrice = {{1, 1, 3, 3}}, float[4] flat = {{1, 1, 1, 2}}",
        )
        image = numbers(model)
        before, nodes = run(model, image), operators(model)
        for minimum_saving in (0, 1):
            assert not split(model, minimum_saving)
        assert operators(model) == nodes
        assert_same(run(model, image), before)

    @pytest.mark.parametrize("answered", ["u", "m"])
    def test_what_the_graph_answers(self, answered):
        model = weighted_graph(
            "float[1,2,3,4] image, float[5,4,3,3] w",
            "float[1,5,6,8] y",
            f'{LARGE} u = {DOUBLE}(image, "", twice) m = Concat<axis=1>(u, large) c = {SAME}(m, w) y = Relu(c)',
            TWICE,
        )
        model.graph.outputs.append(next(v for n in model.graph for v in n.outputs if v.name == answered))
        nodes = operators(model)
        assert not split(model)
        assert operators(model) == nodes

    def test_what_has_no_known_size(self):
        model = weighted_graph(
            "float[1,2,h,4] image, float[5,2,3,3] w",
            "float[1,5,h2,8] y",
            f'u = {DOUBLE}(image, "", twice) y = {SAME}(u, w)',
            TWICE,
        )
        assert not split(model)
        assert operators(model) == ["Resize", "Conv"]

    def test_one_convolution_is_split_and_its_neighbour_is_not(self):
        model = weighted_graph(
            "float[1,2,3,5] image, float[4,2,3,3] w, float[4,2,5,5] v",
            "float[1,4,6,10] y",
            f'u = {DOUBLE}(image, "", twice) c = {SAME}(u, w) o = {DOUBLE}(image, "", twice) '
            "d = Conv<pads=[2, 2, 2, 2]>(o, v) y = Add(c, d)",
            TWICE,
        )
        image = numbers(model)
        before = run(model, image)
        assert split(model)
        assert operators(model).count("Resize") == 1
        assert sorted(kernels(model)) == [(2, 2)] * 4 + [(5, 5)]
        assert_rounding_apart(run(model, image), before)


class TestMinimumSaving:
    # Five of nine taps, for each of 2 upsampled channels in and 5 out, at 6×10 pixels; twice where the skip is one too.
    SAVED = 5 * 2 * 5 * 60

    @pytest.mark.parametrize(("minimum_saving", "modified"), [(SAVED, True), (SAVED + 1, False), (0, True), (1, True)])
    def test_is_what_has_to_be_saved(self, minimum_saving, modified):
        model = decoder()
        work = gflops(ir.to_proto(model))
        assert split(model, minimum_saving) == modified
        assert gflops(ir.to_proto(model)) == pytest.approx(work - 2 * modified * self.SAVED / 1e9, rel=1e-9)

    def test_counts_each_upsampled_part_and_each_convolution_alone(self):
        body = (
            f'u = {DOUBLE}(image, "", twice) o = {DOUBLE}(image, "", twice) m = Concat<axis=1>(u, o) y = {SAME}(m, w)'
        )
        for minimum_saving, modified in ((2 * self.SAVED, True), (2 * self.SAVED + 1, False)):
            model = weighted_graph("float[1,2,3,5] image, float[5,4,3,3] w", "float[1,5,6,10] y", body, TWICE)
            assert split(model, minimum_saving) == modified

    def test_leaves_the_small_ones(self):
        model = weighted_graph(
            "float[1,2,3,5] image, float[4,2,3,3] w, float[3,4,3,3] v",
            "float[1,3,12,20] y",
            f'u = {DOUBLE}(image, "", twice) c = {SAME}(u, w) o = {DOUBLE}(c, "", twice) y = {SAME}(o, v)',
            TWICE,
        )
        first, second = 5 * 2 * 4 * 60, 5 * 4 * 3 * 240
        assert first < second
        assert split(model, second)
        assert kernels(model) == [(3, 3)] + [(2, 2)] * 4
        assert operators(model).count("Resize") == 1
