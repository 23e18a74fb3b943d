import keras
import numpy as np
import pytest

from training.config import PRESETS
from training.unet import build_unet


def build(name, height_px=64, width_px=32, channels=3, logit_channels=4):
    plan = PRESETS[name].plan
    return build_unet(plan, height_px=height_px, width_px=width_px, channels=channels, logit_channels=logit_channels)


def test_the_seed_is_the_network_that_the_project_began_with():
    model = build("seed", 256, 256, channels=1, logit_channels=1)
    assert model.count_params() == 406_657
    assert model.input_shape == (None, 256, 256, 1)
    assert model.output_shape == (None, 256, 256, 1)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("channels", "logit_channels"), [(1, 1), (3, 4)])
def test_every_preset_gives_probabilities_at_the_size_of_its_input(name, channels, logit_channels):
    model = build(name, channels=channels, logit_channels=logit_channels)
    assert model.input_shape == (None, 64, 32, channels)
    assert model.get_layer("logits").output.shape == (None, 64, 32, logit_channels)
    assert model.get_layer("probabilities").activation.__name__ == ("sigmoid" if logit_channels == 1 else "softmax")
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 32, channels)).astype(np.float32)
    found = np.asarray(model.predict_on_batch(image))
    assert found.shape == (2, 64, 32, logit_channels)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    if logit_channels > 1:
        assert np.allclose(found.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_the_smallest_input_is_the_stride(name):
    stride = PRESETS[name].plan.stride
    model = build(name, stride, stride)
    assert model.output_shape == (None, stride, stride, 4)
    with pytest.raises(ValueError):
        build(name, stride + 1, stride)


def test_convolutions_have_a_bias_where_nothing_normalises_them():
    def with_bias(name):
        return {c.name for c in build(name).layers if isinstance(c, keras.layers.Conv2D) and c.use_bias}

    assert with_bias("classic") == {"logits"}
    assert with_bias("edge") == {"half_logits"}
    assert {"encoder_0_a", "bottleneck_b", "decoder_0_a", "logits"} <= with_bias("seed")


def test_pixels_are_scaled_by_a_factor_alone():
    scale = build("edge").get_layer("scale")
    assert (scale.scale, scale.offset) == (1 / 255, 0.0)
