"""The tasks of the accuracy benchmark: pictures from a seed alone, with the foreground that each task states."""

import hashlib

import cv2
import numpy as np
import pytest
from tasks import camvid, cells, cracks, dataset_folder, few, persons, textures, tiles, tiny, twenty
from tasks.dataset_folder import AbsentError
from tasks.registry import TASKS

DRAWN = {
    # Module, number of classes, and the least and most share of pixels that are not background.
    "cracks": (cracks, 2, 0.004, 0.006),
    "tiny": (tiny, 2, 0.0008, 0.0012),
    "few": (few, 3, 0.08, 0.14),
    "twenty": (twenty, 21, 0.12, 0.2),
    "cells": (cells, 2, 0.4, 0.6),
    "textures": (textures, 4, 0.65, 0.85),
}
PICTURES = 20
TASK_SPLITS = dataset_folder.SPLITS
MASK = np.repeat(np.array([[0, 255]], np.uint8), 4, axis=1).repeat(8, axis=0)


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def small(monkeypatch, module):
    monkeypatch.setattr(module, "IMAGES", {"train": 2, "val": 2, "test": 2})


@pytest.mark.parametrize(("module", "classes", "least", "most"), DRAWN.values(), ids=DRAWN)
def test_a_task_has_all_its_classes_and_the_foreground_that_it_states(module, classes, least, most):
    counts = np.zeros(classes, np.int64)
    for index in range(PICTURES):
        image, ids = module.draw(np.random.default_rng([0, 0, index]), index)
        assert image.dtype == ids.dtype == np.uint8
        assert image.shape[:2] == ids.shape == module.SIZE
        counts += np.bincount(ids.reshape(-1), minlength=classes)
    assert counts.all()
    assert least <= 1 - counts[0] / counts.sum() <= most


@pytest.mark.parametrize("module", [row[0] for row in DRAWN.values()], ids=DRAWN)
def test_a_task_is_the_same_from_the_same_seed_and_no_picture_is_there_twice(module, tmp_path, monkeypatch):
    small(monkeypatch, module)
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        module.write(tmp_path / name, seed)
    first, other = digests(tmp_path / "first"), digests(tmp_path / "other")
    assert first == digests(tmp_path / "again")
    pictures = [digest for found in (first, other) for path, digest in found.items() if path.parent.name == "images"]
    assert len(pictures) == len(set(pictures)) == 12
    assert {path.parts[0] for path in first} == {"train", "val", "test", "dataset.yaml"}


def test_every_split_of_the_tiles_has_the_same_share_of_tiles_without_a_defect(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "TILES", {"train": 40, "val": 8, "test": 20})
    monkeypatch.setattr(tiles, "EXPOSURES", 2)
    for name in ("first", "again"):
        tiles.write(tmp_path / name, 3)
    assert digests(tmp_path / "first") == digests(tmp_path / "again")
    for split, count in tiles.TILES.items():
        paths = sorted((tmp_path / "first" / split / "masks").iterdir())
        masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
        assert len(masks) == 2 * count
        assert sum(mask.any() for mask in masks) == 2 * int(count * (1 - tiles.WITHOUT_DEFECT))
        assert {int(value) for mask in masks for value in np.unique(mask)} == {0, 1}


def test_cracks_are_at_most_two_pixels_wide():
    _, ids = cracks.draw(np.random.default_rng([0, 0, 0]), 0)
    # A square of three pixels fits into a crossing or a bend, but not along a line.
    assert cv2.erode(ids, np.ones((3, 3), np.uint8)).sum() < 0.03 * ids.sum()


def test_cells_have_gaps_of_one_or_two_pixels():
    _, ids = cells.draw(np.random.default_rng([0, 0, 4]), 4)
    closed = cv2.morphologyEx(np.pad(ids, 8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))[8:-8, 8:-8]
    parts, joined = (cv2.connectedComponents(mask, connectivity=4)[0] for mask in (ids, closed))
    assert parts > 40 and joined < parts / 4


def test_no_drive_of_camvid_is_in_two_splits(tmp_path, monkeypatch):
    source = tmp_path / "given/camvid"
    for drive, split in (("0001TP", "train"), ("0006R0", "train"), ("0016E5", "train"), ("0016E5", "val")):
        dataset_folder.write_pair(
            source / split, f"{drive}_{split}.png", np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 11, np.uint8)
        )
    monkeypatch.setenv("EDGE_UNET_DATA", str(tmp_path / "given"))
    camvid.write(tmp_path / "task", 0)
    written = {split: sorted(p.name for p in (tmp_path / f"task/{split}/masks").iterdir()) for split in TASK_SPLITS}
    assert written == {
        "train": ["0016E5_train.png", "0016E5_val.png"],
        "val": ["0001TP_train.png"],
        "test": ["0006R0_train.png"],
    }
    assert "ignore_id: 11" in (tmp_path / "task/dataset.yaml").read_text()


def test_persons_train_and_validate_on_one_source_and_test_on_the_other(tmp_path, monkeypatch):
    given = tmp_path / "given"
    for source, count in (("ccp_person", 5), ("person_vs_val", 3)):
        for k in range(count):
            dataset_folder.write_pair(given / source, f"{k}.png", np.full((8, 8, 3), k, np.uint8), MASK)
    monkeypatch.setenv("EDGE_UNET_DATA", str(given))
    monkeypatch.setattr(persons, "VAL", 2)
    persons.write(tmp_path / "task", 0)
    names = {split: {p.name for p in (tmp_path / f"task/{split}/images").iterdir()} for split in TASK_SPLITS}
    assert [len(names[split]) for split in TASK_SPLITS] == [3, 2, 3]
    assert not names["train"] & names["val"]
    mask = cv2.imread(str(next((tmp_path / "task/test/masks").iterdir())), cv2.IMREAD_UNCHANGED)
    assert mask.tolist() == (MASK // 255).tolist()


@pytest.mark.parametrize("task", ["camvid", "persons"])
def test_a_task_whose_data_are_absent_says_where_they_were_looked_for(task, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_UNET_DATA", str(tmp_path))
    with pytest.raises(AbsentError, match=rf"{tmp_path}/\w+ is not a folder"):
        TASKS[task].write(tmp_path / "task", 0)
    monkeypatch.delenv("EDGE_UNET_DATA")
    with pytest.raises(AbsentError, match="EDGE_UNET_DATA is not set"):
        TASKS[task].write(tmp_path / "task", 0)
