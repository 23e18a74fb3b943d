"""Real training of tiny networks: what a run leaves behind, and what no accident may take away."""

import csv
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from datasets import DatasetFolder
from epochs import epoch_record

from edge_runtime import cli
from edge_runtime.model.contract import Contract
from training.config import TrainConfig
from training.data.check import check_dataset
from training.data.validation import with_validation
from training.errors import TrainingStopped
from training.fit.adjust import adjust_logits
from training.fit.interpolate import chosen_share, interpolate_weights
from training.fit.run import fit
from training.input.prepare import decode_splits
from training.loop.run_folder import open_run
from training.loop.trainer import archive_of
from training.monitor.progress import Silent
from training.monitor.records import EpochRecord, epochs_of_one_class
from training.report.words import time_shares

NEEDS_POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")
# In bfloat16, the rounding of sums in threads grows from step to step, and no two runs end alike.
EDGE = ("--preset", "edge", "--input-size", "32x32", "--epochs", "3", "--batch-size", "4", "--precision", "float32")
SEED = ("--preset", "seed", "--input-size", "32x32", "--batch-size", "8")


def command(*arguments):
    return [sys.executable, "-m", "edge_runtime", *map(str, arguments)]


def train(*arguments):
    """Train in this process, which has TensorFlow already; returns the exit code."""
    return cli.main(["train", *map(str, arguments)])


def record_of(run):
    return json.loads((run / "run.json").read_bytes())


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(path):
    return keras.models.load_model(path, compile=False).get_weights()


def stem_variance(run):
    """Return the mean moving variance behind the first filters of the best model."""
    return float(
        np.mean(keras.models.load_model(run / "best.keras", compile=False).get_layer("stem_norm").moving_variance)
    )


def whole_epochs(run):
    """Return the epochs of the best model and of the newest state, after asserting that run.json knows their bytes."""
    checkpoints = record_of(run)["checkpoints"]
    epochs = {}
    if (run / "best.keras").exists():
        known = {entry["sha256"]: entry["epoch"] for entry in checkpoints["best"]}
        assert digest(run / "best.keras") in known, "best.keras is half of something"
        epochs["best"] = known[digest(run / "best.keras")]
    for entry in checkpoints["states"]:
        assert digest(run / entry["file"]) == entry["sha256"], f"{entry['file']} is half of something"
    if checkpoints["states"]:
        epochs["last"] = checkpoints["states"][0]["epoch"]
    return epochs


def state(run):
    """Return the arrays of the newest state."""
    with np.load(run / record_of(run)["checkpoints"]["states"][0]["file"]) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = DatasetFolder(tmp_path_factory.mktemp("fit") / "data")
    folder.fill(8, "train").fill(4, "val", first_seed=50).yaml("classes: [background, red, blue]\n")
    return folder.root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of three epochs of the command in its own process; gives the folder and the finished process."""
    run = tmp_path_factory.mktemp("finished") / "run"
    child = subprocess.run(command("train", data, "--out", run, *EDGE), capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return run, child


class TestFinishedRun:
    def test_shows_every_epoch_and_says_where_to_look(self, finished):
        run, child = finished
        assert re.findall(r"^epoch +(\d)/3  loss \d", child.stderr, re.MULTILINE) == ["1", "2", "3"]
        assert "8 images to train on, 4 to validate" in child.stderr
        lines = child.stdout.splitlines()
        assert re.fullmatch(r"best mean IoU 0\.\d{4}, pixel accuracy 0\.\d{4} on 4 validation images", lines[0])
        assert lines[1:] == [
            f"{run}: report.html, best.keras, run.json, history.csv, pictures/, tensorboard/",
            f"next: edge-unet export {run} --out models/run",
        ]

    def test_holds_what_it_says_and_nothing_else(self, finished):
        run, _ = finished
        assert sorted(path.name for path in run.iterdir()) == [
            *("best.keras", "history.csv", "pictures", "report.html", "run.json", "run.lock"),
            *("state-00003-000000.npz", "tensorboard"),
        ]
        assert sorted(path.name for path in (run / "pictures").iterdir()) == [f"val{i}.png" for i in range(4)]
        assert [path.name.partition(".")[0] for path in (run / "tensorboard").iterdir()] == ["events"]

    def test_names_the_bytes_of_its_checkpoints(self, finished):
        run, _ = finished
        checkpoints, history = record_of(run)["checkpoints"], record_of(run)["history"]
        best = max(history, key=lambda row: row["val_mean_iou"])
        assert whole_epochs(run) == {"best": best["epoch"], "last": 3}
        assert checkpoints["best"][0]["sha256"] == digest(run / "best.keras")
        assert checkpoints["best"][0]["val_mean_iou"] == best["val_mean_iou"]

    def test_has_one_history_in_two_forms(self, finished):
        run, _ = finished
        history = record_of(run)["history"]
        with (run / "history.csv").open(newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        classes = [row.pop("val_class_iou") for row in history]
        assert rows == history
        assert [len(ious) for ious in classes] == [3, 3, 3]
        assert [row["epoch"] for row in history] == [1, 2, 3]
        assert all(np.isfinite(list(row.values())).all() for row in history)
        assert all(0 <= row[key] <= 1 for row in history for key in ("accuracy", "val_mean_iou", "val_pixel_accuracy"))
        assert history[-1]["loss"] < history[0]["loss"]

    def test_counts_the_time_of_checkpoints_and_logs_in_that_of_each_epoch(self, finished):
        record = record_of(finished[0])
        rests = [row["seconds"] - row["step_s"] - row["wait_s"] - row["validate_s"] for row in record["history"]]
        assert min(rests) > 1e-4, "three files are written and flushed to the disk"
        shares = time_shares([EpochRecord.from_dict(row) for row in record["history"]])
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["other"] == pytest.approx(sum(rests) / sum(row["seconds"] for row in record["history"]))

    def test_records_all_that_export_and_resume_need(self, finished, data):
        run, _ = finished
        record = record_of(run)
        assert record["status"] == "finished"
        assert (
            record["config"]
            == TrainConfig.from_preset(
                "edge", input_size=(32, 32), epochs=3, batch_size=4, precision="float32"
            ).to_dict()
        )
        contract = Contract.from_dict(record["contract"], "run.json")
        assert (contract.name, contract.height_px, contract.width_px, contract.channels) == ("run", 32, 32, 3)
        assert [c.name for c in contract.classes] == ["background", "red", "blue"]
        assert record["data"]["fingerprint"] == check_dataset(data).fingerprint
        assert record["data"]["splits"]["val"][0] == ["val/images/val0.png", "val/masks/val0.png"]
        assert len(record["data"]["splits"]["train"]) == 8
        assert record["versions"].keys() == {"edge-unet", "keras", "tensorflow", "numpy", "opencv-python", "python"}
        assert record["parameters"] == keras.models.load_model(run / "best.keras", compile=False).count_params()
        # The validation images have the model's size, so that both ways to measure see the same pixels.
        assert record["metrics"]["split"] == "val"
        # Six steps would leave the moving variance at 0.83 if it had begun at 1.
        assert stem_variance(run) < 0.1
        best = record["checkpoints"]["best"][0]
        gained = record["metrics"]["mean_iou"] - best["val_mean_iou"]
        assert gained > 0 if "logit_adjustment" in best else gained == pytest.approx(0, abs=1e-6)

    def test_resumed_stays_as_it_is(self, finished, data, tmp_path, capsys):
        run = shutil.copytree(finished[0], tmp_path / "run")
        assert train(data, "--out", run, *EDGE, "--resume") == 0
        assert "resuming after epoch 3 from state-00003-000000.npz" in capsys.readouterr().err
        before, after = record_of(finished[0]), record_of(run)
        for name in ("best.keras", "state-00003-000000.npz", "history.csv"):
            assert digest(run / name) == digest(finished[0] / name), name
        assert after["history"] == before["history"]
        assert after["metrics"]["mean_iou"] == pytest.approx(before["metrics"]["mean_iou"])
        assert after["status"] == "finished"


def test_steps_see_crops_and_the_saved_model_takes_whole_images(data, tmp_path, monkeypatch):
    run, adjusted = tmp_path / "run", []
    monkeypatch.setattr("training.fit.run.adjust_logits", lambda folder, *_: adjusted.append(folder.root))
    options = ("--preset", "edge", "--input-size", "64x96", "--crop", "32x64", "--batch-size", "4", "--epochs", "1")
    assert train(data, "--out", run, *options) == 0
    assert keras.models.load_model(run / "best.keras", compile=False).input_shape == (None, 64, 96, 3)
    record = record_of(run)
    assert (record["config"]["crop"], record["contract"]["height_px"]) == ([32, 64], 64)
    more = ("--force-resume", "--epochs", "2")
    assert train(data, "--out", run, *options[:-2], *more) == 0
    assert len(record_of(run)["history"]) == 2
    assert adjusted == [run, run], "each training ends with the adjustment"


def model_of_colors():
    """A model that tells red and blue by the difference of the channels, and finds red wherever that is not clear."""
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(3, 1, name="logits"), keras.layers.Softmax()]
    )
    kernel = np.array([[0, 1, -1], [0, 0, 0], [0, -1, 1]]) / 60
    model.get_layer("logits").set_weights([kernel[np.newaxis, np.newaxis], np.array([1, 3, 0])])
    return model


def test_a_model_that_finds_a_class_too_often_is_adjusted_and_the_adjustment_recorded(data, tmp_path):
    out, names, notes = tmp_path / "run", ["background", "red", "blue"], []
    report = check_dataset(data)
    config = TrainConfig.from_preset("edge", input_size=(32, 32))
    _, validation = decode_splits(config, report, report.dataset, tmp_path, lambda *_: None)
    with open_run(out, resume=False) as run:
        run.write_best(archive_of(model_of_colors(), run.root), epoch=8, val_mean_iou=0.5)
        for _ in range(2):  # the second time, as after a resumed run without a better model, nothing is left to do
            adjust_logits(run, validation, names, notes.append)
        entry = record_of(out)["checkpoints"]["best"][0]
        assert entry["sha256"] == digest(out / "best.keras")
        assert (entry["epoch"], entry["val_mean_iou"]) == (8, 0.5)
        assert -3 <= entry["logit_adjustment"]["red"] - entry["logit_adjustment"]["background"] <= -2
    (note,) = notes
    assert re.match(r"logits adjusted: .*; mean IoU \+0\.\d+ on halves of the validation images", note)
    with open_run(out, resume=True) as run:
        assert run.record.best[0].logit_adjustment == entry["logit_adjustment"]


@pytest.mark.parametrize("best_in_between", [True, False])
def test_the_weights_between_public_and_trained_that_are_best_are_kept(best_in_between, data, tmp_path):
    out, notes, progress = tmp_path / "run", [], []
    report = check_dataset(data)
    config = TrainConfig.from_preset("edge", input_size=(32, 32))
    _, validation = decode_splits(config, report, report.dataset, tmp_path, lambda *_: None)
    trained = model_of_colors()
    head = trained.get_layer("logits")
    kernel, start_bias = head.get_weights()[0], np.array([1, 4, -4], np.float32)
    # The start finds red everywhere that is unclear, the end blue; in the middle neither.
    end_bias = np.array([1, -4, 4] if best_in_between else [1, 0, 0], np.float32)
    with open_run(out, resume=False) as run:
        head.set_weights([kernel, start_bias])
        trained.save(run.start)
        head.set_weights([kernel, end_bias])
        run.write_best(archive_of(trained, run.root), epoch=8, val_mean_iou=0.5)
        before = digest(run.best)
        for _ in range(2):  # the second time, as after a resumed run, nothing is left to do
            head.set_weights([kernel, end_bias])
            interpolate_weights(run, trained, validation, notes.append, lambda *step: progress.append(step))
        entry = record_of(out)["checkpoints"]["best"][0]
        assert entry["sha256"] == digest(run.best)
    if not best_in_between:
        assert digest(out / "best.keras") == before and not notes and "trained_share" not in entry
        return
    assert 0.35 <= entry["trained_share"] <= 0.65
    assert len(notes) == 1 and re.match(r"weights mixed: \d0% trained, the rest from the start; mean IoU", notes[0])
    assert progress == [("mixing weights", number, 10) for number in range(10)]
    kept = keras.models.load_model(out / "best.keras", compile=False).get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(kept, start_bias + entry["trained_share"] * (end_bias - start_bias), atol=1e-6)
    with open_run(out, resume=True) as run:
        assert run.record.best[0].trained_share == entry["trained_share"]
        # A run that was trained on has another end, and is mixed again.
        head.set_weights([kernel, start_bias])
        run.write_best(archive_of(trained, run.root), epoch=0, val_mean_iou=0.1, trained_share=0.5)
        run.add_epoch(epoch_record(1))
        head.set_weights([kernel, end_bias])
        interpolate_weights(run, trained, validation, lambda _: None, lambda *_: None)
        again = run.best_on_disk()
        assert (again.epoch, again.trained_share) == (1, entry["trained_share"])


@pytest.mark.parametrize(
    ("found", "share"),
    [
        pytest.param({0.1: 0.80, 0.2: 0.82, 0.3: 0.81, 1.0: 0.7}, 0.2, id="the best"),
        pytest.param({0.1: 0.8198, 0.2: 0.82, 0.3: 0.8198, 1.0: 0.7}, 0.3, id="of those alike the most trained"),
        pytest.param({0.1: 0.82, 0.2: 0.8, 0.3: 0.8, 1.0: 0.8194}, 0.1, id="not what is worse"),
    ],
)
def test_of_shares_alike_the_most_trained_is_taken(found, share):
    assert chosen_share(found) == share


class Interrupting(Silent):
    """A progress display whose user presses Ctrl-C at the end of an epoch."""

    def __init__(self, epoch):
        self._epoch = epoch

    def step(self, epoch, share, loss, images):
        assert 0 < share <= 1

    def epoch(self, record, *, best):
        if record.epoch == self._epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def resumed(data, tmp_path_factory):
    """The run of ``finished``, interrupted after its second epoch and taken up again."""
    root = tmp_path_factory.mktemp("resumed") / "run"
    config, report = (
        TrainConfig.from_preset("edge", input_size=(32, 32), epochs=3, batch_size=4, precision="float32"),
        check_dataset(data),
    )
    with open_run(root, resume=False) as run, pytest.raises(KeyboardInterrupt):
        fit(config, report, with_validation(config, report), run, Interrupting(2))
    assert [row["epoch"] for row in record_of(root)["history"]] == [1, 2]
    assert record_of(root)["status"] == "running"
    assert train(data, "--out", root, *EDGE, "--resume") == 0
    return root


class TestResumedRun:
    def test_goes_on_with_the_next_epoch(self, resumed):
        assert [row["epoch"] for row in record_of(resumed)["history"]] == [1, 2, 3]
        assert len((resumed / "history.csv").read_text().splitlines()) == 4

    def test_ends_where_an_undisturbed_run_ends(self, resumed, finished):
        undisturbed, _ = finished
        for there, here in zip(record_of(undisturbed)["history"], record_of(resumed)["history"], strict=True):
            for key in ("loss", "accuracy", "val_mean_iou", "val_pixel_accuracy", "learning_rate"):
                assert here[key] == pytest.approx(there[key], rel=1e-3, abs=1e-4), (here["epoch"], key)
        before, after = state(undisturbed), state(resumed)
        assert after.keys() == before.keys()
        for name, there in before.items():
            assert np.allclose(after[name], there, rtol=1e-3, atol=1e-4), name

    @pytest.mark.parametrize(
        ("options", "change"),
        [
            (("--batch-size", "2"), "batch_size: 4 → 2"),
            (("--learning-rate", "0.5", "--seed", "7"), "learning_rate: 0.004 → 0.5; seed: 0 → 7"),
        ],
    )
    def test_refuses_another_configuration_with_the_difference(self, resumed, data, capsys, options, change):
        before = record_of(resumed)
        assert train(data, "--out", resumed, *EDGE, *options, "--resume") == 2
        err = capsys.readouterr().err
        assert err.startswith(f"edge-unet: --resume {resumed} — changed: {change}")
        assert err.endswith(" — start a new run with another --out, or pass --force-resume\n")
        assert record_of(resumed) == before

    def test_goes_on_with_another_configuration_if_that_is_forced(self, resumed, data, tmp_path, capsys):
        run = shutil.copytree(resumed, tmp_path / "run")
        options = ("--learning-rate", "0.0005", "--epochs", "4", "--force-resume")
        assert train(data, "--out", run, *EDGE, *options) == 0
        assert "changed since this run began: learning_rate: 0.004 → 0.0005" in capsys.readouterr().err
        assert [row["epoch"] for row in record_of(run)["history"]] == [1, 2, 3, 4]
        assert record_of(run)["config"]["learning_rate"] == 0.0005

    @pytest.mark.slow
    def test_an_encoder_needs_its_weights_only_to_begin(self, data, tmp_path):
        weights = tmp_path / "encoder.weights.h5"
        keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(64, 64, 3)).save_weights(
            weights
        )
        options = ("--preset", "edge-nano", "--encoder", "mobilenetv3small", "--encoder-weights", weights)
        options = (*options, "--input-size", "32x32", "--batch-size", "4", "--out", tmp_path / "run")
        assert train(data, *options, "--epochs", "1") == 0
        weights.unlink()
        assert train(data, *options, "--epochs", "2", "--resume") == 0
        assert [row["epoch"] for row in record_of(tmp_path / "run")["history"]] == [1, 2]

    @pytest.mark.slow
    def test_from_a_trained_encoder_to_a_package(self, data, tmp_path):
        """The weights are trained here for a moment, because nothing may be downloaded."""
        options = (
            "--preset",
            "edge-nano",
            "--encoder",
            "mobilenetv3small",
            "--input-size",
            "64x64",
            "--batch-size",
            "4",
        )
        assert train(data, *options, "--out", tmp_path / "first", "--epochs", "2") == 0
        trained = keras.models.load_model(tmp_path / "first" / "best.keras", compile=False)
        source = keras.applications.MobileNetV3Small(
            weights=None, include_top=False, include_preprocessing=False, input_shape=(64, 64, 3)
        )
        names = {layer.name for layer in trained.layers}
        for layer in source.layers:
            if layer.weights and layer.name in names:
                layer.set_weights(trained.get_layer(layer.name).get_weights())
        weights = tmp_path / "encoder.weights.h5"
        source.save_weights(weights)
        tuned = tmp_path / "tuned"
        assert train(data, *options, "--encoder-weights", weights, "--out", tuned, "--epochs", "10") == 0
        assert cli.main(["export", str(tuned), "--out", str(tmp_path / "package"), "--int8", "off"]) == 0
        manifest = json.loads((tmp_path / "package" / "manifest.json").read_text())
        assert manifest["parity"]["max_abs_diff"] <= 1e-4
        # The encoder has hardly moved, and what is new has learned.
        after = keras.models.load_model(tuned / "best.keras", compile=False)
        name = "expanded_conv_1_expand"
        moved = np.abs(after.get_layer(name).kernel - source.get_layer(name).kernel).max()
        assert 0 < moved < 0.01

    def test_refuses_other_data(self, resumed, data, tmp_path, capsys):
        other = shutil.copytree(data, tmp_path / "data")
        shutil.copy(other / "train" / "masks" / "train1.png", other / "train" / "masks" / "train0.png")
        assert train(other, "--out", resumed, *EDGE, "--resume") == 2
        assert (
            "— changed: pairs: 1 changed (first: train/images/train0.png) — start a new run" in capsys.readouterr().err
        )

    @pytest.mark.parametrize(
        ("options", "classes", "change"),
        [
            (("--preset", "seed"), 3, "preset: edge → seed"),
            ((), 4, "classes: added other — a run with 3 classes cannot go on with 4"),
            (("--input-size", "96x96"), 3, "height_px: "),
        ],
    )
    def test_refuses_what_its_weights_do_not_fit_even_if_forced(
        self, resumed, data, tmp_path, capsys, options, classes, change
    ):
        other = shutil.copytree(data, tmp_path / "data")
        (other / "dataset.yaml").write_text(
            f"classes: [{', '.join(['background', 'red', 'blue', 'other'][:classes])}]\n"
        )
        before = record_of(resumed)
        assert train(other, "--out", resumed, *EDGE, *options, "--force-resume") == 2
        err = capsys.readouterr().err
        assert err.splitlines()[-1].startswith(f"edge-unet: --force-resume {resumed} — changed: {change}")
        assert err.endswith(" — start a new run with another --out\n")
        assert record_of(resumed) == before

    def test_refuses_another_keras(self, resumed, data, tmp_path, capsys):
        run = shutil.copytree(resumed, tmp_path / "run")
        record = record_of(run)
        record["versions"]["keras"] = "3.0.0"
        (run / "run.json").write_text(json.dumps(record))
        assert train(data, "--out", run, *EDGE, "--resume") == 2
        assert "— changed: keras: 3.0.0 → " in capsys.readouterr().err


class TestDivergence:
    def test_stops_within_a_step_and_keeps_the_checkpoints_of_before(self, data, tmp_path, capsys):
        # One step an epoch: the first leaves weights of 1e30, finite still, and the second cannot compute with them.
        run = tmp_path / "run"
        assert train(data, "--out", run, *SEED, "--learning-rate", "1e30") == 8
        err = capsys.readouterr().err.splitlines()[-1]
        assert err.startswith("edge-unet: training: epoch 2, step 1 — loss is nan — expected a finite number — ")
        assert "lower --learning-rate (now 1e+30), or look at the images of this batch: " in err
        images = data / "train" / "images"
        assert sorted(err.rpartition(": ")[2].split(", ")) == [str(images / f"train{i}.png") for i in range(8)]
        assert whole_epochs(run) == {"best": 1, "last": 1}
        assert all(np.isfinite(array).all() for array in weights(run / "best.keras"))
        assert record_of(run)["status"] == "running"

    def test_a_weight_that_is_not_finite_is_never_written(self, data, tmp_path, capsys):
        run = tmp_path / "run"
        assert train(data, "--out", run, *SEED, "--learning-rate", "1e39") == 8
        err = capsys.readouterr().err.splitlines()[-1]
        assert re.match(r"edge-unet: training: epoch 1 — weight \S+ is not finite — lower --learning-rate; ", err)
        assert whole_epochs(run) == {}
        assert not list(run.glob("*.keras")) + list(run.glob("*.npz"))


def test_training_that_finds_nothing_but_one_class_says_so_once(data, tmp_path, capsys):
    options = (*SEED, "--epochs", "7", "--learning-rate", "1e-9", "--seed", "3")
    assert train(data, "--out", tmp_path / "run", *options) == 0
    assert {sum(bool(iou) for iou in epoch["val_class_iou"]) for epoch in record_of(tmp_path / "run")["history"]} == {1}
    said = [line for line in capsys.readouterr().err.splitlines() if "has found nothing but" in line]
    assert len(said) == 1
    assert re.search(
        r"nothing but '(background|red|blue)' for 5 epochs: .* a larger --input-size .* 32x32 pixels", said[0]
    )


@pytest.mark.parametrize(
    ("found", "epochs"),
    [([(0.9, 0.0)] * 3, 3), ([(0.9, 0.0), (0.9, 0.1)], 0), ([(0.9, 0.1), (0.9, 0.0), (0.8, None)], 2), ([], 0)],
)
def test_epochs_in_a_row_that_found_one_class_are_counted(found, epochs):
    history = [epoch_record(i + 1, val_class_iou=ious) for i, ious in enumerate(found)]
    assert epochs_of_one_class(history) == epochs


@pytest.fixture(scope="module")
def short(data, tmp_path_factory):
    """A run whose time was up in its first epoch."""
    run = tmp_path_factory.mktemp("short") / "run"
    assert train(data, "--out", run, *SEED, "--epochs", 1000, "--max-minutes", "0.00001") == 0
    return run


def test_no_time_at_all_still_gives_one_checkpoint(short):
    record = record_of(short)
    assert (len(record["history"]), record["status"]) == (1, "finished")
    assert whole_epochs(short) == {"best": 1, "last": 1}


UNDER_A_FILE_SIZE_LIMIT = """
import resource, sys
from edge_runtime.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
sys.exit(main(sys.argv[1:]))
"""


@NEEDS_POSIX
def test_a_full_disk_keeps_the_checkpoint_of_before(short, data, tmp_path):
    run = shutil.copytree(short, tmp_path / "run")
    arguments = ["train", data, "--out", run, *SEED, "--epochs", "5", "--max-minutes", "5", "--resume"]
    child = subprocess.run(
        [sys.executable, "-c", UNDER_A_FILE_SIZE_LIMIT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 6, child.stderr
    last_line = child.stderr.splitlines()[-1]
    assert re.match(
        rf"edge-unet: cannot write {run}/\S+\.(keras|npz) — file too large — raise the file size limit", last_line
    )
    assert digest(run / "best.keras") == digest(short / "best.keras")
    assert whole_epochs(run) == {"best": 1, "last": 1}
    assert all(np.isfinite(array).all() for array in state(run).values())
    assert not list(run.glob(".*"))


UNDER_A_MEMORY_LIMIT = """
import resource, sys
from pathlib import Path
import training.fit.run  # TensorFlow's own memory is not counted
from edge_runtime.cli import main
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1500 * 2**20,) * 2)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="limits of Linux")  # noqa: PTH112
def test_too_little_memory_names_the_batch_size(data, tmp_path):
    arguments = ["train", data, "--out", tmp_path / "run", "--input-size", "512x512", "--batch-size", 64, "--epochs", 1]
    child = subprocess.run(
        [sys.executable, "-c", UNDER_A_MEMORY_LIMIT, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 2, child.stderr
    last_line = child.stderr.splitlines()[-1]
    assert last_line.startswith("edge-unet: --batch-size 64 --input-size 512x512 — out of memory in a training step — ")


class Victim:
    """A training process, to be stopped or killed; whatever happens, it is gone after the ``with`` block."""

    def __init__(self, data, run, log, *options):
        self._run = run
        self._log = log
        with log.open("wb") as file:
            arguments = command("train", data, "--out", run, *SEED, *options, "--resume")
            self._process = subprocess.Popen(arguments, stdout=file, stderr=file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def announced(self):
        """Return the epochs that it has told its user are done."""
        return [int(epoch) for epoch in re.findall(r"^epoch +(\d+)/", self._log.read_text(), re.MULTILINE)]

    def wait_for_an_epoch(self):
        self._poll(self.announced)

    def wait_for_a_file(self, pattern):
        self._poll(lambda: next(self._run.glob(pattern), None))

    def wait(self, seconds):
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return
        pytest.fail(f"ended by itself: {self._log.read_text()}")

    def send(self, number):
        """Send a signal; returns the exit code and what it said."""
        self._process.send_signal(number)
        return self._process.wait(timeout=120), self._log.read_text()

    def _poll(self, condition):
        deadline_s = time.monotonic() + 120
        while not condition():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline_s, self._log.read_text()


@NEEDS_POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(data, tmp_path, number, code):
    run = tmp_path / "run"
    run.mkdir()
    with Victim(data, run, tmp_path / "log", "--batch-size", 1, "--epochs", 100_000) as victim:
        victim.wait_for_an_epoch()
        ended, text = victim.send(number)
    assert ended == code, text
    assert "stopping after this step; once more to stop at once" in text
    last = text.splitlines()[-1]
    assert re.fullmatch(
        r"stopped in epoch \d+, after step \d of 8 — saved — go on with the same command and --resume", last
    )
    newest = record_of(run)["checkpoints"]["states"][0]
    assert (newest["epoch"] + 1, newest["step"]) == tuple(map(int, re.findall(r"(?:epoch|step) (\d+)", last)))
    epochs = newest["epoch"] + 2
    assert train(data, "--out", run, *SEED, "--batch-size", 1, "--epochs", epochs, "--resume") == 0
    assert [row["epoch"] for row in record_of(run)["history"]] == list(range(1, epochs + 1))


def test_a_stop_while_images_are_read_ends_at_once(data, tmp_path):
    config, report = (
        TrainConfig.from_preset("edge", input_size=(32, 32), epochs=3, batch_size=4, precision="float32"),
        check_dataset(data),
    )
    with open_run(tmp_path / "run", resume=False) as run, pytest.raises(TrainingStopped, match="reading train images"):
        fit(config, report, with_validation(config, report), run, Interrupting(9), should_stop=lambda: True)


@NEEDS_POSIX
def test_a_stop_before_anything_is_saved_does_not_say_saved(data, tmp_path, monkeypatch, capsys):
    def stop_at_once(config, report, validated, run, progress, **options):
        raise TrainingStopped("stopped while reading train images")

    monkeypatch.setattr("training.fit.run.fit", stop_at_once)
    assert train(data, "--out", tmp_path / "run", *SEED) == 130
    assert "stopped while reading train images — go on with the same command and --resume" in capsys.readouterr().err


ENOUGH_EPOCHS = 400


def survive(kills, data, tmp_path, *, epochs):
    """Kill a run again and again, each time in the run that resumes the one before; at last let it finish."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    run, saved = tmp_path / "run", 0
    run.mkdir()
    for number, kind in enumerate(kills):
        with Victim(data, run, tmp_path / f"log{number}", "--epochs", epochs) as victim:
            if kind == "start":
                victim.wait(rng.uniform(0, 6))
            else:
                victim.wait_for_an_epoch()
            if kind == "delay":
                victim.wait(rng.uniform(0, 1))
            elif kind != "start":
                victim.wait_for_a_file(kind)
            assert victim.send(signal.SIGKILL)[0] == -signal.SIGKILL
        announced = victim.announced()
        if announced:
            assert announced == list(range(saved + 1, announced[-1] + 1)), "an epoch was done twice or left out"
        if (run / "run.json").exists():
            before, saved = saved, whole_epochs(run).get("last", 0)
            assert saved in (max([before, *announced]), max([before, *announced]) + 1), "an announced epoch is lost"
        print(f"kill {number}, {kind}: epoch {saved}, left {sorted(p.name for p in run.glob('.*'))}")
    epochs = max(epochs if epochs == ENOUGH_EPOCHS else 0, saved + 1)
    assert train(data, "--out", run, *SEED, "--epochs", epochs, "--resume") == 0
    record = record_of(run)
    assert [row["epoch"] for row in record["history"]] == list(range(1, epochs + 1))
    assert len((run / "history.csv").read_text().splitlines()) == epochs + 1
    best = max(record["history"], key=lambda row: row["val_mean_iou"])
    assert whole_epochs(run) == {"best": best["epoch"], "last": epochs}
    assert not list(run.glob(".*"))
    return record


@NEEDS_POSIX
def test_kill_9_loses_no_more_than_the_running_epoch(data, tmp_path):
    survive(("delay", ".state-*.tmp.npz", ".run.*.tmp.json"), data, tmp_path, epochs=100_000)


@pytest.mark.slow
@NEEDS_POSIX
def test_fifty_times_kill_9_lose_no_checkpoint_and_end_where_an_undisturbed_run_ends(data, tmp_path):
    inside_a_save = (".state-*.tmp.npz", ".best.*.tmp.keras", ".run.*.tmp.json", ".state-*.tmp.npz", ".run.*.tmp.json")
    kills = ["start", *(kind for inside in inside_a_save * 5 for kind in ("delay", inside))][:50]
    record = survive(kills, data, tmp_path, epochs=ENOUGH_EPOCHS)
    assert train(data, "--out", tmp_path / "calm", *SEED, "--epochs", ENOUGH_EPOCHS) == 0
    calm, disturbed = record_of(tmp_path / "calm")["metrics"], record["metrics"]
    print(f"mean IoU {disturbed['mean_iou']:.4f} after {len(kills)} kills, undisturbed {calm['mean_iou']:.4f}")
    assert disturbed["mean_iou"] == pytest.approx(calm["mean_iou"], abs=0.005)
