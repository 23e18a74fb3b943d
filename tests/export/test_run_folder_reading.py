"""What export takes from a run folder, and each way in which one can be wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from runs import PAIRS, narrow_shape, random_unet, write_color_data, write_run

from edge_runtime.dataset.evaluate import read_pair
from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.errors import InputError, ModelError
from export.errors import ConvertError
from export.run_folder import RUN_FORMAT_VERSION, read_run
from training.loop.run_record import FORMAT_VERSION
from training.loop.trainer import archive_of


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    write_run(root / "run", write_color_data(root / "data"), "seed")
    return root


@pytest.fixture
def run(original, tmp_path) -> Path:
    """A copy of the run folder; its dataset is where it was."""
    return shutil.copytree(original / "run", tmp_path / "run")


def edit_record(run: Path, change) -> None:
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))


def test_a_whole_run_folder_is_read(run, original):
    folder = read_run(run)
    assert folder.checkpoint == run / "best.keras"
    assert folder.key.encoding == "index"
    assert [c.name for c in folder.contract.classes] == ["background", "red", "blue"]
    assert (folder.contract.height_px, folder.contract.width_px, folder.contract.channels) == (64, 96, 3)
    assert len(folder.validation) == PAIRS["val"]
    assert all(pair.image.is_file() and pair.mask.is_file() for pair in folder.validation)
    assert folder.validation[0].image.is_relative_to(original / "data" / "val")


def test_all_of_it_is_what_training_wrote(run, original):
    """The pair of writer and reader meets here only: the walls forbid that they share code."""
    assert RUN_FORMAT_VERSION == FORMAT_VERSION
    written = json.loads((run / "run.json").read_text())
    folder = read_run(run)
    assert folder.config == written["config"]
    assert folder.contract.to_dict() == written["contract"]
    assert folder.key.to_dict() == written["data"]["labels"]
    assert folder.data_fingerprint == written["data"]["fingerprint"]
    assert folder.images == PAIRS
    assert folder.seed == written["seed"]
    rows = [(row["epoch"], row["loss"], row["val_mean_iou"]) for row in written["history"]]
    assert [(row.epoch, row.loss, row.val_mean_iou) for row in folder.history] == rows
    assert len(rows) == 2
    data = original / "data"
    names = [[str(path.relative_to(data)) for path in (pair.image, pair.mask)] for pair in folder.validation]
    assert names == written["data"]["splits"]["val"]


def test_the_adjustment_is_that_of_the_checkpoint(run):
    def adjust(record):
        (entry,) = record["checkpoints"]["best"][:1]
        entry["logit_adjustment"] = {"background": 0, "red": -1.5, "blue": 0}
        record["checkpoints"]["best"] = [{"epoch": 1, "sha256": "0" * 64, "val_mean_iou": 0.1}, entry]

    edit_record(run, adjust)
    assert read_run(run).logit_adjustment == {"background": 0, "red": -1.5, "blue": 0}
    edit_record(run, lambda r: r["checkpoints"]["best"][1].pop("logit_adjustment"))
    assert read_run(run).logit_adjustment == {}


def test_an_image_without_a_mask_is_kept_as_such(run):
    assert not read_run(run).empty_without_mask
    edit_record(run, lambda r: r["data"]["splits"]["val"][0].__setitem__(1, None))
    pair = read_run(run).validation[0]
    assert pair.mask is None
    assert read_run(run).empty_without_mask
    image_bgr, truth = read_pair(pair, read_run(run).key)
    assert truth.shape == image_bgr.shape[:2]
    assert not truth.any()


def test_a_run_without_digests_of_its_images_is_read(run):
    edit_record(run, lambda r: r["data"].pop("digests"))
    assert read_run(run).training_images is None


@pytest.mark.parametrize("version", [1, 3])
def test_a_record_of_another_version_is_refused_whatever_it_holds(run, version):
    (run / "run.json").write_text(json.dumps({"format_version": version}))
    with pytest.raises(
        ConvertError,
        match=rf"^{run}/run\.json — format_version is {version} — this edge-unet reads 2 — export with the edge-unet that "
        r"trained it, or train again$",
    ):
        read_run(run)


@pytest.mark.parametrize("version", [None, True, "2", 2.0])
def test_a_record_without_a_version_is_not_one_of_training(run, version):
    edit_record(run, lambda r: r.update(format_version=version))
    with pytest.raises(ConvertError, match=r"run\.json — is not what `edge-unet train` writes — train again"):
        read_run(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["history"][0].pop("loss"),
        lambda r: r["history"].append("epoch"),
        lambda r: r["checkpoints"]["best"].append({"epoch": 1}),
        lambda r: r["checkpoints"].update(best={}),
        lambda r: r["data"]["splits"]["val"].append(["image"]),
        lambda r: r["data"]["splits"].update(train=[["image", 7]]),
        lambda r: r["data"].update(labels=None),
        lambda r: r["data"].update(digests=[]),
        lambda r: r["data"].update(digests={"train": [7]}),
        lambda r: r["data"].update(digests={"train": ["no hex"]}),
        lambda r: r["data"].pop("labels"),
    ],
)
def test_a_wrong_entry_deep_inside_is_refused_and_its_cause_names_it(run, change):
    edit_record(run, change)
    with pytest.raises(ConvertError, match=r"run\.json — is not what `edge-unet train` writes — train again") as caught:
        read_run(run)
    assert re.search(r"run\.json: (history|checkpoints|data)", str(caught.value.__cause__))


def test_the_best_checkpoint_of_an_earlier_epoch_is_taken_too(run):
    """Killed between run.json and best.keras: the file is still the one before, which is named as well."""
    edit_record(run, lambda r: r["checkpoints"]["best"].insert(0, {"epoch": 3, "sha256": "0" * 64, "val_mean_iou": 1}))
    assert read_run(run).checkpoint == run / "best.keras"


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(
        ConvertError, match=rf"run folder {tmp_path} — no run\.json inside — expected what `edge-unet train`"
    ):
        read_run(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConvertError, match=r"run folder .*/none — no run\.json inside"):
        read_run(tmp_path / "none")


@pytest.mark.parametrize("text", ["{", "", "\x00\x01"])
def test_a_damaged_record_is_named(run, text):
    (run / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"run\.json: not valid JSON \(.+\) — the file is damaged"):
        read_run(run)


@pytest.mark.parametrize("text", ["[]", "{}", '{"contract": 1}'])
def test_a_record_of_something_else_is_refused(run, text):
    (run / "run.json").write_text(text)
    with pytest.raises(ConvertError, match=r"run\.json — is not what `edge-unet train` writes — train again"):
        read_run(run)


@pytest.mark.parametrize(
    "key", ["config", "contract", "data", "checkpoints", "history", "seed", "data.root", "data.splits", "data.splits.val",
            "data.fingerprint", "data.mask_encoding"]
)  # fmt: skip
@pytest.mark.parametrize("how", ["missing", "number"])
def test_a_record_that_lacks_something_is_refused_in_one_line(run, key, how):
    *parents, last = key.split(".")

    def change(record):
        part = record
        for parent in parents:
            part = part[parent]
        if how == "missing":
            del part[last]
        else:
            part[last] = 7.5

    edit_record(run, change)
    with pytest.raises(ModelError, match=r"run\.json"):
        read_run(run)


def test_classes_that_are_missing_in_the_contract_are_named(run):
    edit_record(run, lambda r: r["contract"].pop("classes"))
    with pytest.raises(ModelError, match=r"run\.json: contract: key 'classes' is missing"):
        read_run(run)


def test_what_mask_values_mean_is_taken_as_training_recorded_it(run):
    classes = read_run(run).contract.classes
    key = LabelKey.of("color", classes, ignore_colors=[(9, 9, 9)])
    edit_record(run, lambda r: r["data"].update(mask_encoding="color", labels=key.to_dict()))
    assert read_run(run).key == key


def test_an_unknown_mask_encoding_is_named(run):
    edit_record(run, lambda r: r["data"].update(mask_encoding="guess"))
    with pytest.raises(ConvertError, match=r"run\.json — mask_encoding is 'guess' — train again"):
        read_run(run)


def test_a_run_without_a_finished_epoch_says_how_to_go_on(run):
    edit_record(run, lambda r: r.update(checkpoints={}, history=[]))
    with pytest.raises(
        ConvertError, match=rf"run folder {run} — no finished epoch yet — go on with edge-unet train … --resume"
    ):
        read_run(run)


def test_a_missing_checkpoint_is_named(run):
    (run / "best.keras").unlink()
    with pytest.raises(ConvertError, match=r"run/best\.keras — missing — restore it or train again"):
        read_run(run)


def test_another_model_in_the_place_of_the_checkpoint_is_refused(run):
    other = random_unet(
        narrow_shape("classic"), (64, 96)
    )  # the same network, saved in the same second, is the same file
    (run / "best.keras").write_bytes(archive_of(other, run))
    with pytest.raises(
        ConvertError, match=r"best\.keras — not the file that training wrote \(SHA-256 differs from run\.json\)"
    ):
        read_run(run)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_checkpoint_is_called_damaged(run, share):
    data = (run / "best.keras").read_bytes()
    (run / "best.keras").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        ConvertError, match=r"best\.keras — damaged: no complete \.keras archive — restore it or train again"
    ):
        read_run(run)


def test_data_that_has_moved_is_asked_for(original, tmp_path):
    data = shutil.copytree(original / "data", tmp_path / "data")
    run = write_run(tmp_path / "run", data, "seed")
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match=rf"{data}/val/images/0\.png — missing — .* — pass --data DIR if they have moved"
    ) as caught:
        read_run(run)
    assert caught.value.exit_code == 3
    folder = read_run(run, tmp_path / "elsewhere")
    assert folder.validation[0].mask == tmp_path / "elsewhere" / "val" / "masks" / "0.png"
    assert folder.validation[0].mask.is_file()
