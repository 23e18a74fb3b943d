"""Images and masks in arrays become a dataset folder, or one line says what they are instead."""

import cv2
import numpy as np
import pytest

from edge_runtime.errors import UsageError
from training import check_dataset, write_dataset

IDS = np.arange(2 * 4 * 6).reshape(2, 4, 6) % 3
RGB = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "masks",
    [IDS, IDS[..., np.newaxis].astype(np.float32), np.eye(3)[IDS]],
    ids=["ids", "floats in a channel", "a one for the class"],
)
@pytest.mark.parametrize("images", [RGB, RGB / 255.0], ids=["bytes", "floats"])
def test_pixels_and_ids_are_those_of_the_arrays(tmp_path, images, masks):
    folder = write_dataset(images, masks, tmp_path / "data", classes=["a", "b", "c"])
    for number in range(2):
        np.testing.assert_array_equal(cv2.imread(str(folder / "images" / f"{number}.png"))[..., ::-1], RGB[number])
        np.testing.assert_array_equal(cv2.imread(str(folder / "masks" / f"{number}.png"), -1), IDS[number])
    assert [c.name for c in check_dataset(folder).info.classes] == ["a", "b", "c"]


def test_white_is_class_1_and_grey_stays_grey(tmp_path):
    folder = write_dataset(RGB[..., 0], (IDS > 0) * 255, tmp_path / "data")
    assert cv2.imread(str(folder / "images" / "0.png"), -1).ndim == 2
    assert np.unique(cv2.imread(str(folder / "masks" / "0.png"), -1)).tolist() == [0, 1]
    assert [c.name for c in check_dataset(folder).info.classes] == ["background", "foreground"]


@pytest.mark.parametrize(
    ("images", "masks", "classes", "problem"),
    [
        (RGB[..., :2], IDS, None, r"images are \(2, 4, 6, 2\) — expected"),
        (RGB.astype(np.float32), IDS, None, r"images are float32 from 0 to 2\d\d — expected .* undo the preprocessing"),
        (RGB / 255 * np.nan, IDS, None, r"images are float64 from nan"),
        (RGB, IDS[0], None, r"masks are \(4, 6\) — expected"),
        (RGB, IDS / 2, None, r"masks have the values 0, 0.5, 1 … — expected class ids"),
        (RGB, -IDS, None, r"masks have the values -2, -1, 0 …"),
        (RGB, IDS[:1], None, r"images are \(2, 4, 6, 3\), masks \(1, 4, 6\) — expected as many"),
        (RGB, IDS, ["a", "b"], r"masks have class 2 — only 2 classes are named"),
    ],
    ids=["channels", "scaled twice", "not a number", "one mask", "halves", "negative", "fewer", "names"],
)
def test_what_cannot_be_a_dataset_is_refused(tmp_path, images, masks, classes, problem):
    with pytest.raises(UsageError, match=problem):
        write_dataset(images, masks, tmp_path / "data", classes=classes)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_exists_stays(tmp_path):
    with pytest.raises(UsageError, match="exists"):
        write_dataset(RGB, IDS, tmp_path)
