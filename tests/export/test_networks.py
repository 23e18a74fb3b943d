"""Every kind of network through the whole chain: what ships gives what Keras gives, in float and nearly in INT8."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from runs import contract_of, narrow_shape, noise, random_unet, reloaded
from tried_unet import TriedUNet

from edge_runtime.model.session import Session
from edge_runtime.segment.postprocess import probabilities_of
from export.convert import convolution_layers, trace
from export.int8_search import measure_ranges
from export.optimise import integer_layout, optimise, to_int8
from export.parity.layers import layer_differences
from training.network.unet import UNetShape
from training.presets import PRESETS

SMALL = TriedUNet(widths=(8, 8), batch_norm=True, stem_stride=2, slim_decoder=True)
SHAPES = {
    "separable": replace(SMALL, block="separable"),
    "inverted": replace(SMALL, block="inverted", convolutions=1),
    "inverted without a strided stem": replace(SMALL, block="inverted", stem_stride=1, slim_decoder=False),
    "reparameterised at a quarter": replace(SMALL, block="reparameterised", stem_stride=4, convolutions=1),
    "sub-pixels": replace(SMALL, head="subpixel", convolutions=1),
    "sub-pixels at a quarter": replace(SMALL, head="subpixel", stem_stride=4, convolutions=1),
    "bilinear with context": replace(SMALL, upsampling="bilinear", context=True, convolutions=1),
}
ENCODED = UNetShape(widths=(8, 8), batch_norm=True, stem_stride=4, slim_decoder=True, encoder="mobilenetv2")


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def shipped(shape, logit_channels=3, size=(32, 64), int8_tolerance=0.1):
    """Return a network of a shape, its graphs in float and in INT8, and checks them against each other."""
    model = reloaded(random_unet(shape, size, logit_channels=logit_channels))
    contract, raw, layers = contract_of(model), trace(model, 17), convolution_layers(model)
    images = noise(model)
    stages = optimise(raw, contract, layers)
    whole = stages[-2].model
    differences = layer_differences(model, whole, images)
    assert max(d.relative_diff for d in differences) <= 1e-5
    layout = integer_layout(raw, layers)[-1].model
    integer = to_int8(layout, contract, measure_ranges(layout, images))
    in_float, in_int8 = (Session(p.SerializeToString(), "m", contract) for p in (stages[-1].model, integer))
    for image in images:
        expected = np.asarray(model(image[np.newaxis, ..., ::-1].astype(np.float32)))[0]
        logits = in_float.logits(image)
        np.testing.assert_allclose(probabilities_of(logits, binary=contract.binary), expected, rtol=0, atol=1e-5)
        assert np.abs(in_int8.logits(image) - logits).max() <= int8_tolerance * np.abs(logits).max()
    return model, [d.layer for d in differences], stages[-1].model, integer


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "without" in name else []) for name in SHAPES]
)
def test_every_kind_of_block_is_shipped_as_it_was_trained(name):
    model, compared, in_float, integer = shipped(SHAPES[name])
    assert compared == convolution_layers(model)
    assert not set(operators(in_float)) & {"Mul", "BatchNormalization", "Tile"}
    kinds = {node.op_type: node for node in integer.graph.node if node.op_type in ("Relu", "Mul", "Clip")}
    assert not kinds
    # All convolutions but the one over the context's mean compute with integers.
    sources = {out: node.op_type for node in integer.graph.node for out in node.output}
    whole = [
        n.name for n in integer.graph.node if n.op_type == "Conv" and sources.get(n.input[1]) != "DequantizeLinear"
    ]
    assert whole == (["context"] if SHAPES[name].context else [])


def test_the_selfie_network_is_shipped_as_it_was_trained():
    model, compared, in_float, _ = shipped(PRESETS["selfie"].shape, logit_channels=1)
    assert compared == convolution_layers(model)
    assert operators(in_float).count("HardSigmoid") == 11
    assert not set(operators(in_float)) & {"Clip", "BatchNormalization"}


@pytest.mark.parametrize("name", ["fcn", "segnet", "deeplab"])
def test_the_methods_beside_the_unet_are_shipped_as_they_were_trained(name):
    # Where two values of a window are nearly alike, INT8 unpools to another place, of random weights often.
    model, compared, in_float, integer = shipped(narrow_shape(name), int8_tolerance=0.5 if name == "segnet" else 0.1)
    assert compared == convolution_layers(model)
    found = set(operators(in_float))
    assert not {"BatchNormalization", "OneHot"} & found
    assert ("MaxUnpool" in found) == (name == "segnet")
    convolutions = [kind for kind in operators(in_float) if kind in ("Conv", "ConvTranspose")]
    assert operators(integer).count("Conv") == len(convolutions)


@pytest.mark.slow
def test_a_mobilenetv2_computes_with_integers_throughout():
    model, compared, in_float, integer = shipped(ENCODED, size=(64, 32))
    assert compared == convolution_layers(model)
    assert "Pad" not in operators(in_float)
    # What is left of a ReLU6 limits integers: where a skip that can be negative shares its scale.
    sources = {out: node.op_type for node in integer.graph.node for out in node.output}
    assert {sources[node.input[0]] for node in integer.graph.node if node.op_type == "Clip"} <= {"QuantizeLinear"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3small", "mobilenetv3large", "efficientnetb0"])
def test_every_encoder_is_shipped_as_it_was_trained(name):
    shipped(replace(ENCODED, encoder=name), size=(64, 32))
