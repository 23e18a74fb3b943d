"""Models in the ways in which people write them: rebuilt, converted and optimised, each gives what it gave in Keras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_zoo import ZOO
from runs import contract_of, noise

from edge_runtime.segment.postprocess import probabilities_of
from export.convert import convolution_layers, trace
from export.keras_model.archive import read_model
from export.keras_model.convertible import with_precise_means
from export.keras_model.pixels import Pixels
from export.keras_model.standard import ForeignModel, understand
from export.optimise import integer_layout, optimise
from export.parity.layers import LOGITS, Probe, layer_differences

OUTPUTS = {
    "logits_of_three": "logits",
    "mobilenet_nested": "logits",
    "mobilenet_preprocessed": "logits",
    "summed_sides": None,
    **dict.fromkeys(
        ("bilinear_after_softmax", "half_size", "layer_normalised", "mobilenetv3_gates", "pyramid_of_pools"), "softmax"
    ),
    **dict.fromkeys(("rows_of_pixels", "softmax_as_a_layer", "softmax_of_three", "valid_with_crops"), "softmax"),
}
"""What the last layers tell; "sigmoid" for all others."""


def saved_and_read(name: str, folder: Path) -> keras.Model:
    keras.utils.set_random_seed(0)
    path = folder / f"{name}.keras"
    ZOO[name]().save(path)
    return read_model(path)


def understood(model: keras.Model) -> ForeignModel:
    size = (64, 64) if model.input_shape[1] is None else None
    classes = 3 if model.output_shape[-1] == 3 else 2
    return understand(model, classes=classes, size=size, output=None)


@pytest.mark.parametrize("name", ZOO)
def test_the_shipped_graph_gives_what_the_model_gives(tmp_path, name):
    model = saved_and_read(name, tmp_path)
    foreign = understood(model)
    assert foreign.output == OUTPUTS.get(name, "sigmoid")
    standard = with_precise_means(foreign.standard(Pixels(range="0-1")))
    raw, layers = trace(standard, 17), convolution_layers(standard)
    contract = contract_of(standard)
    shipped = optimise(raw, contract, layers)[-1].model
    layout = integer_layout(raw, layers)[-1].model
    for image in noise(standard):
        expected = np.asarray(standard(image[np.newaxis, ..., ::-1].astype(np.float32)))[0]
        for graph in (shipped, layout):
            logits = Probe(graph).run(image, [LOGITS])[0][0]
            np.testing.assert_allclose(probabilities_of(logits, binary=contract.binary), expected, atol=2e-5)
    differences = layer_differences(standard, shipped, noise(standard, 1))
    assert all(difference.relative_diff < 5e-5 for difference in differences), differences


@pytest.mark.parametrize("name", ["attention_gates", "mixed_precision", "normalised_and_augmented", "sequential"])
def test_the_rebuilt_model_gives_what_the_saved_one_gives(tmp_path, name):
    """At the size of the output, before any of our resizing."""
    model = saved_and_read(name, tmp_path)
    image = noise(model, 1)[0]
    pixels = Pixels(range="0-255")
    expected = np.asarray(model(pixels.of(image)[np.newaxis], training=False), np.float32)
    found = np.asarray(understood(model).standard(pixels)(image[np.newaxis, ..., ::-1].astype(np.float32)))
    np.testing.assert_allclose(found, expected, atol=2e-3 if name == "mixed_precision" else 2e-6)


def test_a_two_channel_softmax_becomes_one_logit(tmp_path):
    model = saved_and_read("valid_with_crops", tmp_path)
    foreign = understood(model)
    assert (foreign.size, foreign.map_size, foreign.may_be_mirrored) == ((572, 572), (388, 388), True)
    assert foreign.standard(Pixels(range="0-1")).output_shape == (None, 572, 572, 1)


def test_a_mirrored_border_gives_the_middle_of_a_mirrored_image(tmp_path):
    model = saved_and_read("valid_with_crops", tmp_path)
    standard = replace(understood(model), border="mirrored").standard(Pixels(range="0-255"))
    image = np.random.default_rng(0).integers(0, 256, (388, 388, 1)).astype(np.float32)
    whole = np.pad(image, ((92, 92), (92, 92), (0, 0)), mode="reflect")
    expected = np.asarray(model(whole[np.newaxis], training=False))[..., 1:]
    np.testing.assert_allclose(np.asarray(standard(image[np.newaxis])), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["residual", "rows_of_pixels", "mobilenet_nested"])
def test_an_hdf5_file_holds_the_same_model(tmp_path, name):
    model = saved_and_read(name, tmp_path)
    model.save(tmp_path / "model.h5")
    again = read_model(tmp_path / "model.h5")
    image = noise(model, 1)[0][np.newaxis].astype(np.float32)
    np.testing.assert_array_equal(np.asarray(again(image, training=False)), np.asarray(model(image, training=False)))
