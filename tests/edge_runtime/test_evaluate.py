import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from colors import COLOR_CLASSES, color_scene, color_truth

from edge_runtime import cli
from edge_runtime.dataset.detect import dataset_key
from edge_runtime.dataset.evaluate import dataset_pairs, evaluate
from edge_runtime.dataset.label_key import LabelKey
from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError, ModelError
from edge_runtime.segment.evaluation import evaluate_dataset
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.tiled import TiledSegmenter

NINE_IGNORED = LabelKey.of("index", COLOR_CLASSES, ignore_id=9)
NAMES = ("background", "red", "blue")


def write_pair(folder, stem, image, mask) -> Pair:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    pair = Pair(stem=stem, image=folder / "images" / f"{stem}.png", mask=folder / "masks" / f"{stem}.png")
    assert cv2.imwrite(str(pair.image), image)
    assert cv2.imwrite(str(pair.mask), mask)
    return pair


def blank(height=4, width=4):
    return np.zeros((height, width, 3), np.uint8)


def always(mask):
    return lambda image_bgr: np.asarray(mask, np.uint8)


def score(segment, pairs, **changes):
    return evaluate(segment, pairs, **{"key": LabelKey.of("index", COLOR_CLASSES), "classes": NAMES, **changes})


def test_a_two_by_two_case_by_hand(tmp_path):
    pair = write_pair(tmp_path, "a", blank(2, 2), np.array([[0, 0], [1, 1]], np.uint8))
    result = score(always([[0, 1], [1, 1]]), [pair])
    assert result.per_class_iou == {"background": 1 / 2, "red": 2 / 3, "blue": None}
    assert result.mean_iou == result.mean_image_iou == pytest.approx(7 / 12)
    assert result.pixel_accuracy == 3 / 4
    assert result.mean_dice == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert result.images == 1


def test_the_mean_is_of_one_matrix_not_of_images(tmp_path):
    small = write_pair(tmp_path, "a", blank(1, 2), np.array([[0, 1]], np.uint8))
    large = write_pair(tmp_path, "b", blank(10, 10), np.zeros((10, 10), np.uint8))
    result = score(lambda image: np.zeros(image.shape[:2], np.uint8), [small, large])
    assert result.mean_iou == pytest.approx((101 / 102 + 0) / 2)
    assert result.mean_image_iou == pytest.approx(((1 / 2 + 0) / 2 + 1) / 2)


def test_the_runtime_finds_the_scene_again(color_package, tmp_path):
    pairs = []
    for i, (height, width) in enumerate([(48, 64), (96, 128), (24, 32)]):
        scene = color_scene(height, width)
        pairs.append(write_pair(tmp_path / "data", str(i), scene, color_truth(scene)))
    segmenter = Segmenter.load(color_package)
    done = []
    result = score(lambda image_bgr: segmenter(image_bgr).mask, pairs, on_progress=lambda *call: done.append(call))
    assert result.mean_iou > 0.9
    assert result.boundary_f > 0.9
    assert done == [("measuring", number, 3) for number in range(4)]


def test_a_dataset_is_measured_by_its_folder_in_one_split(color_package, tmp_path):
    scene, done = color_scene(), []
    write_pair(tmp_path / "data" / "val", "right", scene, color_truth(scene))
    write_pair(tmp_path / "data" / "train", "wrong", scene, np.ones(scene.shape[:2], np.uint8))
    tiled = TiledSegmenter(Segmenter.load(color_package), tile_size=(24, 32))
    result = evaluate_dataset(tiled, str(tmp_path / "data"), "val", on_progress=lambda *call: done.append(call))
    assert (result.images, result.mean_iou) == (1, 1.0)
    assert done == [("measuring", 0, 1), ("measuring", 1, 1)]
    assert evaluate_dataset(tiled, tmp_path / "data", "train").pixel_accuracy < 0.2


def test_a_dataset_of_colours_is_measured_with_the_colours_of_the_model(color_package, tmp_path):
    scene = color_scene()
    colors_rgb = np.array([c.color for c in COLOR_CLASSES], np.uint8)[color_truth(scene)]
    colors_rgb[:8] = (9, 9, 9)
    write_pair(tmp_path, "a", scene, colors_rgb[..., ::-1])
    tiled = TiledSegmenter(Segmenter.load(color_package), tile_size=(24, 32))
    result = evaluate_dataset(tiled, tmp_path, ignore_colors=[(9, 9, 9)])
    assert (result.mean_iou, int(result.matrix.sum())) == (1.0, 40 * 64)


def test_json_has_the_documented_keys_and_null_for_an_absent_class(tmp_path):
    value = score(always(np.zeros((4, 4))), [write_pair(tmp_path, "a", blank(), np.zeros((4, 4), np.uint8))]).to_dict()
    assert value.keys() >= {"images", "mean_iou", "pixel_accuracy", "per_class_iou", "mean_dice", "boundary_f"}
    again = json.loads(json.dumps(value, allow_nan=False))
    assert again["per_class_iou"] == {"background": 1.0, "red": None, "blue": None}
    assert all(math.isfinite(again[key]) for key in ("mean_iou", "pixel_accuracy", "mean_dice", "boundary_f"))


def test_binary_masks_with_all_black_ones_are_read_as_binary(tmp_path):
    pairs = [
        write_pair(tmp_path, "a", blank(), np.zeros((4, 4), np.uint8)),
        write_pair(tmp_path, "b", blank(), np.full((4, 4), 255, np.uint8)),
    ]
    key = dataset_key(pairs, COLOR_CLASSES[:2])
    result = score(always(np.ones((4, 4))), pairs, key=key, classes=NAMES[:2])
    assert result.per_class_iou == {"background": 0.0, "red": 0.5}


def test_ignored_pixels_do_not_count(tmp_path):
    pair = write_pair(tmp_path, "a", blank(1, 4), np.array([[0, 0, 9, 9]], np.uint8))
    assert score(always([[0, 0, 1, 2]]), [pair], key=NINE_IGNORED).pixel_accuracy == 1.0


def test_an_evaluation_of_nothing_is_refused(tmp_path):
    pair = write_pair(tmp_path, "a", blank(), np.full((4, 4), 9, np.uint8))
    with pytest.raises(InputError, match="all pixels of 1 masks are ignored — expected at least one labelled pixel"):
        score(always(np.zeros((4, 4))), [pair], key=NINE_IGNORED)
    with pytest.raises(InputError, match="evaluation — no images"):
        score(always(np.zeros((4, 4))), [])


def test_another_mask_size_is_refused_with_both(tmp_path):
    pair = write_pair(tmp_path, "a", blank(4, 6), np.zeros((5, 5), np.uint8))
    with pytest.raises(
        InputError, match=r"masks/a\.png — 5x5 pixels, its image .*images/a\.png 6x4 — expected the same"
    ):
        score(always(np.zeros((4, 6))), [pair])


def test_a_turned_mask_comes_with_the_likely_cause(tmp_path):
    pair = write_pair(tmp_path, "a", blank(4, 6), np.zeros((6, 4), np.uint8))
    with pytest.raises(InputError, match=r"4x6 pixels, its image .* 6x4 \(turned: the image has an EXIF orientation"):
        score(always(np.zeros((4, 6))), [pair])


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((2, 2), np.uint8), r"uint8 of shape \(2, 2\) — expected uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4), np.int64), r"int64 of shape \(4, 4\) — expected uint8"),
        (np.full((4, 4), 3, np.uint8), "holds class id 3 — expected 0 to 2"),
    ],
)
def test_a_prediction_that_is_no_mask_is_refused(tmp_path, prediction, message):
    pair = write_pair(tmp_path, "a", blank(), np.zeros((4, 4), np.uint8))
    with pytest.raises(ModelError, match=message):
        score(lambda image: prediction, [pair])


class TestDatasetPairs:
    def dataset(self, root, *splits):
        for split in splits:
            write_pair(root / split, f"{split or 'all'}", blank(), np.zeros((4, 4), np.uint8))
        return root

    @pytest.mark.parametrize(
        ("splits", "chosen"),
        [
            (("train", "val", "test"), ["test"]),
            (("train", "val"), ["val"]),
            (("train",), ["train"]),
            (("",), ["all"]),
        ],
    )
    def test_the_default_is_test_else_val_else_all(self, tmp_path, splits, chosen):
        assert [p.stem for p in dataset_pairs(self.dataset(tmp_path, *splits))] == chosen

    def test_a_split_can_be_chosen(self, tmp_path):
        assert [p.stem for p in dataset_pairs(self.dataset(tmp_path, "train", "test"), "train")] == ["train"]

    def test_a_missing_split_is_refused_with_those_there_are(self, tmp_path):
        with pytest.raises(InputError, match="no split 'test' — it has train, val — choose another --split"):
            dataset_pairs(self.dataset(tmp_path, "train", "val"), "test")
        with pytest.raises(InputError, match="no split 'test' — it has no splits, only images/ and masks/"):
            dataset_pairs(self.dataset(tmp_path / "flat", ""), "test")

    def test_no_dataset_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no such folder — expected images/ and masks/"):
            dataset_pairs(tmp_path / "none")

    def test_an_empty_dataset_is_refused(self, tmp_path):
        (tmp_path / "images").mkdir()
        with pytest.raises(InputError, match=r"no images in .*/images"):
            dataset_pairs(tmp_path)

    def test_all_that_does_not_pair_is_listed(self, tmp_path):
        self.dataset(tmp_path, "")
        for i in range(25):
            cv2.imwrite(str(tmp_path / "images" / f"lone{i:02}.png"), blank())
        with pytest.raises(InputError, match="25 problems:") as caught:
            dataset_pairs(tmp_path)
        lines = str(caught.value).splitlines()
        assert len(lines) == 22
        assert "no mask for image" in lines[1]
        assert "lone00.png" in lines[1]
        assert lines[-1].strip() == "and 5 more"


def test_jpeg_masks_are_read_only_if_the_key_says_so(tmp_path):
    truth = np.zeros((32, 32), np.uint8)
    truth[:, 16:] = 1
    pair = write_pair(tmp_path, "a", blank(32, 32), truth)
    pair.mask.write_bytes(cv2.imencode(".jpg", truth * 255)[1].tobytes())
    key = LabelKey.of("binary", COLOR_CLASSES[:2])
    with pytest.raises(InputError, match="a JPEG mask"):
        score(always(truth), [pair], key=key, classes=NAMES[:2])
    assert score(always(truth), [pair], key=replace(key, lossy=True), classes=NAMES[:2]).mean_iou > 0.99


class TestColorCodedMasks:
    """What ``edge-unet eval`` makes of masks in colours: those of the package's classes, whatever dataset.yaml says."""

    @pytest.fixture
    def data(self, tmp_path):
        scene = color_scene()
        rgb = np.array([c.color for c in COLOR_CLASSES], np.uint8)[color_truth(scene)]
        write_pair(tmp_path / "data" / "val", "a", scene, rgb[..., ::-1])
        (tmp_path / "data" / "dataset.yaml").write_text("classes: [of, another]\n")
        return tmp_path / "data"

    def test_are_read_with_the_colours_of_the_package(self, color_package, data, capsys):
        assert cli.main(["eval", str(color_package), str(data), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mean_iou"] > 0.9

    def test_with_an_unknown_colour_are_refused_unless_it_is_to_be_ignored(self, color_package, data, capsys):
        path = data / "val" / "masks" / "a.png"
        mask = cv2.imread(str(path))
        mask[:10] = (7, 8, 9)
        cv2.imwrite(str(path), mask)
        assert cli.main(["eval", str(color_package), str(data)]) == 3
        assert "unknown colour (9, 8, 7) (640 px)" in capsys.readouterr().err
        assert cli.main(["eval", str(color_package), str(data), "--ignore-color", "9,8,7", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mean_iou"] > 0.9

    @pytest.mark.parametrize("text", ["1,2", "1,2,300", "red"])
    def test_need_a_colour_to_ignore(self, capsys, text):
        with pytest.raises(SystemExit):
            cli.main(["eval", "package", "data", "--ignore-color", text])
        assert f"argument --ignore-color: '{text}' — expected red, green, blue" in capsys.readouterr().err
