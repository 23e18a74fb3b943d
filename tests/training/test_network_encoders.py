"""Encoders of ``keras.applications`` in a U-Net; nothing is downloaded, random weights go through a file."""

import re

import keras
import numpy as np
import pytest

from edge_runtime.errors import UsageError
from training.network.deploy import deployable
from training.network.encoders import ENCODERS, load_encoder
from training.network.shape import ENCODER_STRIDES
from training.network.unet import UNetShape


def shape_of(name, **changes):
    return UNetShape(
        **{"widths": (4, 4), "batch_norm": True, "stem_stride": 4, "slim_decoder": True, "encoder": name, **changes}
    )


def build(name, channels=3, for_training=False, **changes):
    return shape_of(name, **changes).build(
        height_px=64,
        width_px=32,
        channels=channels,
        logit_channels=3,
        for_training=for_training,
    )


def reference_of(name):
    encoder = ENCODERS[name]
    return encoder.build(input_shape=(224, 224, 3), include_top=False, weights=None, **encoder.options)


@pytest.fixture(scope="module")
def reference():
    """A MobileNetV3 that stands for a trained one, without the layers that we have no use for."""
    model = reference_of("mobilenetv3small")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory, reference):
    path = tmp_path_factory.mktemp("weights") / "encoder.weights.h5"
    reference.save_weights(path)
    return path


@pytest.fixture(scope="module")
def network():
    return build("mobilenetv3small")


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS)
def test_maps_come_at_the_strides_of_the_levels(name):
    model = build(name, widths=(4, 4, 4, 4, 4), stem_stride=2)
    assert model.output_shape == (None, 64, 32, 3)
    for layer, stride in zip(ENCODERS[name].maps, ENCODER_STRIDES, strict=True):
        assert model.get_layer(layer).output.shape[1:3] == (64 // stride, 32 // stride)


def test_what_lies_beyond_the_last_level_is_left_out(network):
    names = {layer.name for layer in network.layers}
    assert {"expanded_conv_2_add", "decoder_0", "quarter_logits"} <= names
    assert not {"expanded_conv_3_expand", "conv_1"} & names


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_file_gives_the_encoder_what_it_learned(reference, weights, channels):
    """Far from the border, the encoder finds in pixels what the reference finds in pixels brought to -1–1."""
    model = build("mobilenetv3small", channels=channels)
    load_encoder(model, "mobilenetv3small", weights)
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 32, channels)).astype(np.float32)
    colors = np.broadcast_to(image, (1, 64, 32, 3)) / 127.5 - 1

    def first_map(network, x):
        # One convolution deep: the padding, which differs, has not come further than the last row and column.
        inner = keras.Model(network.input, network.get_layer("conv_bn").output)
        return np.asarray(inner(x, training=False))[:, :-1, :-1]

    narrow = keras.models.clone_model(reference, input_tensors=keras.Input((64, 32, 3)))
    narrow.set_weights(reference.get_weights())
    np.testing.assert_allclose(first_map(model, image), first_map(narrow, colors), rtol=0, atol=2e-4)
    for layer in model.layers:
        if layer.weights and layer.name.startswith("expanded"):
            for found, expected in zip(layer.get_weights(), reference.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(found, expected)


def test_what_is_saved_gives_what_was_trained_on_keras_own_layers(weights):
    model = build("mobilenetv3small", for_training=True)
    load_encoder(model, "mobilenetv3small", weights)
    plain = deployable(model, shape_of("mobilenetv3small"))
    assert all(getattr(keras.layers, type(layer).__name__, None) is type(layer) for layer in plain.layers)
    assert {"conv", "expanded_conv_squeeze_excite_conv"} <= {layer.name for layer in plain.layers}
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(plain(image), model(image, training=False), rtol=0, atol=1e-5)


def test_a_file_that_is_not_there_is_named(network, tmp_path):
    path = tmp_path / "none.weights.h5"
    with pytest.raises(UsageError, match=rf"--encoder-weights {re.escape(str(path))} — no such file — .*or imagenet"):
        load_encoder(network, "mobilenetv3small", path)


def test_weights_of_another_network_are_refused_in_one_line(network, tmp_path):
    path = tmp_path / "other.weights.h5"
    image = keras.Input((8, 8, 3))
    keras.Model(image, keras.layers.Conv2D(2, 3)(image)).save_weights(path)
    with pytest.raises(
        UsageError, match=r"cannot be loaded \(.+\) — expected the weights of keras\.applications\.Mobile"
    ) as found:
        load_encoder(network, "mobilenetv3small", path)
    assert "\n" not in str(found.value)
