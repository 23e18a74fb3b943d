"""What passes ask of a graph: the answer, or one line that says what is missing and where."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from graphs import graph

from export.errors import ConvertError
from export.graph import array_of, input_of, producer_of, shape_of

REPORT = r" — the conversion is at fault, not your data: please report it with this line$"


@pytest.fixture
def addition() -> ir.Node:
    """The sum of a constant and an image whose width is not known."""
    model = graph("(float[1,1,2,W] image) => (float[1,1,2,W] y) <float[1] two = {2.0}>", "y = Add(image, two)")
    (node,) = model.graph
    node.name = "sum"
    return node


def test_what_is_there_is_returned(addition):
    image, two = input_of(addition, 0), input_of(addition, 1)
    assert (image.name, two.name) == ("image", "two")
    assert array_of(two).tolist() == [2.0]
    assert shape_of(two) == (1,)
    assert producer_of(addition.outputs[0]) is addition


@pytest.mark.parametrize(
    ("ask", "found"),
    [
        (lambda node: input_of(node, 2), r"graph — Add 'sum' has no input 2"),
        (lambda node: shape_of(node.inputs[0]), r"graph — 'image' has the shape \[1,1,2,W\] — expected fixed sizes"),
        (lambda node: array_of(node.inputs[0]), r"graph — 'image' is computed — expected a constant"),
        (lambda node: array_of(None), r"graph — '' is computed — expected a constant"),
        (lambda node: producer_of(node.inputs[0]), r"graph — no node computes 'image' — expected one"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_so(addition, ask, found):
    with pytest.raises(ConvertError, match=f"^{found}{REPORT}"):
        ask(addition)


def test_an_input_that_is_left_empty_is_none():
    model = graph("(float[1,1,2,2] image) => (float[1,1,4,4] y) <float[4] twice = {1, 1, 2, 2}>",
                  'y = Resize<mode="nearest">(image, "", twice)')  # fmt: skip
    with pytest.raises(ConvertError, match=r"Resize .* has no input 1"):
        input_of(next(iter(model.graph)), 1)
