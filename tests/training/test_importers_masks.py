"""Formats that are mask files: Roboflow's, CVAT's in Cityscapes' layout, and a file per object or class."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import jpeg, palette_png, png
from foreign_datasets import HEIGHT, WIDTH, imported, scene, write

from training.data.check import check_dataset
from training.errors import DataError
from training.importers import ImportProblemsError, import_dataset

CSV = "Pixel Value, Class\n0, background\n1, red\n2, blue\n"


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def run(kind, src, **more):
    summary = import_dataset(kind, src, src.parent / "data", **more)
    return summary, imported(src.parent / "data")


def refusal(kind, src):
    with pytest.raises(DataError) as caught:
        import_dataset(kind, src, src.parent / "data")
    assert not (src.parent / "data").exists()
    return str(caught.value).replace(f"{src}/", "").replace(str(src), "src")


def names(summary):
    return [c.name for c in summary.classes]


class TestRoboflow:
    def pair(self, folder, seed=0, name="a", values=(0, 1, 2)):
        image_bgr, ids = scene(seed)
        write(folder / f"{name}.jpg", jpeg(image_bgr))
        write(folder / f"{name}_mask.png", png(np.array(values, np.uint8)[ids]))
        return ids

    @pytest.mark.parametrize(
        ("folder", "split"),
        [("", ""), ("train", "train/"), ("project.v1/train", "train/"), ("export", ""), ("valid", ""), ("test_1", "")],
    )
    def test_of_one_folder_is_read_wherever_it_is(self, src, folder, split):
        ids = self.pair(src / folder)
        write(src / folder / "_classes.csv", CSV)
        summary, found = run("roboflow", src)
        assert names(summary) == ["background", "red", "blue"]
        assert np.array_equal(found[f"{split}images/a"], ids)

    @pytest.mark.parametrize(
        ("text", "values", "expected"),
        [
            ("Pixel Value, Class\r\n0, unlabeled\r\n7, red\r\n9, blue\r\n", (0, 7, 9), ["unlabeled", "red", "blue"]),
            ("\ufeffPixel Value,Class\n1,red\n2,blue\n", (0, 1, 2), ["background", "red", "blue"]),
            (
                'pixel value, class\n2, "blue, dark"\n0, BACKGROUND\n1, red\n',
                (0, 1, 2),
                ["background", "red", "blue, dark"],
            ),
            ("Pixel Value, Class\n0, sky\n1, red\n255, void\n", (0, 1, 255), ["sky", "red", "void"]),
        ],
    )
    def test_classes_are_those_of_the_csv_in_the_order_of_their_values(self, src, text, values, expected):
        ids = self.pair(src, values=values)
        write(src / "_classes.csv", text)
        summary, found = run("roboflow", src)
        assert names(summary) == expected
        assert np.array_equal(found["images/a"], ids)

    def test_a_background_of_another_value_comes_first(self, src):
        ids = self.pair(src, values=(2, 0, 1))
        write(src / "_classes.csv", "Pixel Value, Class\n0, red\n1, blue\n2, background\n")
        summary, found = run("roboflow", src)
        assert names(summary) == ["background", "red", "blue"]
        assert np.array_equal(found["images/a"], ids)

    def test_what_has_no_partner_is_named(self, src):
        self.pair(src / "train")
        self.pair(src / "train", 1, "b")
        self.pair(src / "train", 2, "c")
        (src / "train" / "b_mask.png").unlink()
        (src / "train" / "c.jpg").unlink()
        write(src / "train" / "_classes.csv", CSV)
        summary, found = run("roboflow", src)
        assert list(found) == ["train/images/a"]
        assert [line.replace(f"{src}/train/", "") for line in summary.left_out] == [
            "b.jpg — no b_mask.png beside it",
            "c_mask.png — no image beside it",
        ]

    def test_an_image_may_be_called_mask_itself(self, src):
        ids = self.pair(src, name="face_mask")
        write(src / "_classes.csv", CSV)
        _, found = run("roboflow", src)
        assert list(found) == ["images/face_mask"]
        assert np.array_equal(found["images/face_mask"], ids)

    def test_palette_masks_are_read_by_index(self, src):
        image_bgr, ids = scene(0)
        write(src / "a.png", png(image_bgr))
        write(src / "a_mask.png", palette_png(ids))
        write(src / "_classes.csv", CSV)
        _, found = run("roboflow", src)
        assert np.array_equal(found["images/a"], ids)

    @pytest.mark.parametrize("other", ["0, background\n1, blue\n2, red\n", "0, background\n1, red\n"])
    def test_refuses_classes_that_differ_between_splits(self, src, other):
        for split, text in (("train", CSV), ("valid", f"Pixel Value, Class\n{other}")):
            self.pair(src / split, len(split))
            write(src / split / "_classes.csv", text)
        message = refusal("roboflow", src)
        assert message.startswith("valid/_classes.csv — 0 background, 1 ")
        assert "expected the classes of train/_classes.csv: 0 background, 1 red, 2 blue — export one version" in message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "_classes.csv — header '' — expected Pixel Value, Class"),
            ("filename, red, blue\na.jpg, 1, 0\n", "header 'filename, red, blue' — expected Pixel Value, Class"),
            ("Pixel Value, Class\n0\n", "line '0' — expected a value 0 to 255 and a class"),
            ("Pixel Value, Class\n256, a\n", "line '256, a' — expected a value 0 to 255"),
            ("Pixel Value, Class\n1,\n", "expected a value 0 to 255 and a class"),
            ("Pixel Value, Class\n1, a\n1, b\n", "value 1 stands twice — expected one class per value"),
        ],
    )
    def test_refuses_a_csv_without_classes(self, src, text, message):
        self.pair(src)
        write(src / "_classes.csv", text)
        assert message in refusal("roboflow", src)

    def test_refuses_values_that_the_csv_does_not_have(self, src):
        self.pair(src, values=(0, 1, 5))
        write(src / "_classes.csv", CSV)
        assert "a_mask.png — unknown value 5" in refusal("roboflow", src)

    def test_refuses_images_in_a_split_beside_others_in_none(self, src):
        self.pair(src / "train")
        self.pair(src / "more", 1, "b")
        write(src / "train" / "_classes.csv", CSV)
        assert "1 of 2 images are in no split, the first more/b.jpg — expected train, val or test" in refusal(
            "roboflow", src
        )


class TestCityscapesOfCvat:
    def pair(self, src, subset="default", name="a", seed=0, values=(0, 1, 2)):
        image_bgr, ids = scene(seed)
        stored = np.array(values, np.uint8)[ids]
        write(src / "imgsFine" / "leftImg8bit" / subset / f"{name}_leftImg8bit.png", png(image_bgr))
        masks = src / "gtFine" / subset / f"{name}_gtFine"
        write(masks.with_name(f"{masks.name}_labelIds.png"), png(stored))
        write(masks.with_name(f"{masks.name}_color.png"), png(stored))
        write(masks.with_name(f"{masks.name}_instanceIds.png"), png(stored.astype(np.uint16) * 1000))
        return ids

    def test_own_labels_are_the_lines_of_label_colors(self, src):
        ids = self.pair(src)
        write(src / "label_colors.txt", "0 0 0 background\n250 50 83 red light\n61 61 245 blue\n")
        summary, found = run("cityscapes", src)
        assert [(c.name, c.color) for c in summary.classes] == [
            ("background", (0, 0, 0)),
            ("red light", (250, 50, 83)),
            ("blue", (61, 61, 245)),
        ]
        assert np.array_equal(found["images/a_leftImg8bit"], ids)
        assert summary.left_out == summary.notes == ()
        assert not (src.parent / "data" / "groups.csv").exists()
        assert [p.code for p in check_dataset(src.parent / "data").problems if p.severity == "error"] == ["too_few"]

    def test_a_label_in_black_takes_the_place_of_the_background(self, src):
        ids = self.pair(src)
        write(src / "label_colors.txt", "0 0 0 road\n250 50 83 red\n61 61 245 blue\n")
        summary, found = run("cityscapes", src)
        assert names(summary) == ["road", "red", "blue"]
        assert np.array_equal(found["images/a_leftImg8bit"], ids)

    def test_labels_without_colours_get_some(self, src):
        self.pair(src)
        write(src / "label_colors.txt", " background\n red\n blue\n")
        summary, _ = run("cityscapes", src)
        assert names(summary) == ["background", "red", "blue"]
        assert len({c.color for c in summary.classes}) == 3

    def test_subsets_become_splits_and_folders_are_kept_apart(self, src):
        a, b = self.pair(src, "Train/hall", seed=1), self.pair(src, "Validation", seed=2)
        write(src / "label_colors.txt", "0 0 0 background\n250 50 83 red\n61 61 245 blue\n")
        summary, found = run("cityscapes", src)
        assert summary.images == {"train": 1, "val": 1}
        assert any(np.array_equal(mask, a) for key, mask in found.items() if key.startswith("train/"))
        assert any(np.array_equal(mask, b) for key, mask in found.items() if key.startswith("val/"))

    def test_what_has_no_partner_is_named(self, src):
        for seed, name in enumerate("abc"):
            self.pair(src, name=name, seed=seed)
        write(src / "label_colors.txt", "0 0 0 background\n250 50 83 red\n61 61 245 blue\n")
        (src / "gtFine" / "default" / "b_gtFine_labelIds.png").unlink()
        (src / "imgsFine" / "leftImg8bit" / "default" / "c_leftImg8bit.png").unlink()
        summary, found = run("cityscapes", src)
        assert list(found) == ["images/a_leftImg8bit"]
        assert "b_leftImg8bit.png — no mask in " in summary.left_out[0]
        assert "c_gtFine_labelIds.png — no image in " in summary.left_out[1]

    def test_without_label_colors_the_ids_are_those_of_cityscapes(self, src):
        ids = self.pair(src, values=(7, 26, 4))
        summary, found = run("cityscapes", src)
        assert len(summary.classes) == 19
        assert np.array_equal(found["images/a_leftImg8bit"], np.array([0, 13, 255], np.uint8)[ids])

    def test_without_its_images_is_refused(self, src):
        self.pair(src)
        (src / "imgsFine").rename(src / "gone")
        assert "no leftImg8bit — expected leftImg8bit/ and gtFine/, or CVAT's imgsFine/" in refusal("cityscapes", src)

    def test_refuses_a_wrong_list(self, src):
        self.pair(src)
        write(src / "label_colors.txt", "0 0 300 background\n")
        assert "label_colors.txt — line '0 0 300 background' — expected red green blue name" in refusal(
            "cityscapes", src
        )

    def test_refuses_a_value_beyond_the_list(self, src):
        self.pair(src, values=(0, 1, 9))
        write(src / "label_colors.txt", "0 0 0 background\n250 50 83 red\n")
        assert "a_gtFine_labelIds.png — unknown value 9" in refusal("cityscapes", src)


def white(ids, class_id):
    return png(255 * (ids == class_id).astype(np.uint8))


class TestMasksOfAClass:
    @pytest.mark.parametrize(
        ("folders", "expected"),
        [
            (("0", "1"), ["background", "class_1", "class_2"]),
            (("1", "2"), ["background", "class_1", "class_2"]),
            (("2", "10"), ["background", "class_2", "class_10"]),
            (("blue", "red"), ["background", "blue", "red"]),
        ],
    )
    def test_are_folders_in_the_order_of_their_names(self, src, folders, expected):
        every = {}
        for seed, name in enumerate(("im0", "im1")):
            image_bgr, every[f"images/{name}"] = scene(seed)
            write(src / "images" / f"{name}.jpg", jpeg(image_bgr))
            for class_id, folder in enumerate(folders, 1):
                write(src / "masks" / folder / f"{name}.png", white(every[f"images/{name}"], class_id))
        summary, found = run("object-masks", src)
        assert names(summary) == expected
        assert found.keys() == every.keys()
        assert all(np.array_equal(found[key], every[key]) for key in every)
        assert check_dataset(src.parent / "data").ok

    def test_of_splits(self, src):
        for seed, split in enumerate(("train", "val")):
            image_bgr, ids = scene(seed)
            write(src / split / "images" / f"a{seed}.jpg", jpeg(image_bgr))
            write(src / split / "masks" / "red" / f"a{seed}.png", white(ids, 1))
        summary, _ = run("object-masks", src)
        assert summary.images == {"train": 1, "val": 1}

    def test_overlap_with_the_later_class_on_top_and_the_pixels_counted(self, src):
        write(src / "images" / "a.png", png(scene(0)[0]))
        first, second = (np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2))
        first[:10, :10], second[5:15, :10] = 255, 255
        write(src / "masks" / "0" / "a.png", png(first))
        write(src / "masks" / "1" / "a.png", png(second))
        summary, found = run("object-masks", src)
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        expected[:10, :10] = 1
        expected[5:15, :10] = 2
        assert np.array_equal(found["images/a"], expected)
        [note] = [note.replace(f"{src}/", "") for note in summary.notes]
        assert note == "50 pixels are in several masks: the later one is on top (first: masks/1/a.png)"

    def test_that_are_missing_in_one_folder_are_counted_and_in_all_left_out(self, src):
        for seed, name in enumerate(("a", "b", "c")):
            image_bgr, ids = scene(seed)
            write(src / "images" / f"{name}.png", png(image_bgr))
            if name != "c":
                write(src / "masks" / "blue" / f"{name}.png", white(ids, 2))
            if name == "a":
                write(src / "masks" / "red" / f"{name}.png", white(ids, 1))
        write(src / "masks" / "red" / "z.png", white(scene(0)[1], 1))
        summary, found = run("object-masks", src)
        assert sorted(found) == ["images/a", "images/b"]
        assert np.array_equal(found["images/b"], (scene(1)[1] == 2).astype(np.uint8))
        assert [line.replace(f"{src}/", "") for line in summary.left_out] == [
            "images/c.png — no mask in masks/blue, masks/red",
            "masks/red/z.png — no image for it",
        ]
        [note] = [note.replace(f"{src}/", "") for note in summary.notes if "masks/red" in note]
        assert note == "1 images without a file in masks/red: without that class (first: images/b.png)"


class TestMasksOfAnObject:
    def test_are_united_and_overlaps_counted(self, src):
        write(src / "images" / "a.png", png(scene(0)[0]))
        write(src / "images" / "b.png", png(scene(1)[0]))
        for number, rows in enumerate((slice(0, 6), slice(4, 10))):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[rows, :20] = 1
            write(src / "masks" / "a" / f"{number}.png", png(mask))
        write(src / "masks" / "b" / "0.png", white(scene(1)[1], 1))
        summary, found = run("object-masks", src)
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        expected[:10, :20] = 1
        assert np.array_equal(found["images/a"], expected)
        assert np.array_equal(found["images/b"], (scene(1)[1] == 1).astype(np.uint8))
        assert names(summary) == ["background", "object"]
        assert any(note.startswith("40 pixels are in several masks") for note in summary.notes)

    @pytest.mark.parametrize(
        "encode",
        [
            lambda inside: png(inside.astype(np.uint8)),
            lambda inside: png(65535 * inside.astype(np.uint16)),
            lambda inside: png(np.dstack([0 * inside, 0 * inside, 255 * inside]).astype(np.uint8)),
            lambda inside: palette_png(inside.astype(np.uint8)),
            lambda inside: png(200 * inside.astype(np.uint8)),
        ],
    )
    def test_are_everything_but_black(self, src, encode):
        image_bgr, ids = scene(0)
        write(src / "ID" / "images" / "ID.png", png(image_bgr))
        for class_id in (1, 2):
            write(src / "ID" / "masks" / f"{class_id}.png", encode(ids == class_id))
        _, found = run("object-masks", src)
        assert np.array_equal(found["images/ID"], (ids > 0).astype(np.uint8))

    def test_may_be_named_after_their_image(self, src):
        every = {}
        for seed, name in enumerate(("cell", "cell_1", "b")):
            image_bgr, ids = scene(seed)
            write(src / "images" / f"{name}.jpg", jpeg(image_bgr))
            for class_id in (1, 2):
                write(src / "masks" / f"{name}_mask_{class_id}.png", white(ids, class_id))
            every[f"images/{name}"] = (ids > 0).astype(np.uint8)
        write(src / "masks" / "z_1.png", white(ids, 1))
        summary, found = run("object-masks", src)
        assert found.keys() == every.keys()
        assert all(np.array_equal(found[key], every[key]) for key in every)
        assert [line.replace(f"{src}/", "") for line in summary.left_out] == ["masks/z_1.png — no image for it"]

    def test_may_have_soft_edges_or_be_jpegs(self, src):
        soft = np.zeros((HEIGHT, WIDTH), np.uint8)
        soft[:, 20:40] = 255
        soft[:, 10:20] = np.arange(5, 255, 25)
        rows = np.zeros((HEIGHT, WIDTH), np.uint8)
        rows[16:30] = 255  # 254 and 255 once it is compressed
        for name, data in (("a", png(soft)), ("b", jpeg(rows))):
            write(src / name / "images" / f"{name}.png", png(scene(ord(name))[0]))
            write(src / name / "masks" / ("m.png" if name == "a" else "m.jpg"), data)
        summary, found = run("object-masks", src)
        assert np.array_equal(found["images/a"], (soft >= 128).astype(np.uint8))
        assert np.array_equal(found["images/b"], rows // 255)
        assert any(note.startswith("1 JPEG masks: grey levels from 128 are inside (first: ") for note in summary.notes)

    def test_that_show_nothing_are_counted(self, src):
        image_bgr, ids = scene(0)
        write(src / "ID" / "images" / "ID.png", png(image_bgr))
        write(src / "ID" / "masks" / "0.png", white(ids, 1))
        write(src / "ID" / "masks" / "1.png", png(np.zeros((HEIGHT, WIDTH), np.uint8)))
        summary, _ = run("object-masks", src)
        assert any(note.startswith("1 mask shapes without an area: not drawn (first: ") for note in summary.notes)

    def test_get_another_name_by_a_merge(self, src):
        image_bgr, ids = scene(0)
        write(src / "ID" / "images" / "ID.png", png(image_bgr))
        write(src / "ID" / "masks" / "0.png", white(ids, 1))
        summary, _ = run("object-masks", src, merge={"nucleus": ["object"]})
        assert names(summary) == ["background", "nucleus"]


class TestRefusedMasks:
    def test_of_another_size(self, src):
        image_bgr, ids = scene(0)
        write(src / "ID" / "images" / "ID.png", png(image_bgr))
        write(src / "ID" / "masks" / "0.png", white(ids, 1))
        write(src / "ID" / "masks" / "1.png", white(ids[:20], 1))
        message = refusal("object-masks", src)
        assert f"1.png — {WIDTH}x20, its image is {WIDTH}x{HEIGHT} — expected one size" in message

    def test_of_several_values(self, src):
        image_bgr, ids = scene(0)
        write(src / "ID" / "images" / "ID.png", png(image_bgr))
        write(src / "ID" / "masks" / "0.png", png(ids))
        assert "0.png — values 0, 1, 2 — expected 0 and one other" in refusal("object-masks", src)

    def test_one_file_per_image_is_a_dataset_as_it_is(self, src):
        for seed, name in enumerate("ab"):
            image_bgr, ids = scene(seed)
            write(src / "images" / f"{name}.png", png(image_bgr))
            write(src / "masks" / f"{name}.png", png(ids))
        assert "a dataset as it is: run `edge-unet data check`" in refusal("object-masks", src)

    def test_files_beside_folders(self, src):
        image_bgr, ids = scene(0)
        write(src / "images" / "a.png", png(image_bgr))
        write(src / "masks" / "a.png", png(ids))
        write(src / "masks" / "red" / "a.png", white(ids, 1))
        assert "masks — files (a.png) beside folders (red) — expected one of them" in refusal("object-masks", src)

    def test_folders_and_files_that_both_have_names_of_images(self, src):
        for name in ("0", "1"):
            write(src / "images" / f"{name}.png", png(scene(int(name))[0]))
            write(src / "masks" / name / "0.png", white(scene(0)[1], 1))
        assert "have names of images — expected folders named after classes" in refusal("object-masks", src)

    def test_images_of_one_name(self, src):
        image_bgr, ids = scene(0)
        write(src / "images" / "a.png", png(image_bgr))
        write(src / "images" / "a.jpg", jpeg(image_bgr))
        write(src / "masks" / "red" / "a.png", white(ids, 1))
        with pytest.raises(ImportProblemsError, match=r"a.png — has the name of .*a.jpg — expected one of them"):
            import_dataset("object-masks", src, src.parent / "data")
