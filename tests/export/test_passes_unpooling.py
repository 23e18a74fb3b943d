"""Unpooling becomes one node, on ties too; what only looks like it stays."""

import numpy as np
import pytest
from graphs import assert_same, clean, graph, operators, pixels, run, traced_graph

from export.passes.unpooling import UseMaxUnpool


def test_every_unpooling_of_segnet_becomes_one_node():
    model = traced_graph("segnet", 3, 3)
    image = pixels(model).astype(np.float32)
    before = run(model, image)
    assert operators(model).count("OneHot") == 5
    assert UseMaxUnpool()(model).modified
    clean(model)
    assert operators(model).count("MaxUnpool") == operators(model).count("MaxPool") == 5
    assert not {"OneHot", "ArgMax", "Equal"} & set(operators(model))
    assert_same(run(model, image), before)


WINDOWS = (
    "(float[1,{c},4,6] image) => (float[1,{c},4,6] y) "
    "<int64[6] six = {{1,{c},2,2,3,2}}, int64[5] five = {{1,{c},2,3,4}}, int64[1] axis = {{4}}, int64[1] depth = {{{depth}}}, "
    "float[2] values = {{{off},{on}}}, int64[6] apart = {{1,{c},2,3,2,2}}, int64[4] four = {{1,{c},4,6}}>"
)
BODY = (
    "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(image) "
    "a = Reshape(image, six) b = Transpose<perm=[{perm}]>(a) w = Reshape(b, five) "
    "m = ReduceMax<axes=[4]>(w) e = Equal(w, m) i = Cast<to=6>(e) g = ArgMax<axis=4, keepdims=0, select_last_index={last}>(i) "
    "h = OneHot<axis=4>(g, depth, values) x = Unsqueeze(p, axis) s = Mul(x, h) "
    "c = Reshape(s, apart) d = Transpose<perm=[0,1,2,4,3,5]>(c) y = Reshape(d, four)"
)


def written(*, c=2, depth=4, off=0, on=1, perm="0,1,2,4,3,5", last=0):
    return graph(WINDOWS.format(c=c, depth=depth, off=off, on=on), BODY.format(perm=perm, last=last))


@pytest.mark.parametrize("levels", [2, 1000])
def test_the_first_of_several_largest_counts(levels):
    model = written()
    image = np.random.default_rng(0).integers(0, levels, (1, 2, 4, 6)).astype(np.float32)
    before = run(model, image)
    assert UseMaxUnpool()(model).modified
    assert sorted(operators(clean(model))) == ["MaxPool", "MaxUnpool"]
    assert_same(run(model, image), before)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"last": 1}, id="the last of several largest"),
        pytest.param({"on": 2}, id="twice the value"),
        pytest.param({"perm": "0,1,2,4,5,3"}, id="windows in another order"),
    ],
)
def test_what_is_no_unpooling_stays(changes):
    model = written(**changes)
    image = np.random.default_rng(0).integers(0, 3, (1, 2, 4, 6)).astype(np.float32)
    before = run(model, image)
    assert not UseMaxUnpool()(model).modified
    assert_same(run(model, image), before)
