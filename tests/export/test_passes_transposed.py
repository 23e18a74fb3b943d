"""Transposed convolutions of stride 2 as convolutions: the same numbers, and the rest stays as it is."""

import numpy as np
import pytest
from graphs import assert_rounding_apart, clean, operators, run, weighted_graph

from export.passes.transposed import ConvolveTransposed

RNG = np.random.default_rng(0)


def written(size, pads, after="", *, bias=True, attributes="", shape="1,3,4,6", out="1,5,8,12", group_out=5):
    constants = f"float[3,{group_out},{size},{size}] w" + (", float[5] b" if bias else "")
    body = f"c = ConvTranspose<strides=[2,2], pads=[{pads}]{attributes}>(image, w{', b' if bias else ''}) "
    after = after or "y = Identity(c)"
    return weighted_graph(
        f"float[{shape}] image, {constants}", f"float[{out}] y", body + after, "float zero = {0}, float six = {0.5}"
    )


CASES = [
    pytest.param(2, "0,0,0,0", {}, "Conv", id="2x2"),
    pytest.param(2, "0,0,0,0", {"bias": False}, "Conv", id="2x2 without bias"),
    pytest.param(3, "0,0,1,1", {}, "Conv", id="3x3 as Keras pads it"),
    pytest.param(3, "1,1,1,1", {"attributes": ", output_padding=[1,1]"}, "Conv", id="3x3 as PyTorch pads it"),
    pytest.param(4, "1,1,1,1", {}, "Conv", id="4x4"),
    pytest.param(2, "0,0,0,0", {"after": "y = Relu(c)"}, "Relu", id="with a ReLU"),
    pytest.param(2, "0,0,0,0", {"after": "y = Clip(c, zero, six)"}, "Clip", id="with a ReLU6"),
]


@pytest.mark.parametrize(("size", "pads", "more", "before_the_moves"), CASES)
def test_a_doubling_becomes_a_convolution(size, pads, more, before_the_moves):
    model = clean(written(size, pads, **more))
    image = RNG.normal(size=(1, 3, 4, 6)).astype(np.float32)
    before = run(model, image)
    assert ConvolveTransposed()(model).modified
    found = operators(clean(model))
    assert "ConvTranspose" not in found
    assert found.count("Conv") == 1
    assert found[found.index("Transpose") - 1] == before_the_moves, (
        "a ReLU comes before the moves, which keep it in INT8"
    )
    assert_rounding_apart(run(model, image), before)


@pytest.mark.parametrize(
    ("size", "pads", "more"),
    [
        pytest.param(7, "2,2,3,3", {}, id="7x7"),
        pytest.param(2, "0,0,0,0", {"attributes": ", group=1, dilations=[2,2]", "out": "1,5,9,13"}, id="dilated"),
        pytest.param(3, "0,0,0,0", {"out": "1,5,9,13"}, id="of another size"),
    ],
)
def test_anything_else_stays(size, pads, more):
    model = clean(written(size, pads, **more))
    assert not ConvolveTransposed()(model).modified
