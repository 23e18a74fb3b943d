"""A run that is to go on with other data: what has changed is named, and what cannot go on is refused, forced or not."""

import json
import shutil

import cv2
import numpy as np
import pytest
from datasets import DatasetFolder, jpeg, palette_png, png, squares

from training.config import TrainConfig
from training.data.check import check_dataset
from training.data.validation import with_validation
from training.errors import ResumeError
from training.loop.changes import changes, misfit
from training.loop.run_folder import open_run
from training.loop.run_record import RunRecord
from training.loop.run_setup import begin, contract_for, setup_of

NAMES = "classes: [background, a, b]\n"
COLORS = "colors: [[0, 0, 0], [200, 0, 0], [0, 0, 200]]\n"


def setup(root, config=None, **tolerance):
    config = config or TrainConfig.from_preset("edge-nano", input_size=(32, 32))
    report = check_dataset(root, **tolerance)
    dataset = with_validation(config, report).dataset
    return config, setup_of(config, report, dataset, contract_for(config, report, "run"))


@pytest.fixture
def folder(tmp_path):
    made = DatasetFolder(tmp_path / "data").fill(4, "train").fill(2, "val", first_seed=40)
    made.yaml(NAMES)
    return made


def after(folder, change, **tolerance):
    """Return the lines of a change, and why the run cannot go on."""
    _, before = setup(folder.root)
    change(folder)
    config, now = setup(folder.root, **tolerance)
    return changes(before, config, now), misfit(before, config, now)


def files(folder, part, split="train"):
    return sorted((folder.root / split / part).iterdir())


def rewritten(folder, encode, suffix=".png"):
    """Store every mask in another way."""
    for split in ("train", "val"):
        for path in files(folder, "masks", split):
            ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            path.unlink()
            path.with_suffix(suffix).write_bytes(encode(ids))


def colored(ids):
    return png(np.array([(0, 0, 0), (0, 0, 200), (200, 0, 0)], np.uint8)[ids])  # BGR of COLORS


def to_colors(folder):
    rewritten(folder, colored)
    folder.yaml(NAMES + COLORS)


def to_ids(folder):
    rewritten(folder, lambda ids: png(np.array([0, 100, 200], np.uint8)[ids]))
    folder.yaml(NAMES + "ids: {0: background, 100: a, 200: b}\n")


def ids_exchanged(folder):
    folder.yaml(NAMES + "ids: {0: background, 1: b, 2: a}\n")


def a_pair_less(folder):
    for part in ("images", "masks"):
        files(folder, part)[0].unlink()


def a_pair_renamed(folder):
    for part in ("images", "masks"):
        path = files(folder, part)[1]
        path.rename(path.with_stem("zz"))


def a_pair_moved(folder):
    for part in ("images", "masks"):
        path = files(folder, part)[2]
        path.rename(folder.root / "val" / part / path.name)


def a_mask_changed(folder):
    files(folder, "masks")[3].write_bytes(png(squares(77)[1]))


def an_image_changed(folder):
    files(folder, "images")[3].write_bytes(png(squares(78)[0]))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda f: f.yaml("classes: [background, a, c]\n"), "classes: renamed b → c"),
        (lambda f: f.yaml("classes: [background, Größe, b]\n"), "classes: renamed a → Größe"),
        (lambda f: f.yaml(NAMES + "ignore_id: 255\n"), "ignore_id: none → 255"),
        (lambda f: f.yaml(NAMES + COLORS), "colours of the classes"),
        (to_ids, "meaning of mask values: 1 a → unknown, 2 b → unknown, 100 unknown → a, 200 unknown → b"),
        (ids_exchanged, "meaning of mask values: 1 a → b, 2 b → a"),
        (to_colors, "encoding of the masks: index → color"),
        (lambda f: rewritten(f, palette_png), "encoding of the masks: index → palette"),
        (lambda f: f.pair("new", 90, "train"), "pairs: 1 added (first: train/images/new.png)"),
        (a_pair_less, "pairs: 1 removed (first: train/images/train0.png)"),
        (a_pair_renamed, "pairs: 1 renamed (first: train/images/zz.png)"),
        (a_mask_changed, "pairs: 1 changed (first: train/images/train3.png)"),
        (an_image_changed, "pairs: 1 changed (first: train/images/train3.png)"),
    ],
)
def test_a_change_of_the_data_has_its_own_words_and_may_be_forced(folder, change, line):
    lines, reason = after(folder, change)
    assert line in lines
    assert reason is None


def test_a_pair_that_moved_is_named_with_its_splits(folder):
    lines, reason = after(folder, a_pair_moved)
    assert (lines, reason) == (["pairs: 1 renamed (first: val/images/train2.png)"], None)


def test_another_split_by_seed_is_a_change_though_the_files_are_the_same(tmp_path):
    folder = DatasetFolder(tmp_path / "data").fill(8)
    _, before = setup(folder.root)
    held = before.data.splits["val"][0][0]
    other = next(i for i in range(8) if f"images/{i}.png" != held)
    (folder.root / "groups.csv").write_text(
        "file,group\n" + "".join(f"{i},{'held' if i == other else 'rest'}\n" for i in range(8))
    )
    config, now = setup(folder.root)
    (line,) = changes(before, config, now)
    assert f"1 moved from val to train (first: {held})" in line
    assert "1 moved from train to val" in line


@pytest.mark.parametrize(
    ("change", "line", "reason"),
    [
        (
            lambda f: f.yaml("classes: [background, a, b, c]\n"),
            "classes: added c",
            "a run with 3 classes cannot go on with 4",
        ),
        (
            lambda f: f.yaml("classes: [background, a, b, c, d, e, f, g, h]\n"),
            "classes: added c, d, e, f, g and 1 more",
            "a run with 3 classes cannot go on with 9",
        ),
        (
            lambda f: f.yaml("classes: [background, b]\nids: {0: background, 1: background, 2: b}\n"),
            "classes: removed a",
            "a run with 3 classes cannot go on with 2",
        ),
        (
            lambda f: f.yaml("classes: [background, b, a]\n"),
            "order of the classes: background, a, b → background, b, a",
            "the output 2 of the network means 'b' and cannot become 1",
        ),
        (
            lambda f: f.yaml("classes: [background, b, c]\n"),
            "classes: added c and removed a",
            "the output 2 of the network means 'b' and cannot become 1",
        ),
        (
            lambda f: [
                p.write_bytes(png(cv2.imread(str(p), 0))) for s in ("train", "val") for p in files(f, "images", s)
            ],
            "pairs: 6 changed (first: train/images/train0.png)",
            "a run with colour images cannot go on with grey ones",
        ),
    ],
)
def test_a_network_that_does_not_fit_cannot_go_on(folder, change, line, reason):
    lines, found = after(folder, change)
    assert (lines[0], found) == (line, reason)


def test_jpeg_masks_that_are_now_accepted_are_a_change(tmp_path):
    folder = DatasetFolder(tmp_path / "data")
    for i in range(4):
        image_bgr, ids = squares(i)
        folder.image(f"{i}.png", png(image_bgr))
        folder.mask(f"{i}.png", png((ids > 0).astype(np.uint8) * 255))

    def one_more(folder):
        image_bgr, ids = squares(9)
        folder.image("9.png", png(image_bgr))
        folder.mask("9.jpg", jpeg((ids > 0).astype(np.uint8) * 255))

    lines, _ = after(folder, one_more, allow_lossy_mask=True)
    assert "JPEG masks: refused → accepted" in lines


def test_nothing_has_changed_where_the_dataset_has_moved(folder, tmp_path):
    _, before = setup(folder.root)
    config, now = setup(shutil.move(folder.root, tmp_path / "elsewhere"))
    assert changes(before, config, now) == []


def test_a_record_without_digests_still_shows_that_something_changed(folder):
    _, before = setup(folder.root)
    value = json.loads(json.dumps(RunRecord(status="running", setup=before).to_dict()))
    del value["data"]["digests"]
    before = RunRecord.from_dict(value, "run.json").setup
    config, now = setup(folder.root)
    assert changes(before, config, now) == []
    an_image_changed(folder)
    config, now = setup(folder.root)
    assert changes(before, config, now) == [f"data: {before.data.fingerprint[:12]} → {now.data.fingerprint[:12]}"]
    folder.pair("new", 90, "train")
    config, now = setup(folder.root)
    assert changes(before, config, now) == ["pairs: 1 added (first: train/images/new.png)"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"preset": "seed"}, "preset: edge-nano → seed"),
        ({"encoder": "mobilenetv3small"}, "encoder: None → mobilenetv3small"),
        ({"accumulate": 2}, "accumulate: 1 → 2"),
    ],
)
def test_another_network_or_optimizer_cannot_go_on(folder, options, line):
    _, before = setup(folder.root)
    preset = options.pop("preset", "edge-nano")
    config, now = setup(folder.root, TrainConfig.from_preset(preset, input_size=(64, 64), **options))
    assert line in changes(before, config, now)
    assert misfit(before, config, now) is not None


class TestBegin:
    """What the command says of it."""

    @pytest.fixture
    def run(self, folder, tmp_path):
        config, before = setup(folder.root)
        with open_run(tmp_path / "run", resume=False) as run:
            begin(run, config, before, force=False, note=print)
            run.save()
            yield run

    @pytest.mark.parametrize("force", [True, False])
    def test_refuses_another_number_of_classes_even_if_forced(self, folder, run, force):
        folder.yaml("classes: [background, a, b, c]\n")
        option = "--force-resume" if force else "--resume"
        with pytest.raises(ResumeError) as refused:
            begin(run, *setup(folder.root), force=force, note=print)
        assert str(refused.value) == (
            f"{option} {run.root} — changed: classes: added c — a run with 3 classes cannot go on with 4 — start a new run "
            "with another --out"
        )
        assert refused.value.exit_code == 2

    def test_refuses_other_files_unless_forced(self, folder, run):
        a_mask_changed(folder)
        config, now = setup(folder.root)
        line = "pairs: 1 changed (first: train/images/train3.png)"
        with pytest.raises(ResumeError, match=r"--resume .* — changed: pairs: 1 changed .* or pass --force-resume$"):
            begin(run, config, now, force=False, note=print)
        noted = []
        begin(run, config, now, force=True, note=noted.append)
        assert noted == [f"changed since this run began: {line}"]
        assert run.record.setup == now
