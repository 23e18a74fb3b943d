"""Datasets with seeded faults: all of them are found, under the right code and file, and nothing else."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import jpeg, png
from faults import plant, scene, scenes

from edge_runtime.cli import main
from training.data.check import check_dataset, render
from training.data.check.duplicates import turn
from training.errors import DataError

MIN_FAULTS = 25


def found(root, **tolerance):
    """Return (code, file) of the problems of a dataset, in order."""
    report = check_dataset(root, **tolerance)
    return sorted(
        (p.code, Path(p.file).relative_to(root).as_posix() if p.file.startswith(str(root)) else p.file)
        for p in report.problems
    )


def test_every_seeded_fault_is_found_and_nothing_else(tmp_path):
    scenes(tmp_path)
    assert found(tmp_path) == []
    expected = plant(tmp_path)
    assert len(expected) >= MIN_FAULTS
    assert found(tmp_path) == expected


@pytest.mark.slow
def test_every_seeded_fault_is_found_in_a_copy_of_camvid(tmp_path):
    camvid = Path(os.environ.get("EDGE_UNET_DATA", "")) / "camvid"
    if "EDGE_UNET_DATA" not in os.environ or not camvid.is_dir():
        pytest.skip("EDGE_UNET_DATA is not set to a folder that has camvid")
    root = tmp_path / "camvid"
    shutil.copytree(camvid, root)
    # Its names are those of frames, until others come among them.
    before = [problem for problem in found(root) if problem[0] != "video_frames"]
    expected = plant(root)
    assert len(expected) >= MIN_FAULTS
    assert found(root) == sorted(before + expected)


class TestTolerance:
    @pytest.fixture
    def faulty(self, tmp_path):
        scenes(tmp_path)
        return tmp_path, plant(tmp_path)

    def test_leaves_out_what_is_bad_and_keeps_what_is_only_odd(self, faulty):
        root, expected = faulty
        report = check_dataset(root, skip_bad=True, allow_unpaired=True)
        assert {p.code for p in report.problems if p.severity == "error"} == {
            "duplicate_stem",
            "leak",
            "near_duplicate",
        }
        assert found(root, skip_bad=True, allow_unpaired=True) == expected, "nothing is kept quiet"
        left_out = {pair.image.name for pair in report.quarantined}
        assert left_out == {
            Path(p.file).with_suffix("").name + Path(other.image).suffix
            for p in check_dataset(root).problems
            if p.severity == "error"
            for other in report.quarantined
            if other.stem == Path(p.file).stem
        }
        kept = {pair.image.name for pair in report.dataset.pairs()}
        assert not kept & left_out
        for code, file in expected:
            if code in ("wrong_extension", "cmyk_image", "alpha_image", "blank_image", "exif_image", "background_only"):
                assert Path(file).stem in {Path(name).stem for name in kept}, code

    def test_counts_in_json_what_was_left_out(self, faulty):
        root, _ = faulty
        value = json.loads(json.dumps(check_dataset(root, skip_bad=True).to_dict()))
        assert value["images"] + len(value["quarantined"]) == check_dataset(root).to_dict()["images"]
        assert value["quarantined"][0].keys() == {"image", "mask"}
        assert f"left out: {len(value['quarantined'])} pairs" in render(check_dataset(root, skip_bad=True))

    def test_makes_the_rest_fit_to_train_on(self, tmp_path):
        dataset = scenes(tmp_path, train=4, val=2)
        dataset.mask("train01.png", b"", "train")
        (tmp_path / "val/masks/val00.png").unlink()
        assert not check_dataset(tmp_path).ok
        assert not check_dataset(tmp_path, skip_bad=True).ok
        assert not check_dataset(tmp_path, allow_unpaired=True).ok
        report = check_dataset(tmp_path, skip_bad=True, allow_unpaired=True)
        report.require_ok()
        assert {split: len(pairs) for split, pairs in report.dataset.splits.items()} == {"train": 3, "val": 1}

    def test_changes_the_fingerprint_for_it_is_of_what_is_used(self, tmp_path):
        dataset = scenes(tmp_path, train=4, val=2)
        dataset.mask("train01.png", b"", "train")
        skipped = check_dataset(tmp_path, skip_bad=True).fingerprint
        assert skipped != check_dataset(tmp_path).fingerprint
        for part in ("images", "masks"):
            (tmp_path / "train" / part / "train01.png").unlink()
        assert check_dataset(tmp_path).fingerprint == skipped

    def test_has_an_end_where_nothing_is_left(self, tmp_path):
        dataset = scenes(tmp_path, train=1, val=0)
        dataset.mask("train00.png", b"", "train")
        with pytest.raises(DataError, match="every pair is bad"):
            check_dataset(tmp_path, skip_bad=True)


def test_a_test_set_of_turned_training_images_is_refused(capsys, tmp_path):
    dataset = scenes(tmp_path, train=12, val=3)
    for variant in range(8):
        image_bgr, ids = (turn(x, variant) for x in scene(variant))
        dataset.image(f"test{variant}.jpg", jpeg(np.ascontiguousarray(image_bgr)), "test")
        dataset.mask(f"test{variant}.png", png(np.ascontiguousarray(ids)), "test")
    assert main(["data", "check", str(tmp_path), "--json"]) == 3
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {(p["severity"], p["code"]) for p in problems} == {("error", "near_duplicate")}
    assert [Path(p["file"]).name for p in problems] == [f"test{variant}.jpg" for variant in range(8)]
    assert [f"train0{variant}.png" in p["message"] for variant, p in enumerate(problems)] == [True] * 8
    assert "copies of one picture in train and test" in problems[0]["message"]
    assert ", mirrored and turned by 90°)" in problems[5]["message"]
    assert main(["train", str(tmp_path), "--out", str(tmp_path / "run")]) == 3
    assert "copies of one picture in train and test" in capsys.readouterr().err
