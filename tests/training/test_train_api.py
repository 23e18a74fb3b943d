"""Training from Python: what the command does, without its exits and signal handlers."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from datasets import DatasetFolder

import training
from edge_runtime.errors import UsageError
from training import (
    PRESETS,
    DataError,
    DivergedError,
    Preset,
    ResumeError,
    Silent,
    TrainConfig,
    TrainingStopped,
    UNetShape,
    build,
    train,
)
from training.network.deploy import deployable

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = DatasetFolder(tmp_path_factory.mktemp("api") / "data")
    folder.fill(6, "train").fill(2, "val", first_seed=50).yaml("classes: [background, red, blue]\n")
    return folder.root


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """A network that no other module knows: one convolution, and one batch normalisation that training makes fast."""

    width: int

    @property
    def stride(self):
        return 4

    def build(self, *, height_px, width_px, channels, logit_channels, for_training=False):
        from keras import layers

        from training.network.blocks import normalisation
        from training.network.frame import finished_network, scaled_pixels

        image, x = scaled_pixels(height_px, width_px, channels)
        x = normalisation("norm")(layers.Conv2D(self.width, 3, strides=4, padding="same", name="conv")(x))
        x = layers.UpSampling2D(4, name="up")(layers.ReLU(name="relu")(x))
        logits = layers.Conv2D(logit_channels, 1, name="logits", dtype="float32")(x)
        return finished_network("tiny", image, logits, for_training=for_training)


@pytest.fixture
def tiny(monkeypatch):
    """A preset of a network of its own shape."""
    monkeypatch.setitem(PRESETS, "tiny", Preset(shape=TinyShape(width=4), input_size=(16, 16), augment=False))
    return PRESETS["tiny"].shape


class Notes(Silent):
    def __init__(self):
        self.lines, self.stages = [], []

    def note(self, text):
        self.lines.append(text)

    def advance(self, what, done, total):
        self.stages += [what] if done == 0 else []


class TestANetworkOfItsOwn:
    def test_is_trained_and_saved_by_its_preset_alone(self, tiny, data, tmp_path):
        config = TrainConfig.from_preset("tiny", epochs=2, batch_size=2, input_size=(32, 32))
        result = train(str(data), str(tmp_path / "run"), config)
        saved = keras.models.load_model(tmp_path / "run" / "best.keras", compile=False)
        assert saved.name == "tiny"
        assert all(getattr(keras.layers, type(layer).__name__, None) is type(layer) for layer in saved.layers)
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert (record["parameters"], record["status"]) == (saved.count_params(), "finished")
        assert record["metrics"]["mean_iou"] == result.mean_iou

    def test_gives_when_saved_what_was_trained(self, tiny):
        trained = tiny.build(height_px=16, width_px=8, channels=3, logit_channels=3, for_training=True)
        image = np.random.default_rng(0).integers(0, 256, (1, 16, 8, 3)).astype(np.float32)
        plain = deployable(trained, tiny)
        assert type(trained.get_layer("norm")) is not type(plain.get_layer("norm"))
        np.testing.assert_allclose(plain(image), trained(image, training=False), rtol=0, atol=1e-5)

    def test_needs_its_own_stride(self, tiny):
        with pytest.raises(UsageError, match=r"height is 18 — preset 'tiny' needs a multiple of 4 — use 16 or 20$"):
            TrainConfig.from_preset("tiny", input_size=(18, 16))

    def test_takes_no_other_encoder(self, tiny):
        with pytest.raises(UsageError) as refused:
            TrainConfig.from_preset("tiny", encoder="mobilenetv2")
        assert str(refused.value) == (
            "--encoder mobilenetv2 — preset 'tiny' has an encoder of its own — leave --encoder out, or choose another --preset"
        )


class TestBuild:
    def test_takes_a_shape_or_a_preset(self):
        model = build("edge", input_size=(32, 64), classes=4)
        assert (model.input_shape, model.output_shape) == ((None, 32, 64, 3), (None, 32, 64, 4))
        assert build(UNetShape(widths=(4, 8), batch_norm=False), input_size=(4, 4), classes=2).output_shape[-1] == 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"network": "big"}, "--preset big — no such preset"),
            ({"input_size": (33, 32)}, r"33x32: height is 33 — preset 'edge' needs a multiple of 32 — use 32 or 64$"),
            ({"network": UNetShape(widths=(4, 8), batch_norm=False), "input_size": (8, 9)}, "the network needs a mult"),
            ({"classes": 1}, "classes 1 — expected 2 or more"),
        ],
    )
    def test_refuses_what_cannot_work(self, changes, message):
        with pytest.raises(UsageError, match=message):
            build(**{"network": "edge", "input_size": (32, 32), "classes": 3, **changes})


class TestTrain:
    def test_chooses_the_sizes_that_are_left_open_and_keeps_them(self, tiny, data, tmp_path):
        notes = Notes()
        train(data, tmp_path / "run", TrainConfig.from_preset("tiny", epochs=1), progress=notes)
        assert [line.partition(":")[0] for line in notes.lines][:2] == ["input size 16x16", "batch size 4"]
        assert notes.stages == ["checking", "reading train images", "reading val images", "measuring the best epoch"]
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert "from_data" not in record["config"]
        again = Notes()
        train(data, tmp_path / "run", TrainConfig.from_preset("tiny", epochs=2), resume=True, progress=again)
        assert not [line for line in again.lines if "size" in line]
        after = json.loads((tmp_path / "run" / "run.json").read_text())
        assert len(after["history"]) == 2
        assert after["config"] == {**record["config"], "epochs": 2}

    def test_raises_and_leaves_signals_alone(self, tiny, data, tmp_path):
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        config = TrainConfig.from_preset("tiny", epochs=1, batch_size=2)
        during = []

        class Looking(Silent):
            def step(self, epoch, share, loss, images):
                during.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])

        train(data, tmp_path / "run", config, progress=Looking())
        assert during == [before] * 3
        with pytest.raises(UsageError, match="not empty"):
            train(data, tmp_path / "run", config)
        with pytest.raises(ResumeError, match="changed: seed: 0 → 1"):
            train(data, tmp_path / "run", TrainConfig.from_preset("tiny", epochs=1, batch_size=2, seed=1), resume=True)
        with pytest.raises(TrainingStopped, match="stopped while reading train images"):
            train(data, tmp_path / "stopped", config, should_stop=lambda: True)
        with pytest.raises(DivergedError):
            huge = TrainConfig.from_preset("tiny", epochs=1, batch_size=2, learning_rate=1e39)
            train(data, tmp_path / "diverged", huge)

    def test_refuses_bad_data_before_a_run_is_begun(self, dataset, tmp_path):
        dataset.mask("0.png", b"")
        with pytest.raises(DataError, match="empty file"):
            train(dataset.root, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_importing_it_loads_nothing_of_the_workstation():
    code = "import sys, training; training.TrainConfig, training.UNetShape; print(*sorted(sys.modules))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert not {"keras", "tensorflow", "numpy", "cv2", "rich", "yaml"} & set(child.stdout.split())


def test_every_public_name_is_there_and_described():
    assert all(getattr(training, name).__doc__ for name in training.__all__)
    with pytest.raises(AttributeError, match="module 'training' has no attribute 'fits'"):
        _ = training.fits
