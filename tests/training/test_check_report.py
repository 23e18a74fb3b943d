"""What the check says of a whole dataset: groups, balance, odd masks, and how it is printed."""

import json

import cv2
import numpy as np
import pytest
from datasets import jpeg, png, squares
from faults import plant, scene, scenes

from edge_runtime.dataset.label_key import LabelKey, class_counts
from edge_runtime.dataset.mask_files import StoredMask, contents_of, pack_color
from edge_runtime.errors import InputError
from edge_runtime.model.contract import ClassInfo
from training.data.check import check_dataset, progress_bar, render, warnings_in_short
from training.data.check.labels import refused_labels
from training.errors import DataError

NAMED = "classes: [background, red, blue]\n"


def warnings(dataset):
    report = check_dataset(dataset.root)
    assert report.ok, report.problems
    return [(p.code, p.file.rpartition("/")[2], p.message) for p in report.problems]


def only_warning(dataset):
    (warning,) = warnings(dataset)
    return warning


class TestSequences:
    def frames(self, dataset, video, numbers, split, first_seed):
        for offset, number in enumerate(numbers):
            dataset.pair(f"{video}_{number:05}", first_seed + offset, split)

    def test_in_two_splits_are_named(self, empty_dataset):
        self.frames(empty_dataset, "street", (10, 40, 70), "train", 0)
        self.frames(empty_dataset, "park", (10, 40, 70), "train", 10)
        self.frames(empty_dataset, "street", (100, 130), "val", 20)
        empty_dataset.yaml(NAMED + "groups: '^([a-z]+)_'\n")
        code, name, message = only_warning(empty_dataset)
        assert (code, name) == ("group_leak", "street")
        assert message.startswith("group 'street' — in train and val — expected in one split")
        report = check_dataset(empty_dataset.root)
        assert set(report.groups.values()) == {"street", "park"}
        assert report.to_dict()["groups"] == 2

    def test_that_are_not_known_are_suspected_from_the_names(self, empty_dataset):
        for video in range(2):
            self.frames(empty_dataset, f"v{video}", range(100, 108), "", 10 * video)
        code, _, message = only_warning(empty_dataset)
        assert code == "video_frames"
        assert "a split by seed puts neighbouring frames on both sides: metrics will flatter — set groups: '" in message
        empty_dataset.yaml(NAMED + "groups: '" + message.split("groups: '")[1].split("' in")[0] + "'\n")
        assert warnings(empty_dataset) == []

    def test_that_are_not_known_are_suspected_across_given_splits(self, empty_dataset):
        for video in range(2):
            self.frames(empty_dataset, f"v{video}", range(100, 108), "train", 10 * video)
        self.frames(empty_dataset, "v1", range(108, 116), "val", 50)
        code, _, message = only_warning(empty_dataset)
        assert code == "video_frames"
        assert "1 of them ('v1') are in more than one split" in message

    def test_of_a_good_split_are_no_problem(self, empty_dataset):
        for video in range(3):
            self.frames(empty_dataset, f"v{video}", range(100, 108), "val" if video == 2 else "train", 10 * video)
        assert warnings(empty_dataset) == []

    def test_that_are_incomplete_are_an_error(self, dataset):
        (dataset.root / "groups.csv").write_text("file,group\n0.png,a\n")
        report = check_dataset(dataset.root)
        assert [(p.severity, p.code) for p in report.problems] == [("error", "groups")]
        assert report.groups is None


class TestLabels:
    @pytest.mark.parametrize(("off", "code"), [(40, "smeared_mask"), (41, "unknown_id")])
    def test_the_code_of_a_colour_beside_the_known_ones_says_what_the_message_says(self, off, code):
        colors = [(0, 0, 0), (255, 255, 255)]
        classes = [ClassInfo(id=i, name=str(i), color=color) for i, color in enumerate(colors)]
        key = LabelKey.of("color", classes)
        contents = contents_of(StoredMask(values=np.full((2, 2), pack_color((off, 0, 9)), np.uint32), form="color"))
        assert refused_labels(contents, key) == code
        with pytest.raises(InputError, match=r"a little off known" if code == "smeared_mask" else r"add the class"):
            class_counts(contents, key, "a")

    @pytest.mark.parametrize("quality", [30, 90])
    def test_one_compressed_mask_does_not_make_a_black_and_white_dataset_soft(self, empty_dataset, quality):
        for i in range(6):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            white = np.where(ids, 255, 0).astype(np.uint8)
            data = cv2.imencode(".jpg", white, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            empty_dataset.mask(f"{i}.png", png(white if i else cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)))
        code, name, message = only_warning(empty_dataset)
        assert (code, name) == ("smeared_mask", "0.png")
        assert "px between 0 and 255, where most masks have none" in message
        assert check_dataset(empty_dataset.root).pixels[1] == pytest.approx(
            sum((squares(i)[1] > 0).sum() for i in range(6)), rel=0.02
        )

    @pytest.mark.parametrize(
        "soften",
        [
            lambda white: cv2.GaussianBlur(white, (0, 0), 1),
            lambda white: cv2.GaussianBlur(white, (0, 0), 0.7),
            lambda white: cv2.resize(cv2.resize(white, (13, 13), interpolation=cv2.INTER_AREA), (32, 32)),
        ],
        ids=["a little", "much", "resized"],
    )
    @pytest.mark.parametrize(("soft", "hard"), [(4, 0), (10, 20), (3, 27)])
    def test_soft_edges_are_an_encoding_and_not_a_fault_of_each_mask(self, empty_dataset, soft, hard, soften):
        for i in range(soft + hard):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            white = np.where(ids, 255, 0).astype(np.uint8)
            empty_dataset.mask(f"{i}.png", png(np.asarray(soften(white), np.uint8) if i < soft else white))
        assert (warnings(empty_dataset), check_dataset(empty_dataset.root).encoding) == ([], "soft")

    def test_soft_edges_of_one_mask_among_many_are_odd(self, empty_dataset):
        for i in range(40):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            white = np.where(ids, 255, 0).astype(np.uint8)
            empty_dataset.mask(
                f"{i}.png", png(white if i else np.asarray(cv2.GaussianBlur(white, (0, 0), 1), np.uint8))
            )
        assert only_warning(empty_dataset)[:2] == ("smeared_mask", "0.png")

    def test_colours_a_little_off_are_told_from_unknown_ones(self, empty_dataset):
        colors = np.array([(0, 0, 0), (0, 0, 200), (200, 0, 0)], np.uint8)
        for i in range(5):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            picture = colors[ids]
            if i == 3:
                picture = np.maximum(picture, 5)
            if i == 4:
                picture[:2] = (0, 255, 0)
            empty_dataset.mask(f"{i}.png", png(picture))
        empty_dataset.yaml(NAMED + "colors: [[0, 0, 0], [200, 0, 0], [0, 0, 200]]\n")
        report = check_dataset(empty_dataset.root)
        assert [(p.code, p.file.rpartition("/")[2]) for p in report.problems] == [
            ("smeared_mask", "3.png"),
            ("unknown_id", "4.png"),
        ]
        assert "(0, 255, 0) (64 px)" in report.problems[1].message

    def test_jpeg_masks_are_used_on_demand(self, empty_dataset):
        for i in range(3):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            empty_dataset.mask(f"{i}.jpg", jpeg(np.where(ids, 255, 0).astype(np.uint8)))
        assert {p.code for p in check_dataset(empty_dataset.root).problems if p.severity == "error"} == {"lossy_mask"}
        report = check_dataset(empty_dataset.root, allow_lossy_mask=True)
        assert report.ok
        assert report.key.lossy
        assert {p.code for p in report.problems} == {"lossy_mask"}
        truth = sum((squares(i)[1] > 0).sum() for i in range(3))
        assert report.pixels[1] == pytest.approx(truth, rel=0.03)

    def test_one_jpeg_mask_adds_no_classes_to_a_colour_coded_dataset(self, empty_dataset):
        colors = np.array([(0, 0, 0), (0, 0, 200), (200, 0, 0)], np.uint8)
        for i in range(5):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            empty_dataset.mask(f"{i}.jpg" if i == 2 else f"{i}.png", (jpeg if i == 2 else png)(colors[ids]))
        report = check_dataset(empty_dataset.root)
        assert [(p.code, p.file.rpartition("/")[2]) for p in report.problems] == [("lossy_mask", "2.jpg")]
        assert (report.encoding, len(report.info.classes)) == ("color", 3)

    def test_a_mask_of_nothing_that_counts(self, dataset):
        dataset.image("a.png", png(squares(9)[0]))
        dataset.mask("a.png", png(np.full((32, 32), 9, np.uint8)))
        dataset.yaml(NAMED + "ignore_id: 9\n")
        code, name, message = only_warning(dataset)
        assert (code, name) == ("empty_mask", "a.png")
        assert "masks/a.png — no pixel that counts in the whole mask" in message

    @pytest.mark.parametrize(
        ("objects", "warned"), [(19, ["a.png"]), (40, ["a.png"]), (39, ["a.png", "b.png"]), (3, [])]
    )
    def test_masks_of_background_alone_are_counted_and_suspected_if_they_are_few(self, empty_dataset, objects, warned):
        empty = ["a.png", "b.png"] if objects in (39, 3) else ["a.png"]
        empty_dataset.fill(objects)
        for name in empty:
            empty_dataset.image(name, png(squares(ord(name[0]) + 100)[0]))
            empty_dataset.mask(name, png(np.zeros((32, 32), np.uint8)))
        found = warnings(empty_dataset)
        assert [(code, name) for code, name, _ in found] == [("background_only", name) for name in warned]
        assert all(f"/{name} — only 'background' — right where nothing is" in message for _, name, message in found)
        report = check_dataset(empty_dataset.root)
        assert [path.rpartition("/")[2] for path in report.to_dict()["background_only"]] == empty
        assert f"masks of 'background' alone: {len(empty)} of {objects + len(empty)}" in render(report).splitlines()


def test_a_class_that_accuracy_would_not_miss(empty_dataset):
    for i in range(3):
        image_bgr, ids = scene(i)
        ids[:] = 0
        ids[:4, i : i + 9] = 1
        ids[60, 2] = 2
        empty_dataset.image(f"{i}.png", png(image_bgr))
        empty_dataset.mask(f"{i}.png", png(ids))
    empty_dataset.yaml(NAMED)
    code, name, message = only_warning(empty_dataset)
    assert (code, name) == ("rare_class", "blue")
    assert message.startswith("class 'blue' — 0.01% of the pixels, 6875 times fewer than 'background'")


def test_the_same_file_twice_in_a_split_with_another_mask(dataset):
    dataset.image("9.png", png(squares(1)[0]))
    dataset.mask("9.png", png(squares(7)[1]))
    code, name, message = only_warning(dataset)
    assert (code, name) == ("duplicate", "9.png")
    assert "the same image twice in train, with different masks" in message


def test_copies_within_the_only_split_are_a_warning_for_they_may_come_apart(tmp_path):
    dataset = scenes(tmp_path / "a", train=3, val=0)
    image_bgr, ids = scene(1)
    dataset.image("zz.jpg", jpeg(image_bgr), "train")
    dataset.mask("zz.png", png(ids), "train")
    assert only_warning(dataset)[:2] == ("near_duplicate", "zz.jpg")


def test_names_that_never_match_are_shown(empty_dataset):
    empty_dataset.image("a.jpg", jpeg(squares(0)[0]))
    empty_dataset.mask("b.png", png(squares(0)[1]))
    with pytest.raises(
        DataError,
        match=r"of the same name \(1 images and 1 masks\) — no mask for image .*a\.jpg — expected .*masks/a\.png",
    ):
        check_dataset(empty_dataset.root)


class TestText:
    @pytest.fixture
    def report(self, empty_dataset):
        empty_dataset.fill(30, "train").fill(1, "val", first_seed=50).yaml(NAMED)
        for i in range(25):
            empty_dataset.image(f"train{i}.png", jpeg(squares(i)[0]), "train")
        empty_dataset.mask("train29.png", b"", "train")
        empty_dataset.image("Thumbs.db", b"x", "train")
        empty_dataset.image("._a.png", b"x", "val")
        return check_dataset(empty_dataset.root)

    def test_has_a_table_of_classes_by_split(self, report):
        lines = render(report).splitlines()
        assert lines[0].endswith("data: 31 pairs (train 30, val 1), masks: index")
        assert lines[1] == "images: JPEG 25, PNG 6; 32x32"
        assert lines[2] == "ignored: 2 files that are hidden or not images"
        assert lines[3].split() == ["id", "class", "images", "train", "val"]
        red = lines[5].split()
        shares = [report.split_pixels()[s][1] / report.split_pixels()[s].sum() for s in ("train", "val")]
        assert red == ["1", "red", "30", *(f"{share:.2%}" for share in shares)]

    def test_has_a_paragraph_for_a_kind_with_three_examples_and_the_remedy_once(self, report):
        lines = render(report).splitlines()
        assert lines[7].startswith("error [empty_file] train/masks/train29.png — empty file (0 bytes) — ")
        assert lines[8:] == [
            "warning [wrong_extension] 25 files have the extension of another format — rename it to .jpg",
            "    train/images/train0.png: is a JPEG file; train/images/train1.png; train/images/train10.png;",
            "    and 22 more",
            "1 errors, 25 warnings (--all lists every file)",
        ]
        assert len(report.to_dict()["problems"]) == 26
        assert report.to_dict()["problem_counts"] == {"empty_file": 1, "wrong_extension": 25}

    def test_of_everything_has_a_whole_line_for_each_file(self, report):
        lines = render(report, everything=True).splitlines()
        assert [line.partition(" — ")[0].rpartition("/")[2] for line in lines[8:33]] == [
            f"train{i}.png" for i in sorted(range(25), key=str)
        ]
        assert all(line.endswith(" — rename it to .jpg") for line in lines[8:33])
        assert lines[33:] == ["1 errors, 25 warnings"]

    def test_of_warnings_in_short_has_one_line_a_kind(self, report):
        assert warnings_in_short(report) == [
            "warning: 25 files have the extension of another format (first: train/images/train0.png: is a JPEG file; "
            "`edge-unet data check --all` lists all) — rename it to .jpg"
        ]

    def test_packs_examples_into_lines_and_breaks_none(self, empty_dataset):
        stems = [letter * 60 for letter in "abc"]
        for stem in stems:
            empty_dataset.image(f"{stem}.png", png(squares(ord(stem[0]))[0]))
        empty_dataset.fill(2)
        assert render(check_dataset(empty_dataset.root)).splitlines()[-4:-1] == [
            f"    images/{stems[0]}.png: expected masks/{stems[0]}.png;",
            f"    images/{stems[1]}.png: expected masks/{stems[1]}.png;",
            f"    images/{stems[2]}.png: expected masks/{stems[2]}.png",
        ]

    def test_of_a_set_with_every_fault_fits_on_one_screen(self, tmp_path):
        scenes(tmp_path)
        faults = plant(tmp_path)
        text = render(check_dataset(tmp_path))
        assert len(text.splitlines()) <= 50
        assert all(f"[{code}] " in text for code, _ in faults)

    def test_of_many_classes_has_rows_for_those_with_the_most_pixels(self, empty_dataset):
        names = [f"class {i}" for i in range(60)]
        for i in range(2):
            image_bgr, ids = squares(i)
            ids[0, :20] = np.arange(40, 60)
            ids[1] = 59
            empty_dataset.image(f"{i}.png", png(image_bgr))
            empty_dataset.mask(f"{i}.png", png(ids))
        empty_dataset.yaml(f"classes: {names}\n")
        report = check_dataset(empty_dataset.root)
        lines = render(report).splitlines()
        assert len(lines) < 30
        assert [int(line.split()[0]) for line in lines[3:18]] == [0, 1, 2, *range(40, 51), 59]
        assert lines[18] == "      and 45 more with fewer pixels, 37 of them with none (--all lists every class)"
        absent = next(line for line in lines if "[absent_class]" in line)
        assert "37 classes have no pixel in a split" in absent
        assert len(render(report, everything=True).splitlines()) > 2 + 60 + 37

    def test_as_json_has_no_nan_and_all_keys(self, report):
        value = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert (value["ok"], value["images"], value["ignored_files"]) == (False, 31, 2)
        assert value["image_sizes"] == {"min": [32, 32], "median": [32, 32], "max": [32, 32]}
        assert value["image_forms"] == {"JPEG": 25, "PNG": 6}
        assert value["classes"][1]["split_share"].keys() == {"train", "val"}


def test_sizes_and_forms_of_a_mixed_dataset(empty_dataset):
    for i, (shape, encode) in enumerate([((32, 48), png), ((20, 20), jpeg), ((90, 50), jpeg)]):
        image_bgr, ids = squares(i, *shape)
        empty_dataset.image(f"{i}{'.png' if encode is png else '.jpg'}", encode(image_bgr))
        empty_dataset.mask(f"{i}.png", png(ids))
    report = check_dataset(empty_dataset.root)
    assert report.size_range() == ((20, 20), (32, 48), (90, 50))
    assert "images: JPEG 2, PNG 1; 20x20 to 50x90, median 48x32" in render(report)


def test_the_bar_is_silent_where_there_is_no_terminal(dataset, capsys):
    with progress_bar() as on_progress:
        check_dataset(dataset.root, on_progress=on_progress)
    assert capsys.readouterr() == ("", "")
