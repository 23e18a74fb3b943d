"""Layers in place of Keras' own: means as exact as float32 can tell, and convolutions in groups that convert."""

import keras
import numpy as np
import onnxruntime as ort
import pytest
from keras import layers

from export.convert import trace
from export.keras_model.convertible import convertible, with_precise_means


def gated(keepdims):
    image = keras.Input((240, 320, 3), name="image")
    mean = layers.GlobalAveragePooling2D(keepdims=keepdims, name="mean")(image)
    logits = layers.Conv2D(1, 1, use_bias=False, name="logits")(layers.Reshape((1, 1, 3))(mean))
    model = keras.Model(image, layers.Activation("sigmoid", name="probabilities")(logits))
    model.set_weights([np.full((1, 1, 3, 1), 1e-3, np.float32)])
    return model


@pytest.mark.parametrize("keepdims", [True, False])
def test_a_mean_is_exact_in_keras_and_in_onnxruntime(keepdims):
    model = with_precise_means(gated(keepdims))
    image = np.random.default_rng(0).uniform(200, 255, (1, 240, 320, 3)).astype(np.float32)
    exact = image.mean((1, 2), dtype=np.float64)
    mean = keras.Model(model.input, model.get_layer("mean").output)
    np.testing.assert_allclose(np.asarray(mean(image)).reshape(1, 3), exact, rtol=3e-7)
    expected = 1 / (1 + np.exp(-1e-3 * exact.sum()))
    session = ort.InferenceSession(trace(model, 17).SerializeToString())
    result = session.run(["probabilities"], {session.get_inputs()[0].name: image})[0]
    np.testing.assert_allclose(result.reshape(()), expected, rtol=3e-7)


def test_a_model_keeps_its_weights_layers_and_shapes():
    model = gated(keepdims=True)
    copy = with_precise_means(model)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert copy.output_shape == model.output_shape
    np.testing.assert_array_equal(copy.get_weights()[0], model.get_weights()[0])


def test_a_model_without_global_means_is_left_alone():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(1, 1)(image))
    assert with_precise_means(model) is model


@pytest.mark.parametrize("channels", [8, 24, 32, 80])  # 2, 6, 8 and 20 per group: together, in pairs, and one by one
@pytest.mark.parametrize("options", [{}, {"strides": 2, "activation": "relu"}, {"dilation_rate": 2, "use_bias": False}])
def test_a_convolution_in_groups_is_the_same(channels, options):
    options = {"padding": "same", "bias_initializer": "random_normal"} | options
    image = keras.Input((8, 8, channels))
    model = keras.Model(image, layers.Conv2D(2 * channels, 3, groups=4, **options)(image))
    copy = keras.models.clone_model(model, clone_function=lambda layer: convertible(layer, layer.get_config()))
    copy.set_weights(model.get_weights())
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, channels)).astype(np.float32)
    np.testing.assert_allclose(copy(batch), model(batch), atol=1e-5)
