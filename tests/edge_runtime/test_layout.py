"""Where a dataset keeps its images and masks, and which of them belong together."""

import unicodedata

import pytest

from edge_runtime.dataset.evaluate import dataset_pairs
from edge_runtime.dataset.layout import find_layout
from edge_runtime.dataset.pairs import PairFolders, find_pairs
from edge_runtime.errors import InputError


def put(root, *names):
    """Make files of no content; pairing goes by names alone."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def folders(root):
    """Return the folders of images and masks by split, relative to the root."""
    found = find_layout(root).folders
    return {
        split: tuple(path.relative_to(root).as_posix() for path in (f.images, f.masks)) for split, f in found.items()
    }


def paired(root, **options):
    return find_pairs(PairFolders(images=root / "images", masks=root / "masks"), **options)


def names(pairing):
    return [(pair.stem, pair.image.name, pair.mask and pair.mask.name) for pair in pairing.pairs]


class TestLayouts:
    @pytest.mark.parametrize(
        ("word", "split"),
        [
            *(("train", "train"), ("training", "train"), ("TRAIN", "train"), ("trainval", "train")),
            *(("val", "val"), ("valid", "val"), ("validation", "val"), ("Val", "val"), ("VALID", "val")),
            *(("test", "test"), ("testing", "test"), ("Test", "test"), ("val2017", "val"), ("test_2019", "test")),
        ],
    )
    def test_split_folders_have_any_usual_name_in_any_case(self, tmp_path, word, split):
        put(tmp_path, f"{word}/images/a.jpg", f"{word}/masks/a.png")
        assert folders(tmp_path) == {split: (f"{word}/images", f"{word}/masks")}
        notes = find_layout(tmp_path).notes
        assert notes == (() if word == split else (f"split {split}: {word}/images/ and {word}/masks/",))

    @pytest.mark.parametrize(("one", "other"), [("val", "valid"), ("Val", "val"), ("test", "testing")])
    def test_two_folders_of_one_split_are_refused_by_name(self, tmp_path, one, other):
        put(tmp_path, "train/images/a.jpg", f"{one}/images/a.jpg", f"{other}/images/b.jpg")
        with pytest.raises(
            InputError, match=f"{min(one, other)}/ and {max(one, other)}/ — expected one folder for the"
        ):
            find_layout(tmp_path)

    def test_a_folder_that_only_has_a_splits_name_is_none(self, tmp_path):
        put(tmp_path, "val/images/a.jpg", "val/masks/a.png", "valid/notes.txt", "train/images/b.jpg")
        assert folders(tmp_path)["val"] == ("val/images", "val/masks")

    @pytest.mark.parametrize("name", ["test_bench_1", "trainstation", "latest"])
    def test_a_name_that_contains_a_splits_is_none(self, tmp_path, name):
        put(tmp_path, f"images/{name}/a.jpg", f"masks/{name}/a.png")
        assert find_layout(tmp_path).has_splits is False
        assert names(paired(tmp_path)) == [(f"{name}/a", "a.jpg", "a.png")]

    @pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("img_dir", "ann_dir"), ("imgs", "labels")])
    def test_splits_may_lie_inside_the_folders_of_images_and_masks(self, tmp_path, images, masks):
        put(tmp_path, f"{images}/train/a.jpg", f"{masks}/train/a.png", f"{images}/val/b.jpg", f"{masks}/val/b.png")
        assert folders(tmp_path) == {
            "train": (f"{images}/train", f"{masks}/train"),
            "val": (f"{images}/val", f"{masks}/val"),
        }

    def test_the_masks_of_such_a_split_may_have_its_other_name(self, tmp_path):
        put(tmp_path, "images/training/a.jpg", "masks/train/a.png", "images/Valid/b.jpg", "masks/val/b.png")
        assert folders(tmp_path) == {
            "train": ("images/training", "masks/train"),
            "val": ("images/Valid", "masks/val"),
        }

    def test_pictures_beside_such_splits_need_a_split_of_their_own(self, tmp_path):
        put(tmp_path, "images/a.jpg", "images/test/b.jpg", "masks/a.png", "masks/test/b.png")
        with pytest.raises(InputError, match=r"holds 1 files as a\.jpg beside test/ — .* move them to .*images/train/"):
            find_layout(tmp_path)

    def test_folders_that_are_no_splits_are_part_of_the_names(self, tmp_path):
        put(tmp_path, "images/car/a.jpg", "images/train/a.jpg", "masks/car/a.png", "masks/train/a.png")
        assert [pair.stem for pair in dataset_pairs(tmp_path)] == ["car/a", "train/a"]

    @pytest.mark.parametrize("images", ["images", "image", "img", "imgs", "Images", "img_dir"])
    @pytest.mark.parametrize(
        "masks", ["masks", "mask", "labels", "label", "annotations", "gt", "Masks", "ground_truth"]
    )
    @pytest.mark.parametrize("split", ["", "train/"])
    def test_folders_have_any_usual_name(self, tmp_path, images, masks, split):
        put(tmp_path, f"{split}{images}/a.jpg", f"{split}{masks}/a.png")
        assert folders(tmp_path) == {"train": (f"{split}{images}", f"{split}{masks}")}
        assert len(find_layout(tmp_path).notes) == ((images, masks) != ("images", "masks"))

    def test_the_usual_name_goes_before_the_others(self, tmp_path):
        put(tmp_path, "images/a.jpg", "img/a.jpg", "masks/a.png", "labels/a.png", "annotations/a.json")
        assert folders(tmp_path) == {"train": ("images", "masks")}

    def test_a_folder_without_pictures_is_not_that_of_the_masks(self, tmp_path):
        put(tmp_path, "images/a.jpg", "labels/a.txt", "gt/a.png")
        assert folders(tmp_path) == {"train": ("images", "gt")}

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            (
                ("images/a.jpg", "labels/a.png", "gt/a.png"),
                "gt/ and .*labels/ — each could be the masks — expected one",
            ),
            (("img/a.jpg", "imgs/a.jpg", "masks/a.png"), "img/ and .*imgs/ — each could be the images — expected one"),
        ],
    )
    def test_two_unusual_names_are_refused(self, tmp_path, files, message):
        with pytest.raises(InputError, match=message):
            find_layout(put(tmp_path, *files))

    def test_what_lies_beside_other_splits_is_to_train_on(self, tmp_path):
        put(tmp_path, "images/a.jpg", "masks/a.png", "val/images/b.jpg", "val/masks/b.png")
        assert folders(tmp_path) == {"train": ("images", "masks"), "val": ("val/images", "val/masks")}
        assert find_layout(tmp_path).notes == ("split train: images/ and masks/",)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            (("train/a.jpg", "train/b.jpg", "train_masks/a.gif"), r"train/ \(2 \.jpg\), train_masks/ \(1 \.gif\)"),
            (
                ("a.jpg", "a_mask.png", "b.jpg"),
                r"inside, but a\.jpg and 2 more files like it — expected images/ and mask",
            ),
            (("x/images/x.png", "y/images/y.png"), "2 folders with images/ inside, as x/, and none is a split"),
            (("JPEGImages/a.jpg",), r"JPEGImages/ \(1 \.jpg\) — .* `edge-unet data import --help` lists the formats"),
            ((), "inside, but nothing — expected images/ and masks/"),
        ],
    )
    def test_what_is_there_is_told_if_it_is_no_dataset(self, tmp_path, files, message):
        with pytest.raises(InputError, match=message):
            find_layout(put(tmp_path, *files))

    @pytest.mark.parametrize("name", ["images", "masks", "val", "train/images"])
    def test_a_folder_that_is_a_link_to_nowhere_is_named(self, tmp_path, name):
        put(tmp_path, "train/masks/a.png", *(() if name == "images" else ("images/a.jpg",)))
        (tmp_path / name).symlink_to(tmp_path / "gone")
        with pytest.raises(InputError, match=f"{name} — a link to .*gone, which does not exist — expected a folder"):
            find_layout(tmp_path)

    def test_links_to_folders_are_followed_and_loops_have_an_end(self, tmp_path):
        put(tmp_path, "far/images/cam/a.jpg", "far/masks/cam/a.png")
        (tmp_path / "data").mkdir()
        for name in ("images", "masks"):
            (tmp_path / "data" / name).symlink_to(tmp_path / "far" / name)
            (tmp_path / "far" / name / "loop").symlink_to(tmp_path / "far" / name)
        assert [pair.stem for pair in dataset_pairs(tmp_path / "data")] == ["cam/a"]

    def test_a_folder_that_may_not_be_read_is_an_error(self, tmp_path, monkeypatch):
        put(tmp_path, "images/cam/a.jpg", "masks/cam/a.png")
        closed = (tmp_path / "images/cam").as_posix()
        scandir = __import__("os").scandir

        def refuse(path="."):
            if str(path) == closed:
                raise PermissionError(13, "Permission denied", closed)
            return scandir(path)

        monkeypatch.setattr("os.scandir", refuse)
        with pytest.raises(InputError, match=r"cannot read .*images/cam — permission denied"):
            find_pairs(PairFolders(images=tmp_path / "images", masks=tmp_path / "masks"))


class TestNames:
    def test_pair_below_the_same_subfolders(self, tmp_path):
        put(tmp_path, "images/cam1/a.jpg", "images/cam2/a.jpg", "masks/cam1/a.png", "masks/cam2/a.png", "images/b.jpg")
        put(tmp_path, "masks/b.png", "images/.ipynb_checkpoints/b.jpg", "masks/deep/er/c.png", "images/deep/er/c.jpg")
        found = paired(tmp_path)
        assert [pair.stem for pair in found.pairs] == ["b", "cam1/a", "cam2/a", "deep/er/c"]
        assert all(pair.image.parent.name in (pair.mask.parent.name, "images") for pair in found.pairs)
        assert found.problems == ()

    @pytest.mark.parametrize(("image", "mask"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
    @pytest.mark.parametrize("name", ["café_1", "größe", "パン", "한글", "cam é/ü"])
    def test_pair_in_any_unicode_form(self, tmp_path, name, image, mask):
        put(tmp_path, f"images/{unicodedata.normalize(image, name)}.jpg")
        put(tmp_path, f"masks/{unicodedata.normalize(mask, name)}.png")
        found = paired(tmp_path)
        assert [pair.stem for pair in found.pairs] == [unicodedata.normalize("NFC", name)]
        assert found.problems == ()

    @pytest.mark.parametrize(("image", "mask"), [("IM01.JPG", "im01.png"), ("a.jpeg", "A.PNG"), ("a.b.jpg", "a.b.png")])
    def test_pair_in_any_case_and_with_any_suffix(self, tmp_path, image, mask):
        put(tmp_path, f"images/{image}", f"masks/{mask}")
        assert [(pair.image.name, pair.mask.name) for pair in paired(tmp_path).pairs] == [(image, mask)]

    @pytest.mark.parametrize(
        ("one", "other"),
        [("a.jpg", "a.png"), ("a.jpg", "A.jpg"), (unicodedata.normalize("NFD", "é.jpg"), "é.jpg")],
    )
    def test_of_two_images_that_are_the_same_are_a_problem(self, tmp_path, one, other):
        put(tmp_path, f"images/{one}", f"images/{other}", "masks/a.png", "masks/é.png")
        problems = [p for p in paired(tmp_path).problems if p.code == "duplicate_stem"]
        assert len(problems) == 1
        assert one in problems[0].message
        assert other in problems[0].message

    @pytest.mark.parametrize(
        ("pattern", "shown"),
        [
            *(
                (f"{{}}{after}", f"*{after}")
                for after in ("_mask", "_label", "_seg", "-mask", "_gt", ".mask", " mask", "_l")
            ),
            *(
                (f"{{}}{after}", f"*{after}")
                for after in ("_labels", "_segmentation", "_color_rgb", "mask", ".jpg", "_GT")
            ),
            *((f"{before}{{}}", f"{before}*") for before in ("mask_", "label-", "gt", "seg.")),
        ],
    )
    def test_of_masks_may_all_have_the_same_more(self, tmp_path, pattern, shown):
        for stem in ("001", "002", "0100"):
            put(tmp_path, f"images/{stem}.jpg", f"masks/{pattern.format(stem)}.png")
        found = paired(tmp_path)
        assert [(p.stem, p.mask.name) for p in found.pairs] == [
            (stem, f"{pattern.format(stem)}.png") for stem in ("001", "002", "0100")
        ]
        assert found.problems == ()
        assert found.notes == (f"{tmp_path}/masks: files named {shown.lower()} are paired by what * stands for",)

    @pytest.mark.parametrize(
        ("image", "mask"),
        [
            *(
                ("{}_image", "{}"),
                ("img_{}", "{}"),
                ("{}_image", "{}_mask"),
                ("{}_sat", "{}_mask"),
                ("{}_rgb", "{}_gt"),
            ),
            *(("image_{}", "mask_{}"), ("img{}", "mask{}"), ("{}_training", "{}_manual1"), ("image_{}", "{}_mask")),
            *(("{}_leftImg8bit", "{}_gtFine_labelIds"), ("cam/{}", "cam/{}_mask"), ("{}.rf.x", "{}.rf.x_mask")),
        ],
    )
    def test_of_images_may_too(self, tmp_path, image, mask):
        for stem in ("21", "22", "33"):
            put(tmp_path, f"images/{image.format(stem)}.jpg", f"masks/{mask.format(stem)}.png")
        found = paired(tmp_path)
        assert [(p.image.stem, p.mask.stem) for p in found.pairs] == [
            (image.format(stem).rpartition("/")[2], mask.format(stem).rpartition("/")[2]) for stem in ("21", "22", "33")
        ]
        assert found.problems == ()

    @pytest.mark.parametrize(
        ("images", "masks"),
        [
            (("cam1_1", "cam1_2"), ("cam2_1", "cam2_2")),
            (("a", "b"), ("a_1", "b_1")),
            (("a", "b"), ("a_mask", "b_label")),
            (("cat", "dog"), ("cow_mask", "owl_mask")),
            (("a", "b", "c", "d", "e"), ("a_mask", "v_mask", "w_mask", "x_mask", "y_mask")),
        ],
    )
    def test_that_are_like_each_other_by_chance_do_not_pair(self, tmp_path, images, masks):
        put(tmp_path, *(f"images/{name}.jpg" for name in images), *(f"masks/{name}.png" for name in masks))
        found = paired(tmp_path)
        assert found.pairs == ()
        assert len(found.problems) == len(images) + len(masks)

    def test_that_are_equal_are_not_cut(self, tmp_path):
        put(tmp_path, "images/a_mask.jpg", "masks/a_mask.png", "images/b.jpg", "masks/b_mask.png")
        assert names(paired(tmp_path)) == [("a_mask", "a_mask.jpg", "a_mask.png")]


class TestUnpaired:
    def only(self, root, code="missing_mask"):
        """Return the message of the only problem of a kind, after a good pair is added."""
        put(root, "images/good.jpg", "masks/good.png")
        (problem,) = [p for p in paired(root).problems if p.code == code]
        return problem.message

    @pytest.mark.parametrize("suffix", [".tga", ".npy", ".heic", ".nii.gz", ".psd", ".xyz"])
    @pytest.mark.parametrize(("image", "mask"), [("images/im", "masks/im.png"), ("images/im.jpg", "masks/im")])
    def test_files_are_told_of_a_partner_that_is_not_read(self, tmp_path, suffix, image, mask):
        image, mask = (name if "." in name else name + suffix for name in (image, mask))
        put(tmp_path, image, mask)
        unread = image if image.endswith(suffix) else mask
        message = self.only(tmp_path, "orphan_mask" if unread == image else "missing_mask")
        assert f"found {tmp_path}/{unread}" in message
        assert "save it as png" in message or "`edge-unet data import --help`" in message
        assert paired(tmp_path).unread == ()

    @pytest.mark.parametrize("suffix", [".txt", ".json", ".xml"])
    def test_annotations_of_another_format_lead_to_the_importers(self, tmp_path, suffix):
        put(tmp_path, "images/im.jpg", f"masks/im{suffix}")
        assert self.only(tmp_path).endswith("— `edge-unet data import --help` lists the formats that can be converted")

    def test_a_mask_in_another_folder_is_to_be_moved(self, tmp_path):
        put(tmp_path, "images/cam1/im.jpg", "masks/im.png")
        assert self.only(tmp_path).endswith(
            f"found {tmp_path}/masks/im.png — expected the same folders for images and masks — move it to "
            f"{tmp_path}/masks/cam1/"
        )
        assert f"move it to {tmp_path}/images/" in self.only(tmp_path, "orphan_mask")

    @pytest.mark.parametrize(
        "masks", [("masks/0/im.png", "masks/1/im.png"), ("masks/im/1.png", "masks/im/2.png", "masks/im/x.png")]
    )
    def test_several_masks_of_one_image_are_to_be_joined(self, tmp_path, masks):
        put(tmp_path, "images/im.jpg", *masks)
        assert self.only(tmp_path).endswith("join them: `edge-unet data import object-masks`")
        orphans = [p.message for p in paired(tmp_path).problems if p.code == "orphan_mask"]
        assert len(orphans) == len(masks)
        assert all("join them: `edge-unet data import object-masks`" in message for message in orphans)

    @pytest.mark.parametrize(("image", "mask"), [("im", "im_mask"), ("im", "mask_im"), ("im_image", "im")])
    def test_a_mask_of_a_similar_name_is_to_be_renamed(self, tmp_path, image, mask):
        put(tmp_path, f"images/{image}.jpg", f"masks/{mask}.png")
        assert f"found {tmp_path}/masks/{mask}.png — expected one name for both — rename" in self.only(tmp_path)
        assert f"found {tmp_path}/images/{image}.jpg — expected one" in self.only(tmp_path, "orphan_mask")

    @pytest.mark.parametrize("which", ["images/im.jpg", "masks/im.png", "both"])
    def test_links_to_nowhere_are_named_once(self, tmp_path, which):
        put(tmp_path, "images/good.jpg", "masks/good.png")
        broken = ["images/im.jpg", "masks/im.png"] if which == "both" else [which]
        put(tmp_path, *({"images/im.jpg", "masks/im.png"} - set(broken)))
        for name in broken:
            (tmp_path / name).symlink_to(tmp_path / "gone" / name)
        problems = paired(tmp_path, empty_without_mask=True).problems
        assert [(p.severity, p.code, p.file) for p in problems] == [
            ("error", "broken_link", str(tmp_path / name)) for name in broken
        ]
        assert f"a link to {tmp_path}/gone/{broken[0]}, which does not exist" in problems[0].message

    def test_images_without_a_mask_may_count_as_empty(self, tmp_path):
        put(tmp_path, "images/good.jpg", "images/bad.jpg", "masks/bad.png")
        assert names(paired(tmp_path, empty_without_mask=True)) == [
            ("bad", "bad.jpg", "bad.png"),
            ("good", "good.jpg", None),
        ]
        assert "or pass --empty-without-mask if it shows no object" in paired(tmp_path).problems[0].message
        (tmp_path / "masks" / "bad.png").unlink()
        unlabelled = "or pass --allow-unpaired to leave out images without a mask, or --empty-without-mask if"
        assert unlabelled in paired(tmp_path).problems[0].message

    @pytest.mark.parametrize("mask", ["im.tga", "im_mask.png", "else/im.png"])
    def test_but_not_if_there_is_something_in_place_of_the_mask(self, tmp_path, mask):
        put(tmp_path, "images/good.jpg", "masks/good.png", "images/im.jpg", f"masks/{mask}")
        found = paired(tmp_path, empty_without_mask=True)
        assert names(found) == [("good", "good.jpg", "good.png")]
        assert "missing_mask" in {p.code for p in found.problems}

    def test_files_that_are_no_images_are_told_apart(self, tmp_path):
        put(tmp_path, "images/good.jpg", "masks/good.png", "images/other.heic", "masks/notes.txt", "images/.hidden.tga")
        assert [path.name for path in paired(tmp_path).unread] == ["other.heic", "notes.txt"]


class TestEvaluation:
    def test_takes_all_layouts(self, tmp_path):
        put(tmp_path, "images/train/a.jpg", "masks/train/a.png", "images/valid/b.jpg", "masks/valid/b_mask.png")
        assert [pair.stem for pair in dataset_pairs(tmp_path)] == ["b"]
        assert [pair.stem for pair in dataset_pairs(tmp_path, "train")] == ["a"]

    def test_takes_images_without_a_mask_as_empty_if_told_so(self, tmp_path):
        put(tmp_path, "images/a.jpg", "masks/a.png", "images/b.jpg")
        with pytest.raises(InputError, match=r"no mask for image .*b\.jpg"):
            dataset_pairs(tmp_path)
        assert [pair.mask is None for pair in dataset_pairs(tmp_path, empty_without_mask=True)] == [False, True]
