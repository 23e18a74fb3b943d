"""The networks that shapes describe, and what is saved of them after training."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from runs import narrow_shape
from tried_unet import TriedUNet

from edge_runtime.errors import UsageError
from training.network.blocks import BLOCKS
from training.network.deploy import FusedBatchNormalization, deployable
from training.network.unet import UNetShape
from training.presets import PRESETS

SMALL = UNetShape(widths=(4, 8), batch_norm=True, stem_stride=2, slim_decoder=True)
TRIED = TriedUNet(widths=(4, 8), batch_norm=True, stem_stride=2, slim_decoder=True)
SHAPES = {
    **{name: narrow_shape(name) for name in PRESETS},
    **{block: replace(SMALL, block=block) for block in BLOCKS},
    **{block: replace(TRIED, block=block) for block in ("separable", "inverted")},
    "bilinear head": TRIED,
    "inverted at full size": replace(TRIED, block="inverted", stem_stride=1, slim_decoder=False),
    "quarter": replace(SMALL, stem_stride=4, convolutions=1),
    "sub-pixels": SMALL,
    "sub-pixels at a quarter": replace(SMALL, stem_stride=4),
    "all else": replace(
        TRIED, upsampling="bilinear", context=True, dropout=0.5, decoder_widths=(6,), convolutions=(1, 3)
    ),
}


def build(name, height_px=64, width_px=32, channels=3, logit_channels=4, **options):
    return SHAPES[name].build(
        height_px=height_px, width_px=width_px, channels=channels, logit_channels=logit_channels, **options
    )


def test_the_seed_is_the_network_that_the_project_began_with():
    model = PRESETS["seed"].shape.build(height_px=256, width_px=256, channels=1, logit_channels=1)
    assert model.count_params() == 406_657
    assert model.input_shape == (None, 256, 256, 1)
    assert model.output_shape == (None, 256, 256, 1)


@pytest.mark.parametrize(
    ("name", "channels", "logit_channels"), [*((name, 3, 4) for name in SHAPES), ("seed", 1, 1), ("edge", 1, 1)]
)
def test_every_network_gives_probabilities_at_the_size_of_its_input(name, channels, logit_channels):
    model = build(name, channels=channels, logit_channels=logit_channels)
    assert model.input_shape == (None, 64, 32, channels)
    assert model.get_layer("logits").output.shape == (None, 64, 32, logit_channels)
    assert model.get_layer("probabilities").activation.__name__ == ("sigmoid" if logit_channels == 1 else "softmax")
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 32, channels)).astype(np.float32)
    found = np.asarray(model(image))
    assert found.shape == (2, 64, 32, logit_channels)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    if logit_channels > 1:
        assert np.allclose(found.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["seed", "edge", "quarter"])
def test_the_smallest_input_is_the_stride(name):
    stride = SHAPES[name].stride
    model = build(name, stride, stride)
    assert model.output_shape == (None, stride, stride, 4)
    with pytest.raises(ValueError):
        build(name, stride + 1, stride)


def test_convolutions_have_a_bias_where_nothing_normalises_them():
    def with_bias(name):
        return {c.name for c in build(name).layers if isinstance(c, keras.layers.Conv2D) and c.use_bias}

    assert with_bias("classic") == {"logits"}
    assert with_bias("edge") == {"context", "half_logits"}
    assert with_bias("quarter") == {"quarter_logits"}
    assert with_bias("all else") == {"half_logits", "context"}
    assert {"encoder_0_a", "bottleneck_b", "decoder_0_a", "logits"} <= with_bias("seed")


def test_a_level_has_as_many_blocks_as_the_shape_says():
    def blocks(model):
        return [c.name for c in model.layers if isinstance(c, keras.layers.Conv2D)]

    assert blocks(build("quarter")) == [
        "stem_a", "stem_b", "encoder_0", "bottleneck", "reduce_0", "decoder_0", "quarter_logits",
    ]  # fmt: skip
    many = build("all else")
    assert blocks(many)[1:5] == ["encoder_0", "bottleneck_a", "bottleneck_b", "bottleneck_c"]
    assert many.get_layer("decoder_0").filters == many.get_layer("reduce_0").filters == 6


@pytest.mark.parametrize("name", ["sub-pixels", "sub-pixels at a quarter"])
def test_a_sub_pixel_head_gives_each_position_its_own_pixels_row_by_row(name):
    model, stride = build(name, logit_channels=2), SHAPES[name].stem_stride
    head = model.get_layer("half_logits" if stride == 2 else "quarter_logits")
    numbers = np.arange(stride * stride * 2)
    head.set_weights([np.zeros(head.kernel.shape), numbers])
    found = logits(model, np.zeros((1, 64, 32, 3), np.float32))
    block = numbers.reshape(stride, stride, 2)
    np.testing.assert_array_equal(found[0], np.tile(block, (64 // stride, 32 // stride, 1)))


def test_pixels_are_scaled_by_a_factor_alone():
    scale = build("edge").get_layer("scale")
    assert (scale.scale, scale.offset) == (1 / 255, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, r"widths \(\) — give one positive number for each level"),
        ({"widths": (4, 0)}, r"widths \(4, 0\) — give"),
        ({"convolutions": 0}, r"convolutions 0 — give 1 or more"),
        ({"batch_norm": False, "block": "reparameterised"}, r"without batch_norm — .*give batch_norm=True"),
        ({"encoder": "mobilenetv2", "stem_stride": 1}, r"encoder mobilenetv2 with stem_stride 1 and 2 levels — an enc"),
        ({"encoder": "mobilenetv2", "widths": (4,) * 6}, r"stem_stride 2 and 6 levels — .*two to five levels"),
    ],
)
def test_a_shape_that_no_network_can_be_built_from_is_refused(changes, message):
    with pytest.raises(UsageError, match=f"network shape — .*{message}"):
        replace(SMALL, **changes)


# From the trained network to the one that is saved


def trained(name, policy="float32"):
    """A network as training leaves it, one in which no statistic has a value that could be left out."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(name, channels=3, logit_channels=3, for_training=True)
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def logits(model, image):
    return np.asarray(keras.Model(model.input, model.get_layer("logits").output)(image, training=False))


IMAGE = np.random.default_rng(1).integers(0, 256, (2, 64, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("name", [*BLOCKS, "separable", "inverted", "inverted at full size", "all else"])
def test_what_is_saved_gives_what_was_trained(name):
    model = trained(name)
    expected = logits(model, IMAGE)
    found = logits(deployable(model, SHAPES[name]), IMAGE)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_nothing_that_only_training_needs_is_saved():
    model = deployable(trained("all else"), SHAPES["all else"])
    kinds = {type(layer) for layer in model.layers}
    assert all(getattr(keras.layers, kind.__name__, None) is kind for kind in kinds)
    assert not kinds & {keras.layers.Dropout, keras.layers.SpatialDropout2D}
    folded = deployable(trained("reparameterised"), SHAPES["reparameterised"])
    assert {c.name for c in folded.layers if isinstance(c, keras.layers.Add)} == set()
    assert folded.count_params() < trained("reparameterised").count_params()


def test_what_was_trained_in_half_precision_is_saved_in_float32():
    model = trained("all else", "mixed_bfloat16")
    assert model.get_layer("encoder_0").compute_dtype == "bfloat16"
    assert model.get_layer("logits").output.dtype == model.output.dtype == "float32"
    plain = deployable(model, SHAPES["all else"])
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    assert "bfloat16" not in json.dumps(plain.get_config(), default=str)
    expected = logits(model, IMAGE)
    np.testing.assert_allclose(logits(plain, IMAGE), expected, rtol=0, atol=0.05 * np.abs(expected).max())


# Batch normalisation by one operator


def normalisations(dtype="float32"):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (4, 8, 8, 5)).astype(np.float32)
    both = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.5, dtype=dtype)
        layer.build(x.shape)
        layer.gamma.assign([1, 2, 3, 4, 5])
        layer.beta.assign([5, 4, 3, 2, 1])
        both.append(layer)
    return x, *both


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_one_operator_normalises_as_keras_does(dtype):
    x, plain, fused = normalisations(dtype)
    tolerance = 1e-4 if dtype == "float32" else 0.1
    for training in (True, False):
        expected, found = plain(x, training=training), fused(x, training=training)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(np.float32(found), np.float32(expected), rtol=0, atol=tolerance)
        np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-3, atol=1e-3)
        # With Bessel's correction: 256 numbers a channel.
        np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=2 / 256)
        plain.set_weights(fused.get_weights())


def test_one_operator_gives_the_gradients_that_keras_gives():
    import tensorflow as tf

    x, plain, fused = normalisations()
    gradients = []
    for layer in (plain, fused):
        source = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(source)
            value = tf.reduce_sum(tf.sin(layer(source, training=True)))
        gradients.append(tape.gradient(value, [source, layer.gamma.value, layer.beta.value]))
    for expected, found in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_frozen_normalisation_keeps_its_statistics():
    x, _, fused = normalisations()
    fused.trainable = False
    fused(x, training=True)
    assert not np.any(fused.moving_mean)
