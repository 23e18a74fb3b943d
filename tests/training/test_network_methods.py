"""The networks beside the U-Net: their layers are those of the papers, counted by hand, and what is saved is what was trained."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from runs import narrow_shape

from edge_runtime.errors import UsageError
from training.network.blocks import unpooled
from training.network.deploy import deployable
from training.network.encoders import ENCODERS, load_encoder
from training.network.fcn import FCNShape
from training.network.segnet import SegNetShape
from training.network.start import bilinear_kernel
from training.presets import PRESETS

METHODS = ("fcn", "segnet", "deeplab")
VGG = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)


def build(shape, height_px=64, width_px=96, channels=3, logit_channels=3, **options):
    return shape.build(
        height_px=height_px, width_px=width_px, channels=channels, logit_channels=logit_channels, **options
    )


def convolution(taps, channels, filters, *, bias=True):
    return taps * taps * channels * filters + bias * filters


def normalised(taps, channels, filters):
    """Weights of a convolution without bias, and the four numbers per filter of its normalisation."""
    return convolution(taps, channels, filters, bias=False) + 4 * filters


def separable(channels, filters):
    return 9 * channels + 4 * channels + normalised(1, channels, filters)


def vgg16(weights_of=convolution, channels=3):
    total = 0
    for width, count in zip(VGG, VGG_CONVOLUTIONS, strict=True):
        for _ in range(count):
            total += weights_of(3, channels, width)
            channels = width
    return total


def test_an_fcn_of_the_papers_size_has_the_weights_of_its_layers():
    classes = 21
    shape = replace(PRESETS["fcn-vgg16"].shape, batch_norm=False)
    head = convolution(7, 512, 4096) + convolution(1, 4096, 4096)
    scores = convolution(1, 4096, classes) + convolution(1, 512, classes) + convolution(1, 256, classes)
    doubled = 2 * convolution(4, classes, classes, bias=False)
    assert vgg16() == 14_714_688  # as in keras.applications
    assert build(shape, 32, 32, logit_channels=classes).count_params() == vgg16() + head + scores + doubled


def test_a_segnet_of_the_papers_size_has_the_weights_of_its_layers():
    classes = 11
    decoder = sum(
        normalised(3, channels, filters)
        for channels, filters in (
            *((512, 512), (512, 512), (512, 512)),
            *((512, 512), (512, 512), (512, 256)),
            *((256, 256), (256, 256), (256, 128)),
            *((128, 128), (128, 64)),
            (64, 64),
        )
    )
    expected = vgg16(normalised) + decoder + convolution(3, 64, classes)
    assert build(PRESETS["segnet-vgg16"].shape, 32, 32, logit_channels=classes).count_params() == expected


def test_a_deeplab_of_the_papers_size_has_the_weights_of_its_layers():
    classes = 21

    def block(channels, *filters, shortcut):
        first, second, third = filters
        total = separable(channels, first) + separable(first, second) + separable(second, third)
        return total + shortcut * normalised(1, channels, third)

    entry = normalised(3, 3, 32) + normalised(3, 32, 64)
    entry += sum(block(a, b, b, b, shortcut=True) for a, b in ((64, 128), (128, 256), (256, 728)))
    middle = 16 * block(728, 728, 728, 728, shortcut=False)
    last = block(728, 728, 1024, 1024, shortcut=True)
    last += separable(1024, 1536) + separable(1536, 1536) + separable(1536, 2048)
    pyramid = normalised(1, 2048, 256) + 3 * separable(2048, 256) + convolution(1, 2048, 256)
    pyramid += normalised(1, 5 * 256, 256)
    decoder = normalised(1, 256, 48) + separable(256 + 48, 256) + separable(256, 256) + convolution(1, 256, classes)
    model = build(PRESETS["deeplab-xception"].shape, 32, 32, logit_channels=classes)
    assert model.count_params() == entry + middle + last + pyramid + decoder


def test_maps_have_the_sizes_of_the_papers():
    fcn, segnet, deeplab = (build(narrow_shape(name), 64, 96) for name in METHODS)
    assert [fcn.get_layer(f"pool_{n}").output.shape[1:3] for n in (2, 3, 4)] == [(8, 12), (4, 6), (2, 3)]
    assert fcn.get_layer("sum_16").output.shape[1:] == (4, 6, 3)
    assert fcn.get_layer("sum_8").output.shape[1:] == (8, 12, 3)
    assert [segnet.get_layer(f"unpool_{n}").output.shape[1:3] for n in range(5)] == [
        (64 // 2**n, 96 // 2**n) for n in range(5)
    ]
    assert deeplab.get_layer("late_c_pointwise").output.shape[1:3] == (4, 6)  # an output stride of 16
    assert deeplab.get_layer("late_c_depthwise").dilation_rate == (2, 2)
    rates = PRESETS["deeplab"].shape.rates
    assert [deeplab.get_layer(f"pyramid_{rate}_depthwise").dilation_rate for rate in rates] == [(r, r) for r in rates]
    assert deeplab.get_layer("skip").output.shape[1:3] == deeplab.get_layer("decoder").output.shape[1:3] == (16, 24)


def filled(model):
    """Give every weight a value that matters, as after training."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


@pytest.mark.parametrize("encoder", [None, "vgg16"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_saved_gives_what_was_trained(name, encoder):
    shape = narrow_shape(name)
    shape = shape.with_encoder(encoder) if encoder else shape
    model = filled(build(shape, 64, 64, for_training=True))
    image = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    saved = deployable(model, shape)
    expected = np.asarray(keras.Model(model.input, model.get_layer("logits").output)(image, training=False))
    found = np.asarray(keras.Model(saved.input, saved.get_layer("logits").output)(image))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "vgg16"])
@pytest.mark.parametrize("name", ["fcn", "deeplab"])
def test_every_encoder_fits(name, encoder):
    model = build(narrow_shape(name).with_encoder(encoder), 64, 32)
    assert model.output_shape == (None, 64, 32, 3)


def test_segnet_takes_only_an_encoder_that_pools():
    with pytest.raises(
        UsageError, match=r"^--encoder mobilenetv2 — has no pooling .* — choose vgg16, or another --preset$"
    ):
        narrow_shape("segnet").with_encoder("mobilenetv2")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FCNShape(widths=(4, 4, 4, 4), head_width=4),
        lambda: FCNShape(widths=(4, 4, 4, 4, 4), head_width=0),
        lambda: SegNetShape(widths=(4, 4, 4, 4, 0)),
        lambda: replace(narrow_shape("deeplab"), rates=()),
        lambda: replace(narrow_shape("deeplab"), middle_blocks=-1),
    ],
)
def test_a_shape_that_no_network_can_be_built_from_is_refused(wrong):
    with pytest.raises(UsageError, match=r"^network shape — "):
        wrong()


def test_an_fcn_begins_with_bilinear_interpolation():
    x = keras.Input((4, 5, 2))
    layer = keras.layers.Conv2DTranspose(2, 4, strides=2, padding="same", use_bias=False)
    model = keras.Model(x, layer(x))
    layer.kernel.assign(bilinear_kernel(2))
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    expected = np.asarray(keras.layers.UpSampling2D(2, interpolation="bilinear")(image))
    # Beyond the border, the one repeats the last pixel, and the other has zeros.
    np.testing.assert_allclose(np.asarray(model(image))[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-6)
    for for_training in (False, True):
        network = build(narrow_shape("fcn"), 32, 32, for_training=for_training)
        np.testing.assert_array_equal(network.get_layer("upsample_16").kernel, bilinear_kernel(3))


# Unpooling


def unpooling(height_px, width_px, channels):
    small, large = keras.Input((height_px // 2, width_px // 2, channels)), keras.Input((height_px, width_px, channels))
    return keras.Model([small, large], unpooled(small, large, "unpool"))


@pytest.mark.parametrize("levels", [2, 1000])
def test_each_value_goes_to_the_first_of_the_largest(levels):
    rng = np.random.default_rng(0)
    large = rng.integers(-levels // 2, levels // 2, (2, 6, 8, 3)).astype(
        np.float32
    )  # of 2 levels, most windows have ties
    small = rng.normal(size=(2, 3, 4, 3)).astype(np.float32)
    found = np.asarray(unpooling(6, 8, 3)([small, large]))
    expected = np.zeros_like(large)
    for n, row, column, c in np.ndindex(*small.shape):
        window = large[n, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, c]
        y, x = divmod(int(window.argmax()), 2)
        expected[n, 2 * row + y, 2 * column + x, c] = small[n, row, column, c]
    np.testing.assert_array_equal(found, expected)


def test_negative_zero_is_no_smaller_than_zero():
    large = np.array([-0.0, 0.0, 0.0, -0.0], np.float32).reshape(1, 2, 2, 1)
    found = np.asarray(unpooling(2, 2, 1)([np.full((1, 1, 1, 1), 7, np.float32), large]))
    assert found.reshape(-1).tolist() == [7, 0, 0, 0]


# Weights from ImageNet


def test_a_vgg16_gets_pixels_as_it_expects_them(tmp_path):
    """Far from the border, it finds in pixels what the reference finds in blue first minus the mean colour."""
    reference = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    filled(reference)
    reference.save_weights(tmp_path / "vgg.weights.h5")
    model = build(narrow_shape("segnet").with_encoder("vgg16"), 32, 32)
    load_encoder(model, "vgg16", tmp_path / "vgg.weights.h5")
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)

    def first_map(network, x):
        inner = keras.Model(network.input, network.get_layer("block1_conv1").output)
        return np.asarray(inner(x, training=False))[:, 1:-1, 1:-1]

    expected = first_map(reference, keras.applications.vgg16.preprocess_input(image.copy()))
    np.testing.assert_allclose(first_map(model, image), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
