"""Public weights: read from TensorFlow Lite's files, fitted to our layers, and refused where they do not fit."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edge_runtime.errors import UsageError
from training.config import GENTLE, TrainConfig
from training.network.selfie import SelfieShape
from training.network.tflite_weights import load_in_order
from training.presets import PRESETS

NAMES = ["stem", "depthwise", "middle", "last"]


def chain(channels=3, classes=1, *, last=(1, 2)):
    """A network of four convolutions; ``last`` has the filters and the size of the last one."""
    image = keras.Input((8, 12, channels))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(5, 1, activation="relu", name="middle")(x)
    filters, size = last
    model = keras.Model(image, layers.Conv2D(filters * classes, size, padding="same", name="last")(x))
    rng = np.random.default_rng(channels)
    model.set_weights([rng.normal(0, 1, weight.shape).astype(np.float32) for weight in model.weights])
    return model


def written(model, path, *, halves=False):
    called = tf.function(lambda x: model(x)).get_concrete_function(
        tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(called)])
    if halves:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def source():
    return chain()


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    return written(source, tmp_path_factory.mktemp("tflite") / "chain.tflite")


class TestLoadInOrder:
    @pytest.mark.parametrize("halves", [False, True])
    def test_layers_get_the_weights_of_the_files_operators(self, source, tmp_path, halves):
        file = written(source, tmp_path / "chain.tflite", halves=halves)
        target = chain(last=(4, 1))
        load_in_order(target, NAMES, file)
        for name in NAMES[:-1]:
            for ours, theirs in zip(
                target.get_layer(name).get_weights(), source.get_layer(name).get_weights(), strict=True
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-3 if halves else 0, atol=1e-3 if halves else 0)

    def test_a_transposed_convolution_becomes_the_logits_of_four_pixels(self, source, file):
        target = chain(last=(4, 1))
        load_in_order(target, NAMES, file)
        kernel, bias = source.get_layer("last").get_weights()  # (2, 2, 5, 1), as a file stores a transposed one, too
        ours, our_bias = target.get_layer("last").get_weights()
        for pixel, (row, column) in enumerate(np.ndindex(2, 2)):
            np.testing.assert_array_equal(ours[0, 0, :, pixel], kernel[row, column, :, 0])
        np.testing.assert_array_equal(our_bias, bias.repeat(4))

    def test_a_grey_picture_counts_as_three_equal_channels(self, source, file):
        target = chain(channels=1, last=(4, 1))
        load_in_order(target, NAMES, file)
        kernel = source.get_layer("stem").get_weights()[0]
        np.testing.assert_allclose(
            target.get_layer("stem").get_weights()[0], kernel.sum(axis=2, keepdims=True), rtol=1e-6
        )

    def test_for_other_classes_the_last_layer_stays_as_it_is(self, source, file):
        target = chain(classes=3, last=(4, 1))
        before = target.get_layer("last").get_weights()
        load_in_order(target, NAMES, file)
        np.testing.assert_array_equal(target.get_layer("last").get_weights()[0], before[0])
        np.testing.assert_array_equal(
            target.get_layer("stem").get_weights()[0], source.get_layer("stem").get_weights()[0]
        )

    def test_weights_of_another_network_are_refused(self, file):
        with pytest.raises(UsageError, match=r"chain.tflite — has 4 layers with weights — expected 3"):
            load_in_order(chain(), NAMES[1:], file)
        with pytest.raises(
            UsageError, match=r"weights \(4, 3, 3, 3\) at layer 1 — expected those of 'middle', \(1, 1, 4, 5\)"
        ):
            load_in_order(chain(), ["middle", "depthwise", "stem", "last"], file)

    def test_what_is_no_file_of_tensorflow_lite_is_refused(self, file, tmp_path):
        with pytest.raises(UsageError, match="no such file — expected"):
            load_in_order(chain(), NAMES, tmp_path)
        picture = tmp_path / "picture.png"
        picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
        with pytest.raises(UsageError, match=r"picture\.png — is no TensorFlow Lite file"):
            load_in_order(chain(), NAMES, picture)

    def test_a_damaged_file_is_refused_in_one_line(self, file, tmp_path):
        data, damaged = file.read_bytes(), tmp_path / "damaged.tflite"
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(40):
            where = int(rng.integers(8, 200))
            damaged.write_bytes(data[:where] + rng.bytes(4) + data[where + 4 :])
            try:
                load_in_order(chain(last=(4, 1)), NAMES, damaged)
            except UsageError as error:
                refused += 1
                assert "\n" not in str(error)
        damaged.write_bytes(data[: len(data) // 2])
        with pytest.raises(UsageError, match="is damaged"):
            load_in_order(chain(last=(4, 1)), NAMES, damaged)
        assert refused


class TestSelfie:
    def test_it_has_the_parameters_of_the_public_model(self):
        # 106,401 of the public one, whose last bias serves four pixels.
        shape = SelfieShape().for_public_weights()
        model = shape.build(height_px=32, width_px=48, channels=3, logit_channels=1)
        assert model.count_params() == 106_404
        assert model.output_shape == (None, 32, 48, 1)

    def test_every_layer_with_weights_is_in_the_order_once(self, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "training.network.tflite_weights.load_in_order", lambda model, names, file: seen.extend(names)
        )
        shape = SelfieShape().for_public_weights()
        model = shape.build(height_px=16, width_px=16, channels=3, logit_channels=1)
        shape.load_public_weights(model, None)
        assert sorted(seen) == sorted(layer.name for layer in model.layers if layer.weights)


class TestConfig:
    def test_it_starts_with_small_steps_and_without_normalisation(self):
        config = TrainConfig.from_preset("selfie", start_from="mediapipe:a.tflite")
        assert config.learning_rate == PRESETS["selfie"].learning_rate * GENTLE
        assert config.shape == SelfieShape(batch_norm=False)
        assert str(config.public_weights) == "a.tflite"
        chosen = TrainConfig.from_preset("selfie", start_from="mediapipe:a.tflite", learning_rate=1e-3)
        assert chosen.learning_rate == 1e-3
        assert TrainConfig.from_preset("selfie").shape.batch_norm

    @pytest.mark.parametrize(
        ("preset", "changes", "message"),
        [
            ("edge", {"start_from": "mediapipe:a"}, "preset 'edge' has no public weights — choose --preset selfie"),
            ("selfie", {"start_from": "a.tflite"}, "--start-from a.tflite — expected mediapipe:FILE"),
            ("selfie", {"start_from": "mediapipe:"}, "expected mediapipe:FILE"),
            ("selfie", {"encoder": "mobilenetv2"}, "has an encoder of its own"),
        ],
    )
    def test_weights_that_cannot_be_loaded_are_refused_at_once(self, preset, changes, message):
        with pytest.raises(UsageError, match=message):
            _ = TrainConfig.from_preset(preset, **changes).shape

    def test_a_recorded_configuration_names_its_start(self):
        config = TrainConfig.from_preset("selfie", start_from="mediapipe:a.tflite")
        assert config.to_dict()["start_from"] == "mediapipe:a.tflite"
        assert config.differences(dataclasses.replace(config, start_from=None).to_dict()) == [
            "start_from: None → mediapipe:a.tflite"
        ]
