"""A split without a labelled pixel is refused before anything is loaded or trained: there is nothing to learn or measure."""

import subprocess
import sys

import numpy as np
import pytest
from datasets import DatasetFolder, png, squares

from training.config import TrainConfig
from training.data.check import check_dataset
from training.data.validation import with_validation
from training.errors import DataError
from training.input.prepare import decode_splits

CONFIG = TrainConfig.from_preset("edge-nano", input_size=(32, 32), batch_size=2, epochs=1)
NAMES = "classes: [background, a, b]\n"
COLORS = np.array([(0, 0, 0), (0, 0, 200), (200, 0, 0), (30, 9, 9)], np.uint8)  # BGR


def ids_with(folder, name, split, mask):
    folder.mask(name, png(mask), split)


def colors_with(folder, name, split, mask):
    folder.mask(name, png(COLORS[np.where(mask == 255, 3, mask)]), split)


WAYS = {
    "ignore_id": (ids_with, NAMES + "ignore_id: 255\n"),
    "ids": (ids_with, NAMES + "ids: {0: background, 1: a, 2: b, 255: null}\n"),
    "ignore_colors": (
        colors_with,
        NAMES + "colors: [[0, 0, 0], [200, 0, 0], [0, 0, 200]]\nignore_colors: [[9, 9, 30]]\n",
    ),
}


def write(root, way, counts):
    """Write pairs by split: so many with labels, and so many that are ignored."""
    put, yaml = WAYS[way]
    folder = DatasetFolder(root)
    folder.yaml(yaml)
    number = 0
    for split, (labelled, ignored) in counts.items():
        for place in range(labelled + ignored):
            image_bgr, ids = squares(number)
            name = f"{split}{number}.png"
            folder.image(name, png(image_bgr), split)
            put(folder, name, split, ids if place < labelled else np.full_like(ids, 255))
            number += 1
    return folder.root


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"train": (4, 0), "val": (0, 2)},
            "all pixels of the 2 masks in val are ignored (validation: the dataset's val folder) — nothing is left to measure",
        ),
        (
            {"train": (0, 4), "val": (2, 0)},
            "all pixels of the 4 masks in train are ignored (validation: the dataset's val folder) — nothing is left to learn",
        ),
        (
            {"": (1, 5)},
            "all pixels of the 1 masks in val are ignored (validation: held out by seed) — nothing is left to measure",
        ),
        (
            {"": (0, 5)},
            "all pixels of the 4 masks in train are ignored (validation: held out by seed) — nothing is left to learn",
        ),
    ],
)
def test_a_split_of_ignored_pixels_is_refused(tmp_path, way, counts, message):
    report = check_dataset(write(tmp_path, way, counts))
    with pytest.raises(DataError) as refused:
        with_validation(CONFIG, report)
    assert f"dataset {tmp_path} — {message}" in str(refused.value)


def test_groups_that_are_ignored_are_no_validation_split(tmp_path):
    root = write(tmp_path, "ignore_id", {"": (3, 3)})
    (root / "groups.csv").write_text("file,group\n" + "".join(f"{i},{'ab'[i > 2]}\n" for i in range(6)))
    config = TrainConfig.from_preset("edge-nano", input_size=(32, 32), val_groups=("b",))
    with pytest.raises(
        DataError, match=r"3 masks in val are ignored \(validation: the groups b of the training images\)"
    ):
        with_validation(config, check_dataset(root))


@pytest.mark.parametrize("counts", [{"train": (1, 3), "val": (1, 1)}, {"": (3, 5)}])
def test_one_labelled_mask_on_each_side_is_enough(tmp_path, counts):
    report = check_dataset(write(tmp_path, "ignore_id", counts))
    dataset = with_validation(CONFIG, report).dataset
    assert all(report.pixels_of(dataset.splits[split]).any() for split in ("train", "val"))


def test_labels_that_vanish_at_the_size_of_the_model_are_refused(tmp_path):
    folder = DatasetFolder(tmp_path / "data")
    folder.yaml(NAMES + "ignore_id: 255\n")
    for i in range(4):
        image_bgr, _ = squares(i, 256, 256)
        mask = np.full((256, 256), 255, np.uint8)
        mask[0, 0] = 1
        folder.image(f"{i}.png", png(image_bgr))
        folder.mask(f"{i}.png", png(mask))
    report = check_dataset(folder.root)
    with pytest.raises(DataError, match=r"no labelled pixel is left at \d+x\d+ — .* choose a larger --input-size"):
        decode_splits(CONFIG, report, with_validation(CONFIG, report).dataset, tmp_path, lambda *_: None)


def test_the_command_refuses_before_it_loads_tensorflow(tmp_path):
    root = write(tmp_path / "data", "ignore_id", {"train": (4, 0), "val": (0, 2)})
    code = (
        "import sys; from edge_runtime.cli import main; code = main(sys.argv[1:]); "
        "print(code, 'tensorflow' in sys.modules)"
    )
    arguments = ["train", str(root), "--out", str(tmp_path / "run")]
    child = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert child.stdout == "3 False\n"
    assert "split val — every pixel of its masks is ignored" in child.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()
