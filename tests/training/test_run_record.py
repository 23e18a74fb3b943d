"""``run.json`` as objects and back: nothing is lost, and what is not ours is named."""

import copy
import hashlib
import json
from dataclasses import replace

import pytest
from epochs import epoch_record

from edge_runtime.model.contract import Contract
from training.config import TrainConfig
from training.data.check import check_dataset
from training.errors import ResumeError
from training.loop.run_record import BestEntry, EpochSums, RunRecord, StateEntry
from training.loop.run_setup import contract_for, setup_of


@pytest.fixture
def record(dataset):
    """A record in which everything is set."""
    config, report = TrainConfig.from_preset("edge", input_size=(32, 64), epochs=3), check_dataset(dataset.root)
    setup = setup_of(config, report, report.dataset, contract_for(config, report, "run"))
    sums = EpochSums(loss=0.5, accuracy=0.25, step_s=2.0, wait_s=1.0, seconds=3.5)
    return RunRecord(
        history=(epoch_record(1), epoch_record(2, val_class_iou=(0.5, None, 1.0))),
        best=(BestEntry(epoch=2, sha256="ab", val_mean_iou=0.5),),
        states=(StateEntry(file="state-00002-000003.npz", sha256="cd", epoch=2, step=3, elapsed_s=12.5, sums=sums),),
        elapsed_s=12.5,
        status="running",
        setup=setup,
        parameters=1234,
        metrics={"split": "val", "mean_iou": 0.5, "per_class_iou": {"blue": None}},
    )


def as_json(record):
    return json.loads(json.dumps(record.to_dict()))


def test_nothing_is_lost_on_the_way_through_json(record):
    assert RunRecord.from_dict(as_json(record), "run.json") == record
    assert RunRecord.from_dict(as_json(RunRecord()), "run.json") == RunRecord()
    begun = replace(record, parameters=None, metrics=None)
    assert RunRecord.from_dict(as_json(begun), "run.json") == begun


def test_an_image_without_a_mask_is_kept_as_such(record, dataset):
    (dataset.root / "masks" / "1.png").unlink()
    report = check_dataset(dataset.root, empty_without_mask=True)
    config = TrainConfig.from_preset("edge", input_size=(32, 64), epochs=3)
    setup = setup_of(config, report, report.dataset, contract_for(config, report, "run"))
    value = as_json(replace(record, setup=setup))
    assert value["data"]["splits"]["train"][1] == ["images/1.png", None]
    assert RunRecord.from_dict(value, "run.json").setup == setup


def test_the_layout_of_the_file_stays(record):
    value = as_json(record)
    assert list(value) == [
        *("format_version", "history", "checkpoints", "elapsed_s", "status", "config", "contract", "data", "versions"),
        *("seed", "parameters", "metrics"),
    ]
    assert value["format_version"] == 2
    assert value["config"] == TrainConfig.from_preset("edge", input_size=(32, 64), epochs=3).to_dict()
    assert Contract.from_dict(value["contract"], "run.json").name == "run"
    assert list(value["data"]) == ["root", "fingerprint", "mask_encoding", "labels", "splits", "digests"]
    assert value["data"]["splits"]["train"][0] == ["images/0.png", "masks/0.png"]
    assert value["checkpoints"] == {
        "best": [{"epoch": 2, "sha256": "ab", "val_mean_iou": 0.5}],
        "states": [
            {
                "file": "state-00002-000003.npz",
                "sha256": "cd",
                "epoch": 2,
                "step": 3,
                "elapsed_s": 12.5,
                "loss": 0.5,
                "accuracy": 0.25,
                "step_s": 2.0,
                "wait_s": 1.0,
                "seconds": 3.5,
            }
        ],
    }


def test_the_files_of_a_pair_are_told_apart_by_the_beginnings_of_their_digests(record, dataset):
    pair = [dataset.root / name for name in record.setup.data.splits["train"][0]]
    expected = "".join(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in pair)
    assert as_json(record)["data"]["digests"]["train"][0] == expected


def test_a_record_of_before_digests_is_read(record):
    value = as_json(record)
    del value["data"]["digests"]
    assert RunRecord.from_dict(value, "run.json").setup.data.digests is None


def test_an_epoch_of_before_classes_were_recorded_is_read(record):
    value = as_json(record)
    for row in value["history"]:
        del row["val_class_iou"]
    assert [row.val_class_iou for row in RunRecord.from_dict(value, "run.json").history] == [(), ()]


def without(*path):
    def change(value):
        *parents, last = path
        for key in parents:
            value = value[key]
        del value[last]

    return change


def having(entry, *path):
    def change(value):
        *parents, last = path
        for key in parents:
            value = value[key]
        value[last] = entry

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (having(3, "format_version"), "format_version is 3 — this edge-unet reads 2"),
        (without("history"), "key 'history' is missing — start a new run with another --out"),
        (without("checkpoints", "states"), "checkpoints: key 'states' is missing"),
        (without("checkpoints", "states", 0, "step"), "checkpoints.states: key 'step' is missing"),
        (having(1, "checkpoints", "best", 0, "file"), "checkpoints.best: unknown key 'file'"),
        (having("1", "checkpoints", "best", 0, "epoch"), "checkpoints.best: key 'epoch' is str"),
        (without("data", "root"), "data: key 'root' is missing"),
        (having([["a"]], "data", "splits", "val"), "data: splits.val is no list of image and mask"),
        (having(["ab"], "data", "digests", "train"), "data: digests.train is no list of digests"),
        (having([], "data", "digests", "train"), "data: digests are not one per pair"),
        (having(3, "versions", "keras"), "versions.keras is int"),
        (having("broken", "status"), "status is 'broken'"),
        (without("seed"), "key 'seed' is missing"),
        (having(1, "color"), "unknown key 'color'"),
        (having(1, "history", 0, "color"), "history: .*unexpected keyword argument 'color'"),
        (having("x", "history", 0), "history: found str"),
    ],
)
def test_what_is_not_ours_is_named(record, change, message):
    value = copy.deepcopy(as_json(record))
    change(value)
    with pytest.raises(ResumeError, match=f"^run.json — {message}"):
        RunRecord.from_dict(value, "run.json")
