from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.cli import main
from training.data.synth import (
    CLASS_COLORS_RGB,
    CLASS_NAMES,
    DEFAULT_SIZE,
    IMAGE_HEIGHT_PX,
    IMAGE_WIDTH_PX,
    VIDEO_HEIGHT_PX,
    VIDEO_WIDTH_PX,
    SynthSize,
    SynthSummary,
    render_scene,
    write_synthetic_dataset,
)
from training.errors import DataError

SIZE = SynthSize(train=8, val=2, test=1, video_frames=4)


def read_masks(folder: Path) -> list[NDArray[np.uint8]]:
    return [np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8) for path in sorted(folder.iterdir())]


def read_frames(path: Path) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        found, frame = capture.read()
        if not found:
            break
        frames.append(np.asarray(frame, np.uint8))
    capture.release()
    return frames


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> SynthSummary:
    return write_synthetic_dataset(tmp_path_factory.mktemp("synth") / "data", seed=7, size=SIZE)


def test_every_image_has_its_mask_and_nothing_else_is_left_behind(summary: SynthSummary) -> None:
    expected = {"dataset.yaml", f"video/{summary.video_path.name}"}
    for split, count in (("train", SIZE.train), ("val", SIZE.val), ("test", SIZE.test)):
        expected |= {f"{split}/{kind}/{i:06d}.png" for kind in ("images", "masks") for i in range(count)}
    expected |= {f"video/masks/{i:06d}.png" for i in range(SIZE.video_frames)}
    found = {path.relative_to(summary.root).as_posix() for path in summary.root.rglob("*") if path.is_file()}
    assert found == expected


def test_masks_are_single_channel_and_hold_every_class_id_and_no_other(summary: SynthSummary) -> None:
    masks = read_masks(summary.root / "train" / "masks")
    assert all(mask.shape == (IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX) for mask in masks)
    assert np.unique(np.stack(masks)).tolist() == list(range(len(CLASS_NAMES)))


def test_images_are_colour_pictures_of_the_size_of_their_masks(summary: SynthSummary) -> None:
    for path in (summary.root / "train" / "images").iterdir():
        image_bgr = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image_bgr is not None
        assert image_bgr.shape == (IMAGE_HEIGHT_PX, IMAGE_WIDTH_PX, 3)
        assert image_bgr.std() > 5


def test_some_frame_is_empty_and_in_some_frame_an_object_is_cut_by_the_border(summary: SynthSummary) -> None:
    masks = read_masks(summary.root / "train" / "masks")
    assert sum(not mask.any() for mask in masks) == 1
    edges = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]) for mask in masks]
    assert any(edge.any() for edge in edges)


def test_the_same_seed_gives_the_same_bytes_whatever_the_counts(summary: SynthSummary, tmp_path: Path) -> None:
    smaller = SynthSize(train=2, val=1, test=1, video_frames=2)
    again = write_synthetic_dataset(tmp_path, seed=7, size=smaller)
    # The path of the video's objects is divided over its frames, so only its first frame is the same.
    names = [f"{split}/{kind}/000000.png" for split in ("train", "val", "test") for kind in ("images", "masks")]
    for name in [*names, "train/images/000001.png", "video/masks/000000.png", "dataset.yaml"]:
        assert (again.root / name).read_bytes() == (summary.root / name).read_bytes(), name


def test_another_seed_another_split_and_another_index_give_other_pictures(
    summary: SynthSummary, tmp_path: Path
) -> None:
    other = write_synthetic_dataset(tmp_path, seed=8, size=SynthSize(train=1, val=1, test=1, video_frames=1))
    pictures = [
        *(summary.root / "train" / "images").iterdir(),
        *(summary.root / "val" / "images").iterdir(),
        other.root / "train" / "images" / "000000.png",
        other.root / "val" / "images" / "000000.png",
    ]
    assert len({path.read_bytes() for path in pictures}) == len(pictures)


def test_the_video_has_one_mask_per_frame_of_its_size(summary: SynthSummary) -> None:
    frames, masks = read_frames(summary.video_path), read_masks(summary.video_masks_path)
    assert len(frames) == len(masks) == SIZE.video_frames
    assert all(frame.shape == (VIDEO_HEIGHT_PX, VIDEO_WIDTH_PX, 3) for frame in frames)
    assert all(mask.shape == (VIDEO_HEIGHT_PX, VIDEO_WIDTH_PX) for mask in masks)
    assert any((a != b).any() for a, b in pairwise(masks))


def test_dataset_yaml_names_the_classes_and_one_colour_each(summary: SynthSummary) -> None:
    lines = summary.config_path.read_text().splitlines()
    assert lines[1] == "classes: [background, coin, leaf, bolt]"
    assert lines[2] == "colors: [[0, 0, 0], [255, 176, 0], [0, 158, 115], [86, 120, 233]]"
    assert len(CLASS_COLORS_RGB) == len(CLASS_NAMES)


def test_progress_is_reported_once_per_picture_and_frame(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    size = SynthSize(train=1, val=1, test=1, video_frames=2)
    write_synthetic_dataset(str(tmp_path), size=size, on_progress=lambda *call: calls.append(call))
    assert calls == [("drawing", done, size.image_count) for done in range(6)]
    assert DEFAULT_SIZE.image_count == 240 + 40 + 60 + 125


def test_the_command_writes_nothing_but_its_progress_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Native libraries write to the file descriptor, past ``sys.stderr``."""
    monkeypatch.setattr("training.data.synth.write_synthetic_dataset", partial(write_synthetic_dataset, size=SIZE))
    assert main(["data", "synth", str(tmp_path / "data")]) == 0
    captured = capfd.readouterr()
    assert [line for line in captured.err.splitlines() if line.strip() and not line.startswith("drawing")] == []
    assert captured.out.startswith(f"{tmp_path / 'data'}: dataset; ")


def test_a_scene_without_objects_is_background_and_one_with_an_object_is_not() -> None:
    _, empty = render_scene(np.random.default_rng(0), 48, 64, object_count=0)
    image_bgr, mask = render_scene(np.random.default_rng(0), 48, 64, object_count=1, first_class=2)
    assert not empty.any()
    assert np.unique(mask).tolist() == [0, 2]
    assert image_bgr.shape == (48, 64, 3)
    assert image_bgr.dtype == mask.dtype == np.uint8


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match=r"folder is not empty, it holds mine\.txt — expected a new or empty folder"):
        write_synthetic_dataset(tmp_path, size=SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("keep")
    with pytest.raises(DataError, match="found a file — expected a new or empty folder"):
        write_synthetic_dataset(path, size=SIZE)


@pytest.mark.parametrize("name", ["train", "val", "test", "video_frames"])
def test_a_part_without_pictures_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"SynthSize\.{name} — found 0 — expected at least 1"):
        SynthSize(**{name: 0})
