"""Inside the graph, layer by layer: all is as in Keras, and the layer in which a fault begins is the one named."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest
from colors import color_scene
from numpy.typing import NDArray
from onnx import numpy_helper
from runs import contract_of, finished, narrow_shape, random_unet, with_weights
from tried_unet import TriedUNet

from export.config import ParityBudget
from export.convert import convolution_layers, trace
from export.optimise import integer_layout, optimise
from export.parity.layers import LayerDifference, Probe, first_diverging, layer_differences
from export.passes.names import NameByLayer
from export.passes.normalisation import FoldNormalisation
from export.passes.phases import SplitUpsampling
from export.passes.upsampling import RestoreUpsampling
from training.network.unet import UNetShape

LIMIT = ParityBudget().layer_diff
ROUNDING = 5e-6
SQUARE = UNetShape(widths=(8, 8), batch_norm=True)
"""On 8×8 pixels all of its inner maps have as many channels as rows and columns: no shape tells a wrong layout."""


SMALL = TriedUNet(widths=(8, 8, 8), batch_norm=True, stem_stride=2, slim_decoder=True)
"""Everything that the edge preset has, once."""


def pictures(model: keras.Model, count: int = 2) -> list[NDArray[np.uint8]]:
    """Things on a noisy ground: what is only noise has next to nothing left to tell in the depth of a network."""
    _, height_px, width_px, channels = model.input_shape
    scene = color_scene(height_px, width_px)[..., :channels].astype(np.float64)
    rng = np.random.default_rng(0)
    shifted = (np.roll(scene, rng.integers(height_px, size=2), (0, 1)) for _ in range(count))
    return [np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8) for image in shifted]


@cache
def model_of(preset: str) -> keras.Model:
    """A narrow model of a preset."""
    shape, size = {
        "square": (SQUARE, (8, 8)),
        "small": (SMALL, (32, 48)),
        "seed": (narrow_shape("seed"), (32, 48)),
        "classic": (narrow_shape("classic"), (32, 48)),
        "edge": (narrow_shape("edge"), (64, 96)),
    }[preset]
    return random_unet(shape, size)


@cache
def awake(preset: str) -> tuple[keras.Model, onnx.ModelProto]:
    """The same with statistics that fit the pictures, and its graph: as in a trained network, no channel is silent.

    A channel that is zero everywhere tells nothing of its weights, and in random networks many are.
    """
    model = keras.models.clone_model(model_of(preset))
    model.set_weights(model_of(preset).get_weights())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign_add(np.ones(layer.beta.shape, np.float32))
            layer.momentum = 0.0  # one step, and the statistics are those of the pictures
        if layer.name == "context":  # which has no normalisation
            layer.bias.assign_add(np.full(layer.bias.shape, 3, np.float32))
    model(np.stack(pictures(model))[..., ::-1].astype(np.float32), training=True)
    return model, finished(model)


@cache
def graph_of(preset: str) -> onnx.ModelProto:
    return finished(model_of(preset))


@cache
def in_phases(model: keras.Model) -> onnx.ModelProto:
    """A graph whose decoder is computed in phases however little that saves."""
    graph = ir.from_proto(trace(model, 17))
    for graph_pass in (
        common.ShapeInferencePass(),
        NameByLayer(convolution_layers(model)),
        RestoreUpsampling(),
        FoldNormalisation(),
        SplitUpsampling(1),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    ):
        graph_pass(graph)
    return ir.to_proto(graph)


def convolutions(proto: onnx.ModelProto) -> dict[str, str]:
    """The constant that holds the kernel, by the name of the convolution."""
    return {node.name: node.input[1] for node in proto.graph.node if node.op_type == "Conv"}


def one_percent_more(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a kernel whose largest weight is 1 % larger."""
    kernel[np.unravel_index(np.abs(kernel).argmax(), kernel.shape)] *= np.float32(1.01)
    return kernel


def first_named(model: keras.Model, proto: onnx.ModelProto) -> str | None:
    found = first_diverging(layer_differences(model, proto, pictures(model)), LIMIT)
    return found.layer if found else None


class TestTheSame:
    @pytest.mark.parametrize("preset", ["seed", "classic", "edge", "square"])
    def test_every_layer_of_the_finished_graph_is_as_in_keras(self, preset):
        model = model_of(preset)
        found = layer_differences(model, graph_of(preset), pictures(model))
        assert [d.layer for d in found] == convolution_layers(model)
        assert max(d.relative_diff for d in found) < ROUNDING
        assert any(d.relative_diff > 0 for d in found)  # it is two computations, not one looked at twice

    @pytest.mark.parametrize("preset", ["seed", "edge", "square"])
    def test_a_decoder_in_phases_is_put_together_again(self, preset):
        model = model_of(preset)
        proto = in_phases(model)
        assert any("phase_" in node.name for node in proto.graph.node)
        found = layer_differences(model, proto, pictures(model))
        assert [d.layer for d in found] == convolution_layers(model)
        assert max(d.relative_diff for d in found) < ROUNDING

    def test_every_stage_can_be_looked_into(self):
        """Also the first ones, which take float RGB, and the INT8 layout, in which narrow layers come in groups."""
        model = model_of("small")
        raw, layers = trace(model, 17), convolution_layers(model)
        for stage in (*optimise(raw, contract_of(model), layers), *integer_layout(raw, layers)):
            found = layer_differences(model, stage.model, pictures(model, 1))
            assert {d.layer for d in found} == set(layers), stage.name
            assert max(d.relative_diff for d in found) < ROUNDING, stage.name

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_binary_network_on_grey_pictures_too(self, channels):
        model = random_unet(narrow_shape("seed"), (16, 24), channels=channels, logit_channels=1)
        found = layer_differences(model, finished(model), pictures(model))
        assert [d.layer for d in found] == convolution_layers(model)
        assert max(d.relative_diff for d in found) < ROUNDING


CASES = [
    (preset, name) for preset in ("seed", "edge") for name in convolution_layers(random_unet(narrow_shape(preset)))
]


class TestOneWeight:
    @pytest.mark.parametrize(("preset", "layer"), CASES)
    def test_one_weight_one_percent_off_names_its_layer_first(self, preset, layer):
        model, proto = awake(preset)
        names = convolutions(proto)
        kernel = next(names[name] for name in (layer, f"{layer}_nchw", f"{layer}_row_1") if name in names)
        changed = with_weights(proto, kernel, one_percent_more)
        assert first_named(model, changed) == layer

    @pytest.mark.parametrize("phase", ["00", "11"])
    @pytest.mark.parametrize(
        ("layer", "part"), [("decoder_0", "part0"), ("decoder_0", "part1"), ("decoder_3", "part1")]
    )
    def test_in_a_layer_that_was_split_into_phases_it_is_still_that_layer(self, layer, part, phase):
        model = awake("edge")[0]
        proto = in_phases(model)
        constant = convolutions(proto)[f"{layer}_{part}_phase_{phase}"]
        assert first_named(model, with_weights(proto, constant, one_percent_more)) == layer

    def test_a_bias_that_is_not_a_number_names_its_layer(self):
        proto = graph_of("seed")
        node = next(node for node in proto.graph.node if node.name == "bottleneck_b")
        changed = with_weights(proto, node.input[2], lambda bias: bias * np.float32("nan"))
        found = layer_differences(model_of("seed"), changed, pictures(model_of("seed")))
        assert np.isnan({d.layer: d.relative_diff for d in found}["bottleneck_b"])
        assert first_diverging(found, LIMIT) == next(d for d in found if d.layer == "bottleneck_b")

    def test_a_not_a_number_on_the_first_image_alone_is_not_forgotten(self):
        """The worst of several images: Python's max would let a NaN pass that comes first."""
        model, proto = model_of("seed"), graph_of("seed")
        black, white = np.zeros((32, 48, 3), np.uint8), np.full((32, 48, 3), 255, np.uint8)
        node = next(node for node in proto.graph.node if node.name == "encoder_0_a")
        # A white pixel gives infinity, and infinity less infinity is not a number; 0 × anything stays 0.
        changed = with_weights(proto, node.input[1], lambda kernel: np.full_like(kernel, 3e38) * np.sign(kernel))
        for images in ([black, white], [white, black]):
            assert first_diverging(layer_differences(model, changed, images), LIMIT).layer == "encoder_0_a"
            assert not np.isfinite(layer_differences(model, changed, images)[0].relative_diff)


class TestDissolved:
    def test_a_layer_whose_result_is_nowhere_is_passed_over(self):
        model, proto = model_of("seed"), onnx.ModelProto()
        proto.CopyFrom(graph_of("seed"))
        for node in proto.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name.startswith("bottleneck_a"):
                        names[place] = f"merged_{name}"
        found = layer_differences(model, proto, pictures(model))
        assert [d.layer for d in found] == [name for name in convolution_layers(model) if name != "bottleneck_a"]
        assert max(d.relative_diff for d in found) < ROUNDING

    def test_a_fault_in_it_is_named_as_the_next_layer_that_is_left(self):
        model, proto = model_of("seed"), onnx.ModelProto()
        kernel = convolutions(graph_of("seed"))["bottleneck_a"]
        proto.CopyFrom(with_weights(graph_of("seed"), kernel, one_percent_more))
        for node in proto.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name.startswith("bottleneck_a"):
                        names[place] = f"merged_{name}"
        assert first_named(model, proto) == "bottleneck_b"

    def test_three_phases_of_four_are_no_layer(self):
        model, proto = model_of("small"), onnx.ModelProto()
        proto.CopyFrom(in_phases(model))
        for node in proto.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == "decoder_0_relu_phase_01":
                        names[place] = "other"
        assert "decoder_0" not in {d.layer for d in layer_differences(model, proto, pictures(model, 1))}


class TestFirstDiverging:
    def test_the_limit_itself_is_inside(self):
        assert first_diverging([LayerDifference(layer="a", relative_diff=LIMIT)], LIMIT) is None

    def test_the_first_over_it_counts_not_the_worst(self):
        found = [
            LayerDifference(layer=name, relative_diff=diff) for name, diff in (("a", 1e-6), ("b", 8e-5), ("c", 1.0))
        ]
        assert first_diverging(found, LIMIT) is found[1]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_what_is_no_number_is_over_every_limit(self, value):
        found = [LayerDifference(layer="a", relative_diff=float(value))]
        assert first_diverging(found, 1e30) is found[0]


class TestProbe:
    def test_it_gives_any_value_inside_and_leaves_the_model_as_it_was(self):
        model, proto = model_of("seed"), graph_of("seed")
        before = proto.SerializeToString()
        probe = Probe(proto, ["bottleneck_a", "logits"])
        inner, logits = probe.run(pictures(model)[0], ["bottleneck_a", "logits"])
        assert inner.shape == (1, 16, 16, 24)
        assert logits.shape == (1, 32, 48, 3)
        assert set(probe.outputs) == {"mask", "logits", "bottleneck_a"}
        assert proto.SerializeToString() == before

    def test_the_weights_it_ran_with_are_those_of_the_graph(self):
        model, proto = model_of("seed"), graph_of("seed")
        node = next(node for node in proto.graph.node if node.name == "encoder_0_a")
        kernel = numpy_helper.to_array(next(w for w in proto.graph.initializer if w.name == node.input[1]))
        bias = numpy_helper.to_array(next(w for w in proto.graph.initializer if w.name == node.input[2]))
        image = pictures(model)[0]
        by_hand = np.einsum("hwc,ochw->o", image[:3, :3].astype(np.float64), kernel) + bias
        found = Probe(proto, ["encoder_0_a"]).run(image, ["encoder_0_a"])[0][0, :, 1, 1]
        np.testing.assert_allclose(found, by_hand, rtol=0, atol=1e-4)
