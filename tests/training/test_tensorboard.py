"""The event file, read back with TensorBoard's own reader."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from epochs import epoch_record
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge_runtime.errors import StorageError
from training.data.dataset import make_classes
from training.monitor import tensorboard
from training.monitor.samples import Sample
from training.monitor.tensorboard import TensorBoardLog

CLASSES = make_classes(["background", "red"], [[0, 0, 0], [255, 0, 0]])
FIRST = epoch_record(
    loss=0.5,
    accuracy=0.75,
    val_mean_iou=0.25,
    val_pixel_accuracy=0.625,
    learning_rate=0.002,
    images_per_s=12.0,
    val_class_iou=(0.5, None),
)


def sample() -> Sample:
    """A grey picture whose right half is red in truth and whose left half is called red."""
    truth = np.zeros((8, 12), np.uint8)
    truth[:, 6:] = 1
    return Sample(name="a", image_bgr=np.full((8, 12, 3), 90, np.uint8), truth=truth, prediction=1 - truth)


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def scalars(folder, tag):
    """TensorFlow writes scalars as tensors."""
    return {e.step: float(np.frombuffer(e.tensor_proto.tensor_content, "<f4")[0]) for e in read(folder).Tensors(tag)}


def test_an_epoch_is_a_point_on_every_curve(tmp_path):
    with TensorBoardLog(tmp_path / "log", CLASSES) as log:
        log.epoch(FIRST, best=False, pictures=list)
        log.epoch(replace(FIRST, epoch=2, loss=0.25, val_class_iou=(0.5, 0.125)), best=False, pictures=list)
    assert scalars(tmp_path / "log", "training/loss") == {1: 0.5, 2: 0.25}
    assert scalars(tmp_path / "log", "class_iou/background") == {1: 0.5, 2: 0.5}
    assert scalars(tmp_path / "log", "class_iou/red") == {2: 0.125}, "a class that does not occur has no value"
    assert scalars(tmp_path / "log", "training/learning_rate") == {1: pytest.approx(0.002), 2: pytest.approx(0.002)}
    assert set(read(tmp_path / "log").Tags()["tensors"]) == {
        *("training/loss", "training/accuracy", "training/learning_rate", "validation/mean_iou", "validation/accuracy"),
        *("time/images_per_s", "time/seconds", "class_iou/background", "class_iou/red"),
    }


def test_a_picture_shows_image_truth_and_prediction_in_the_colours_of_the_classes(tmp_path):
    with TensorBoardLog(tmp_path, CLASSES) as log:
        log.epoch(FIRST, best=True, pictures=lambda: [sample()])
    (event,) = read(tmp_path).Tensors("validation/a")
    width, height, png = event.tensor_proto.string_val
    assert (event.step, int(width), int(height)) == (1, 36, 8)
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    panels = np.split(picture, 3, axis=1)
    assert (panels[0] == 90).all()
    left, right = slice(0, 6), slice(6, 12)
    for panel, red, grey in ((panels[1], right, left), (panels[2], left, right)):
        assert (panel[:, red, 2] > panel[:, red, 0] + 50).all(), "BGR: the red half is red"
        assert (panel[:, grey] == 90).all()


def test_pictures_are_drawn_only_for_a_new_best_and_not_too_often(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "PICTURES_EVERY", 3)
    drawn = []
    with TensorBoardLog(tmp_path, CLASSES) as log:
        for epoch, best in enumerate([True, True, False, True, True, False, False, True], start=1):
            log.epoch(replace(FIRST, epoch=epoch), best=best, pictures=lambda e=epoch: drawn.append(e) or [sample()])
    assert drawn == [1, 4, 8]
    assert [e.step for e in read(tmp_path).Tensors("validation/a")] == drawn


def test_curves_can_be_read_while_training_goes_on(tmp_path):
    log = TensorBoardLog(tmp_path, CLASSES)
    log.epoch(FIRST, best=False, pictures=list)
    assert scalars(tmp_path, "training/loss") == {1: 0.5}
    log.__exit__(None, None, None)


def test_a_second_process_adds_to_the_curves_of_the_first(tmp_path):
    for epoch in (1, 2):
        with TensorBoardLog(tmp_path, CLASSES) as log:
            log.epoch(replace(FIRST, epoch=epoch), best=False, pictures=list)
    assert scalars(tmp_path, "training/loss") == {1: 0.5, 2: 0.5}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "log").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot write .*log — .* — check the path and the free space"):
        TensorBoardLog(tmp_path / "log", CLASSES)


def test_faults_of_the_caller_are_not_taken_for_those_of_the_disk(tmp_path):
    def broken():
        raise ValueError("no such picture")

    with pytest.raises(ValueError, match="no such picture"), TensorBoardLog(tmp_path, CLASSES) as log:
        log.epoch(FIRST, best=True, pictures=broken)
