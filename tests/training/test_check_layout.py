"""A dataset's folder as people keep it: what is used and how the summary says so, and what is not used."""

import json
import os
import unicodedata

import numpy as np
import pytest
from datasets import DatasetFolder, jpeg, png, squares

from edge_runtime.cli import main
from edge_runtime.dataset.evaluate import read_pair
from edge_runtime.errors import InputError
from training.data.check import check_dataset, render
from training.data.dataset import find_dataset, read_class_ids
from training.data.splits import find_groups, hold_out_by_seed
from training.data.validation import with_validation
from training.errors import DataError
from training.input.cache import PixelSpec, open_cache


def put(root, *names):
    """Write good pictures and, below a folder of masks, good masks; the seed follows from the name."""
    for name in names:
        path = root / name
        image_bgr, ids = squares(sum(path.stem.encode()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(image_bgr) if path.suffix == ".jpg" else png(ids))
    return root


def warnings(root):
    report = check_dataset(root)
    assert report.ok, report.problems
    return {p.code: p.message for p in report.problems}


class TestWhatIsUsed:
    @pytest.mark.parametrize(
        ("names", "summary", "notes"),
        [
            (("images/{}.jpg", "masks/{}.png"), "4 pairs (train 4)", []),
            (("images/cam/{}.jpg", "masks/cam/{}.png"), "4 pairs (train 4)", []),
            (("images/{}.jpg", "labels/{}.png"), "4 pairs (train 4)", ["pairs: images/ and labels/"]),
            (
                ("images/train/{}.jpg", "masks/train/{}.png"),
                "4 pairs (train 4)",
                ["split train: images/train/ and masks/train/"],
            ),
            (
                ("Training/img/{}.jpg", "Training/gt/{}.png"),
                "4 pairs (train 4)",
                ["split train: Training/img/ and Training/gt/"],
            ),
        ],
    )
    def test_is_counted_and_told_if_it_has_another_name(self, tmp_path, names, summary, notes):
        put(tmp_path, *(name.format(stem) for stem in ("a", "b", "e", "h") for name in names))
        report = check_dataset(tmp_path)
        assert report.problems == ()
        lines = render(report).splitlines()
        assert summary in lines[0]
        assert set(notes) <= set(lines)
        assert report.to_dict()["notes"] == notes

    def test_are_masks_with_a_suffix(self, tmp_path):
        put(tmp_path, *(f"images/{i}.jpg" for i in "abcd"), *(f"masks/{i}_mask.png" for i in "abcd"))
        report = check_dataset(tmp_path)
        assert (report.ok, len(report.dataset.pairs())) == (True, 4)
        assert f"{tmp_path}/masks: files named *_mask are paired by what * stands for" in render(report).splitlines()

    def test_are_splits_of_other_names_so_that_nothing_is_held_out(self, tmp_path):
        put(tmp_path, "train/images/a.jpg", "train/masks/a.png", "Valid/images/h.jpg", "Valid/masks/h.png")
        assert check_dataset(tmp_path).to_dict()["splits"] == {"train": 1, "val": 1}


class TestWhatIsNotUsed:
    @pytest.fixture
    def root(self, tmp_path):
        return put(tmp_path, *(f"train/{name}" for i in "ahq" for name in (f"images/{i}.jpg", f"masks/{i}.png")))

    def test_is_nothing_in_a_good_dataset(self, root):
        for name in (
            "README.md",
            "groups.txt",
            "scripts/make.py",
            "train/images/Thumbs.db",
            ".git/a.png",
            "notes/a.txt",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        assert warnings(root) == {}
        assert check_dataset(root).ignored_files == 1

    @pytest.mark.parametrize(
        ("files", "places"),
        [
            (("images/a.jpg", "masks/a.png"), "2 picture files below it are not used: images/ (1), masks/ (1)"),
            (("val/a.jpg", "val/b.jpg"), "2 picture files below it are not used: val/ (2)"),
            (("old/x/a.jpg", "old/y/b.jpg", "c.jpg"), "3 picture files below it are not used: c.jpg, old/ (2)"),
            (("train/extra/a.jpg",), "1 picture files below it are not used: train/extra/ (1)"),
            (("train/a.jpg",), "1 picture files below it are not used: train/a.jpg"),
            (("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"), "not used: a.jpg, b.jpg, c.jpg and 2 more"),
            (("train/images/raw.heic",), "1 picture files below it are not used: train/images/raw.heic"),
        ],
    )
    def test_is_counted_in_one_warning(self, root, files, places):
        for name in files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        found = warnings(root)
        assert list(found) == ["unused_files"]
        assert places in found["unused_files"]

    def test_may_be_a_link_to_nowhere(self, root):
        (root / "valid").symlink_to(root / "gone")
        (root / "x.jpg").symlink_to(root / "gone.jpg")
        with pytest.raises(InputError, match=r"valid — a link to .*gone, which does not exist"):
            check_dataset(root)
        (root / "valid").rename(root / "more")
        assert "more (a link to nowhere), x.jpg (a link to nowhere)" in warnings(root)["unused_files"]

    @pytest.mark.parametrize(
        "name", ["data.yaml", "DATA.YML", "train/dataset.yaml", "classes.yaml", "train/groups.csv", "Groups.csv"]
    )
    def test_may_be_settings(self, root, name):
        (root / name).write_text("names: [a, b]\nnc: 2\n")
        found = warnings(root)
        assert list(found) == ["unread_settings"]
        assert f"not read: {name} — expected dataset.yaml and groups.csv beside images/" in found["unread_settings"]
        assert "`edge-unet data import --help`" in found["unread_settings"]

    @pytest.mark.parametrize(
        "name", ["train.txt", "class_dict.csv", "_annotations.coco.json", "dataset.yaml.txt", "labels.txt"]
    )
    def test_may_be_lists_of_splits_and_classes(self, root, name):
        (root / name).write_text("a\n")
        (root / "README.txt").write_text("about the pictures\n")
        (root / "weather.csv").write_text("rain\n")
        found = warnings(root)
        assert list(found) == ["unread_settings"]
        assert f"not read: {name} — expected" in found["unread_settings"]

    def test_are_not_the_masks_of_a_video(self, root):
        for name in ("video/moving.mkv", "video/masks/000000.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        assert warnings(root) == {}

    def test_are_the_halves_of_broken_pairs_unless_they_are_left_out(self, root):
        for name in ("images/z.jpg", "masks/z.png"):
            (root / "train" / name).symlink_to(root / "gone" / name)
        report = check_dataset(root)
        assert [(p.severity, p.code) for p in report.problems] == [("error", "broken_link")] * 2
        report = check_dataset(root, skip_bad=True)
        assert [(p.severity, p.code) for p in report.problems] == [("warning", "broken_link")] * 2


class TestNothingThatPairs:
    @pytest.mark.parametrize(
        ("files", "message"),
        [
            (
                ("images/a.jpg", "masks/0/a.png", "masks/1/a.png"),
                r"\(1 images and 2 masks\) — no mask for image .* a folder per class",
            ),
            (("images/a.jpg", "masks/a/1.png", "masks/a/2.png"), r"found 2 masks in .*masks/a/ — .*object-masks"),
            (
                ("images/a.jpg", "images/b.jpg"),
                r"\(2 images and 0 masks\), no .*/masks/, but images/ \(2 \.jpg\) — no mask",
            ),
            (("images/a.jpg", "labels/a.txt"), r"found .*labels/a\.txt — .* `edge-unet data import --help` lists"),
            (("images/a.jpg", "masks/a.tga"), r"found .*masks/a\.tga, which is not read"),
            (("images/a.heic", "masks/a.png"), r"found .*images/a\.heic, which is not read"),
        ],
    )
    def test_says_what_is_there(self, tmp_path, files, message):
        with pytest.raises(DataError, match=message):
            check_dataset(put(tmp_path, *files))

    def test_not_even_empty_masks_are_enough(self, tmp_path):
        with pytest.raises(DataError, match=r"no image with a mask of the same name \(2 images and 0 masks\)"):
            check_dataset(put(tmp_path, "images/a.jpg", "images/b.jpg"), empty_without_mask=True)


class TestImagesWithoutAMask:
    @pytest.fixture
    def root(self, tmp_path):
        put(
            tmp_path,
            "images/a.jpg",
            "masks/a.png",
            "images/h.jpg",
            "masks/h.png",
            "images/good1.jpg",
            "images/good9.jpg",
        )
        return tmp_path

    @pytest.mark.parametrize("how", ["option", "yaml"])
    def test_count_as_background_if_told_so(self, root, how):
        assert {p.code for p in check_dataset(root).problems} == {"missing_mask"}
        if how == "yaml":
            DatasetFolder(root).yaml("classes: [background, red, blue]\nempty_without_mask: true\n")
        report = check_dataset(root, empty_without_mask=how == "option")
        assert report.problems == ()
        truth = sum(np.bincount(squares(ord(i))[1].reshape(-1), minlength=3) for i in "ah")
        assert report.pixels.tolist() == (truth + np.array([2 * 32 * 32, 0, 0])).tolist()
        assert "without a mask: 2 images count as all background" in render(report).splitlines()
        value = json.loads(json.dumps(report.to_dict()))
        assert (value["images"], value["without_mask"], value["background_only"]) == (4, 2, [])

    def test_change_the_fingerprint(self, root):
        with_empty = check_dataset(root, empty_without_mask=True).fingerprint
        assert with_empty != check_dataset(root, allow_unpaired=True).fingerprint
        (root / "masks" / "good1.png").write_bytes(png(np.zeros((32, 32), np.uint8)))
        assert with_empty != check_dataset(root, empty_without_mask=True).fingerprint

    def test_are_background_wherever_they_are_read(self, root, tmp_path):
        report = check_dataset(root, empty_without_mask=True)
        pairs = report.dataset.pairs()
        (empty, _) = (pair for pair in pairs if pair.mask is None)
        assert not read_class_ids(empty, report.key).any()
        assert not read_pair(empty, report.key)[1].any()
        assert read_class_ids(empty, report.key).shape == (32, 32)
        spec = PixelSpec(
            pairs=pairs, read_ids=lambda p: read_class_ids(p, report.key), height_px=16, width_px=16, channels=3
        )
        cache = open_cache(spec, tmp_path / "cache")
        assert [not mask.any() for mask in cache.masks] == [pair.mask is None for pair in pairs]

    def test_do_not_let_a_damaged_or_orphan_mask_pass(self, root):
        (root / "masks" / "a.png").write_bytes(b"")
        put(root, "masks/orphan.png")
        codes = {p.code for p in check_dataset(root, empty_without_mask=True).problems}
        assert codes == {"empty_file", "orphan_mask"}

    @pytest.mark.parametrize("command", ["data check", "train", "data preview", "eval"])
    def test_have_an_option_in_every_command_that_reads_them(self, capsys, command):
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert "--empty-without-mask images without a mask count as all background" in text

    def test_are_drawn_by_preview(self, root, tmp_path):
        sheet = tmp_path / "look.png"
        assert main(["data", "preview", str(root), "--out", str(sheet), "--empty-without-mask"]) == 0
        assert sheet.stat().st_size > 1000


class TestUnicodeForms:
    def folder(self, root, form):
        put(
            root,
            *(
                unicodedata.normalize(form, f"{part}/é{i}.{kind}")
                for i in range(12)
                for part, kind in (("images", "jpg"), ("masks", "png"))
            ),
        )
        return root

    def test_do_not_change_the_split(self, tmp_path):
        held = []
        for form in ("NFC", "NFD"):
            dataset = find_dataset(self.folder(tmp_path / form, form))
            held.append([pair.stem for pair in hold_out_by_seed(dataset, 0.3, seed=1).splits["val"]])
        assert held[0] == held[1]
        assert len(held[0]) == 4

    @pytest.mark.parametrize("in_file", ["NFC", "NFD"])
    @pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
    @pytest.mark.parametrize("name", ["é{}", "é{}.jpg", "images/é{}.jpg"])
    def test_are_the_same_to_groups(self, tmp_path, in_file, on_disk, name):
        root = self.folder(tmp_path, on_disk)
        rows = "".join(f"{unicodedata.normalize(in_file, name.format(i))},g{i // 6}\n" for i in range(12))
        (root / "groups.csv").write_text("file,group\n" + rows)
        groups = find_groups(find_dataset(root))
        assert sorted(groups.values()) == ["g0"] * 6 + ["g1"] * 6


def test_a_split_by_seed_without_a_pixel_that_counts_is_refused(tmp_path):
    from training.config import TrainConfig

    put(tmp_path, "images/a.jpg", "masks/a.png", "images/b.jpg")
    (tmp_path / "masks" / "b.png").write_bytes(png(np.full((32, 32), 255, np.uint8)))
    report = check_dataset(tmp_path)
    assert report.ok
    with pytest.raises(DataError, match=r"all pixels of the 1 masks in (train|val) are ignored"):
        with_validation(TrainConfig.from_preset("edge-nano"), report)


class TestNamesAndFiles:
    @pytest.mark.parametrize(
        "stem",
        [
            *(
                "two words",
                "画像_1",
                "😀",
                "-rf",
                "it's",
                '"quoted"',
                "$(touch x)",
                "tab\there",
                "x" * 200,
                "[red]",
                "%s",
                "{x}",
            ),
            *("a;b", "*", "?", "#1", "a.b.c", "~a", "&lt;", "CON"),
        ],
    )
    def test_of_any_characters_pair(self, tmp_path, stem):
        put(
            tmp_path,
            f"images/{stem}.jpg",
            f"masks/{stem}.png",
            f"images/sub {stem[:50]}/q.jpg",
            f"masks/sub {stem[:50]}/q.png",
        )
        assert len(check_dataset(tmp_path).dataset.pairs()) == 2
        assert warnings(tmp_path) == {}

    def test_pipes_folders_and_loops_are_passed_over(self, tmp_path):
        put(tmp_path, "images/a.jpg", "masks/a.png", "images/h.jpg", "masks/h.png")
        os.mkfifo(tmp_path / "images" / "pipe.jpg")
        (tmp_path / "images" / "folder.jpg").mkdir()
        (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
        (tmp_path / "masks" / "folder.png").mkdir()
        assert warnings(tmp_path) == {}

    @pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "._a.jpg", ".ipynb_checkpoints/a.jpg", "desktop.ini"])
    def test_of_systems_are_counted(self, tmp_path, name):
        put(tmp_path, "images/a.jpg", "masks/a.png", "images/h.jpg", "masks/h.png")
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"x")
        report = check_dataset(tmp_path)
        assert report.problems == ()
        assert report.ignored_files == (0 if "/" in name else 1)

    def test_a_file_in_place_of_the_folder_is_told(self, tmp_path):
        (tmp_path / "data.zip").write_bytes(b"PK")
        with pytest.raises(InputError, match=r"data\.zip — a file — expected images/ and masks/"):
            check_dataset(tmp_path / "data.zip")
