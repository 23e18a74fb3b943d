"""The network that docs/adding-a-network.md shows."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from runs import random_unet, reloaded

from training.network.deploy import deployable

PAGE = Path(__file__).parents[2] / "docs/adding-a-network.md"


@pytest.fixture
def shape(monkeypatch):
    [written] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    module = ModuleType("training.network.strided")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(written, vars(module))
    return module.StridedShape(widths=(4, 8, 8))


@pytest.mark.parametrize("logit_channels", [1, 3])
def test_the_example_network_is_one_that_export_loads(shape, logit_channels):
    model = reloaded(random_unet(shape, logit_channels=logit_channels))
    assert model.get_layer("logits").output.shape == (None, 32, 64, logit_channels)


def test_the_saved_example_network_gives_what_was_trained(shape):
    trained = shape.build(height_px=8, width_px=12, channels=3, logit_channels=3, for_training=True)
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 3)).astype(np.float32)
    expected, found = (np.asarray(model(image, training=False)) for model in (trained, deployable(trained, shape)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
