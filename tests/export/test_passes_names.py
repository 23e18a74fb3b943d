"""Every convolution knows its layer in Keras, whatever tf2onnx has done with its weights and its name."""

from __future__ import annotations

import keras
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest
from graphs import clean, graph, traced_graph
from keras import layers
from runs import reloaded, traced

from export.convert import convolution_layers, trace
from export.graph import LAYER
from export.passes.names import LayerValues, NameByLayer, values_of_layer
from export.passes.quantize import layers_of


def named(model: ir.Model, names: list[str]) -> list[tuple[str, str]]:
    """Name a graph, and return name and layer of each convolution in the graph's order."""
    NameByLayer(names)(model)
    every = [value.name for node in model.graph for value in node.outputs]
    assert len(set(every)) == len(every)
    assert len({node.name for node in model.graph}) == len(model.graph)
    return [(str(node.name), node.metadata_props.get(LAYER, "")) for node in model.graph if node.op_type == "Conv"]


def chain(*names: str, shared: bool = False) -> keras.Model:
    """A model of a convolution a name, and of one that is called twice."""
    image = x = keras.Input((4, 4, 3), name="image")
    for name in names:
        x = layers.Conv2D(3, 1, name=name, activation="relu")(x)
    if shared:
        layer = layers.Conv2D(3, 1, name="twice")
        x = layer(layer(layer(x)))
    x = layers.Conv2D(3, 1, name="logits")(x)
    return keras.Model(image, layers.Activation("softmax", name="probabilities")(x))


class TestOfAPreset:
    @pytest.mark.parametrize(
        ("preset", "channels", "logit_channels"), [("seed", 1, 1), ("seed", 3, 3), ("classic", 3, 3), ("edge", 3, 1)]
    )
    def test_every_convolution_has_its_layer(self, preset, channels, logit_channels):
        keras_model, _ = traced(preset, channels, logit_channels)
        expected = convolution_layers(keras_model)
        model = traced_graph(preset, channels, logit_channels)
        assert named(model, expected) == [(f"{x}_nchw" if x == "logits" else x, x) for x in expected]
        assert layers_of(model.graph) == expected
        assert [output.name for output in model.graph.outputs] == ["logits", "probabilities"]

    def test_the_relu_is_named_after_the_convolution_before_it(self):
        model = traced_graph("edge")
        named(model, convolution_layers(traced("edge", 3, 3)[0]))
        relus = [node for node in model.graph if node.op_type == "Relu"]
        assert relus
        for node in relus:
            before = node.inputs[0].producer()
            assert node.name == node.outputs[0].name == f"{before.name}_relu"
            assert node.metadata_props[LAYER] == before.metadata_props[LAYER]


@pytest.mark.parametrize(
    ("names", "saved"),
    [
        (("a", "a_1"), False),
        (("a_1", "a_2", "a"), True),
        (("conv2d", "conv2d_1", "conv2d_1_1"), True),
        (("block_10", "relu"), False),
    ],
)
def test_a_layer_may_end_in_digits(names, saved):
    model = reloaded(chain(*names)) if saved else chain(*names)
    found = ir.from_proto(trace(model, 17))
    common.ShapeInferencePass()(found)
    assert named(found, convolution_layers(model)) == [*zip(names, names, strict=True), ("logits_nchw", "logits")]


def test_a_layer_that_is_called_several_times_has_as_many_names():
    model = chain("a", shared=True)
    found = named(clean(ir.from_proto(trace(model, 17))), convolution_layers(model))
    assert [layer for _, layer in found] == ["a", "twice", "twice", "twice", "logits"]


def test_names_that_nothing_is_appended_to_are_taken_as_they_are():
    model = graph(
        '(float[1,1,2,2] image) => (float[1,1,2,2] y) <float[1,1,1,1] "m/a/w" = {1.0}, float[1,1,1,1] "m/a_1/w" = {1.0}>',
        'x = Conv(image, "m/a/w") y = Conv(x, "m/a_1/w")',
    )
    assert named(model, ["a", "a_1"]) == [("a", "a"), ("a_1", "a_1")]


def test_a_convolution_of_no_layer_is_named_by_its_place():
    model = graph(
        '(float[1,1,2,2] image) => (float[1,1,2,2] y) <float[1,1,1,1] "m/a/w" = {1.0}, float[1,1,1,1] w = {1.0}>',
        'x = Conv(image, "m/a/w") r = Relu(x) y = Conv(r, w)',
    )
    assert named(model, ["a"]) == [("a", "a"), ("conv_2", "")]


def test_what_the_graph_answers_keeps_its_name():
    model = graph(
        '(float[1,1,2,2] image) => (float[1,1,2,2] logits) <float[1,1,1,1] "m/logits_1/w" = {1.0}>',
        'logits = Conv(image, "m/logits_1/w")',
    )
    assert named(model, ["logits"]) == [("logits_nchw", "logits")]
    assert model.graph.outputs[0].name == "logits"


PHASES = ("phase_00", "phase_01", "phase_10", "phase_11")


class TestFindingALayerAgain:
    @pytest.mark.parametrize(
        ("rectified", "existing", "parts"),
        [
            (False, ["a"], "whole"),
            (False, ["a_nchw"], "whole"),
            (True, ["a_relu"], "whole"),
            (True, ["a_relu_nchw"], "whole"),
            (True, [f"a_relu_{phase}" for phase in PHASES], "phases"),
            (False, [f"a_nchw_{phase}" for phase in PHASES], "phases"),
            (False, ["a_row_0", "a_row_1", "a_row_2"], "rows"),
        ],
    )
    def test_its_result_is_found_whole_or_in_parts_in_their_order(self, rectified, existing, parts):
        others = {"b", "a_part0", "a_rows", *(["a"] if rectified else ["a_relu"])}
        found = values_of_layer("a", others | set(existing), rectified=rectified)
        assert found == LayerValues(names=tuple(existing), parts=parts)

    def test_what_is_whole_is_preferred_to_its_parts(self):
        existing = {"a", "a_row_0", *(f"a_{phase}" for phase in PHASES)}
        assert values_of_layer("a", existing, rectified=False) == LayerValues(names=("a",), parts="whole")

    @pytest.mark.parametrize("existing", [set(), {"a_phase_00", "a_phase_01", "a_phase_10"}, {"a_row_1"}, {"aa"}])
    def test_a_layer_that_is_dissolved_is_not_found(self, existing):
        assert values_of_layer("a", existing, rectified=False) is None
