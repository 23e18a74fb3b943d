"""The commands data and train as a person or a script meets them, as far as they need no TensorFlow."""

import json

import cv2
import pytest
from datasets import png, squares

from edge_runtime import cli
from training.data.synth import SynthSize, write_synthetic_dataset


@pytest.fixture
def edge_unet(capsys):
    """Run a command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class TestDataCheck:
    def test_prints_one_json_object(self, edge_unet, dataset):
        code, out, err = edge_unet("data", "check", dataset.root, "--json")
        assert (code, err, out.count("\n")) == (0, "", 1)
        value = json.loads(out)
        assert value.keys() >= {"ok", "images", "classes", "mask_encoding", "problems"}
        assert (value["ok"], value["images"], value["splits"]) == (True, 3, {"train": 3})
        assert (value["mask_encoding"], value["problems"]) == ("index", [])
        assert [c["name"] for c in value["classes"]] == ["background", "class_1", "class_2"]
        assert sum(c["pixel_share"] for c in value["classes"]) == pytest.approx(1)

    def test_prints_the_problems_as_json_and_is_3(self, edge_unet, dataset):
        path = dataset.image("größe.png", png(squares(9)[0]))
        dataset.mask("0.png", b"")
        code, out, err = edge_unet("data", "check", dataset.root, "--json")
        assert (code, err) == (3, "")
        value = json.loads(out)
        assert not value["ok"]
        assert [p.keys() for p in value["problems"]] == [{"severity", "code", "file", "message"}] * 2
        missing = value["problems"][0]
        assert (missing["severity"], missing["code"], missing["file"]) == ("error", "missing_mask", str(path))

    def test_prints_a_table_and_every_problem(self, edge_unet, empty_dataset):
        empty_dataset.fill(2, "train").fill(1, "val", first_seed=9)
        empty_dataset.yaml("classes: [background, red, blue, green]\n")
        empty_dataset.mask("train0.png", b"", "train")
        code, out, _ = edge_unet("data", "check", empty_dataset.root)
        lines = out.splitlines()
        assert code == 3
        assert lines[0] == f"{empty_dataset.root}: 3 pairs (train 2, val 1), masks: index"
        assert lines[1] == "images: PNG 3; 32x32"
        assert [line.split()[1] for line in lines[2:7]] == ["class", "background", "red", "blue", "green"]
        assert lines[7].startswith("error [empty_file] ")
        assert lines[8:10] == [
            "warning [absent_class] 2 classes have no pixel in a split — add images that show it",
            "    train: 'green'; val: 'green'",
        ]
        assert lines[10] == "1 errors, 2 warnings"

    def test_without_a_dataset_is_3_on_one_line(self, edge_unet, tmp_path):
        code, out, err = edge_unet("data", "check", tmp_path / "none")
        assert (code, out) == (3, "")
        assert err.startswith(f"edge-unet: dataset {tmp_path}/none — no such folder")
        assert err.count("\n") == 1


class TestDataPreview:
    def test_writes_a_picture(self, edge_unet, dataset, tmp_path):
        code, out, _ = edge_unet("data", "preview", dataset.root, "--out", tmp_path / "sheet.png")
        assert (code, out) == (0, f"{tmp_path}/sheet.png\n")
        assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 600

    def test_takes_only_png(self, edge_unet, dataset, tmp_path):
        code, _, err = edge_unet("data", "preview", dataset.root, "--out", tmp_path / "sheet.jpg")
        assert code == 2
        assert "sheet.jpg — expected a name that ends in .png" in err

    def test_into_a_missing_folder_is_6(self, edge_unet, dataset, tmp_path):
        code, _, err = edge_unet("data", "preview", dataset.root, "--out", tmp_path / "none" / "sheet.png")
        assert code == 6
        assert f"cannot write {tmp_path}/none/sheet.png" in err

    def test_of_nothing_readable_is_3(self, edge_unet, empty_dataset, tmp_path):
        empty_dataset.image("a.png", b"")
        empty_dataset.mask("a.png", b"")
        code, _, err = edge_unet("data", "preview", empty_dataset.root, "--out", tmp_path / "sheet.png")
        assert code == 3
        assert "no pair that can be drawn" in err
        assert not (tmp_path / "sheet.png").exists()


class TestDataSynth:
    def test_refuses_a_folder_that_is_not_empty(self, edge_unet, dataset):
        code, _, err = edge_unet("data", "synth", dataset.root)
        assert code == 3
        assert f"{dataset.root} — folder is not empty" in err

    def test_refuses_a_negative_seed(self, edge_unet, tmp_path):
        code, _, err = edge_unet("data", "synth", tmp_path / "data", "--seed", -1)
        assert (code, err) == (2, "edge-unet: --seed -1 — expected 0 or more\n")
        assert not (tmp_path / "data").exists()

    @pytest.mark.slow
    def test_writes_the_whole_dataset(self, edge_unet, tmp_path):
        root = tmp_path / "data"
        code, out, _ = edge_unet("data", "synth", root)
        assert (code, out) == (0, f"{root}: dataset; {root}/video: a video with masks\n")
        code, out, _ = edge_unet("data", "check", root, "--json")
        value = json.loads(out)
        assert (code, value["problems"]) == (0, [])
        assert value["background_only"], "some benches are empty, which is no fault"
        assert value["splits"] == {"train": 240, "val": 40, "test": 60}

    def test_writes_what_passes_its_own_check(self, edge_unet, tmp_path):
        # The command has no option for a smaller dataset; the function behind it has.
        write_synthetic_dataset(tmp_path / "data", size=SynthSize(train=3, val=3, test=3, video_frames=1))
        code, out, _ = edge_unet("data", "check", tmp_path / "data", "--json")
        value = json.loads(out)
        assert (code, value["problems"], value["splits"]) == (0, [], {"train": 3, "val": 3, "test": 3})
        assert [c["name"] for c in value["classes"]] == ["background", "coin", "leaf", "bolt"]


class TestTrainRefuses:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--input-size", "100x96"), "--input-size 100x96: height is 100 — preset 'edge' needs a multiple of 32"),
            (
                ("--preset", "big"),
                "--preset big — no such preset — choose one of seed, classic, edge-nano, edge, edge-large, selfie, "
                "fcn, fcn-vgg16, segnet, segnet-vgg16, deeplab, deeplab-xception",
            ),
            (("--epochs", "0"), "--epochs 0 — expected a positive number"),
            (("--patience", "-1"), "--patience -1 — expected 0 or more"),
            (("--accumulate", "0"), "--accumulate 0 — expected a positive number"),
            (("--mix", "1.5"), "--mix 1.5 — expected a number from 0 up to, not including, 1"),
            (("--loss", "cross_entropy+dise"), "loss 'cross_entropy+dise' — no loss 'dise' — expected a sum of "),
            (("--encoder-weights", "imagenet"), "--encoder-weights imagenet — without --encoder — name the encoder"),
        ],
    )
    def test_options_that_cannot_work(self, edge_unet, dataset, tmp_path, options, message):
        code, out, err = edge_unet("train", dataset.root, "--out", tmp_path / "run", *options)
        assert (code, out) == (2, "")
        assert err.startswith(f"edge-unet: {message}")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("size", ["96", "96x", "x96", "-96x96", "9.6x96", "0x0", "96x0", "²x96", "٩٦x96"])
    def test_a_size_that_is_none(self, dataset, tmp_path, size, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main(["train", str(dataset.root), "--out", str(tmp_path / "run"), f"--input-size={size}"])
        assert ended.value.code == 2
        assert f"'{size}' — expected HEIGHTxWIDTH, as in 224x320" in capsys.readouterr().err

    def test_a_folder_that_holds_something_else(self, edge_unet, dataset):
        code, _, err = edge_unet("train", dataset.root, "--out", dataset.root)
        assert code == 2
        assert f"--out {dataset.root} — not empty — pass --resume to go on with it" in err

    def test_a_bad_dataset_which_it_names_and_counts(self, edge_unet, dataset, tmp_path):
        dataset.mask("0.png", b"")
        dataset.mask("1.png", b"")
        code, _, err = edge_unet("train", dataset.root, "--out", tmp_path / "run")
        assert code == 3
        assert err == (
            f"edge-unet: {dataset.root}/masks/0.png — empty file (0 bytes) — copy it again or remove it "
            "(and 1 more: `edge-unet data check` lists all)\n"
        )
        # What the attempt leaves does not stand in the way of the next.
        dataset.fill(3)
        dataset.image("3.png", b"")
        dataset.mask("3.png", b"")
        assert edge_unet("train", dataset.root, "--out", tmp_path / "run")[0] == 3


class TestTolerance:
    def test_pairs_that_are_bad_or_alone_are_left_out_if_that_is_wanted(self, edge_unet, dataset):
        dataset.fill(6)
        dataset.mask("0.png", b"")
        dataset.image("alone.png", png(squares(9)[0]))
        assert edge_unet("data", "check", dataset.root)[0] == 3
        code, out, _ = edge_unet("data", "check", dataset.root, "--skip-bad", "--allow-unpaired", "--json")
        value = json.loads(out)
        assert (code, value["ok"], value["images"]) == (0, True, 5)
        assert {p["code"] for p in value["problems"]} >= {"empty_file", "missing_mask"}

    def test_a_dataset_without_training_images_is_refused(self, edge_unet, empty_dataset, tmp_path):
        empty_dataset.fill(3, "val").yaml("classes: [background, red, blue]\n")
        code, _, err = edge_unet("train", empty_dataset.root, "--out", tmp_path / "run", "--input-size", "32x32")
        assert code == 3
        assert f"dataset {empty_dataset.root} — nothing to train on — expected images in train/" in err

    def test_groups_that_are_not_there_cannot_be_held_out(self, edge_unet, dataset, tmp_path):
        arguments = ("train", dataset.fill(6).root, "--out", tmp_path / "run", "--input-size", "32x32")
        code, _, err = edge_unet(*arguments, "--val-groups", "a")
        assert code == 2
        assert "--val-groups a — the dataset has no groups — pass --group-by PATTERN or write groups.csv" in err
        code, _, err = edge_unet(*arguments, "--val-groups", "9", "--group-by", r"(\d)")
        assert code == 3
        assert "group '9' — not in train" in err


def test_help_of_every_command_names_its_options(capsys):
    for arguments, expected in ((["data", "--help"], "preview"), (["train", "--help"], "--max-minutes M")):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out
