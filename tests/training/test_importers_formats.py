"""What becomes of what, format by format, where there was a choice; and the oddities of real downloads."""

from __future__ import annotations

import base64
import io
import json
import unicodedata

import cv2
import exif
import numpy as np
import pytest
from datasets import jpeg, png
from foreign_datasets import (
    BUILDERS,
    HEIGHT,
    WIDTH,
    cvat_xml,
    imported,
    labelme_document,
    labelme_shape,
    same,
    scene,
    voc_png,
    write,
)
from PIL import Image

from training.data.check import check_dataset
from training.importers import import_dataset

PICTURE = png(scene(0)[0])


def box_points(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def area(size, *boxes):
    """Return a mask of boxes (left, top, right, bottom, class), the later on top."""
    mask = np.zeros(size, np.uint8)
    for left, top, right, bottom, class_id in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


FULL = (HEIGHT, WIDTH)


class Coco:
    """One COCO file beside images/."""

    def __init__(self, root, names=("a.png",), picture=PICTURE, size=FULL):
        self.root, self.name = root, "instances_default.json"
        self.images = [
            {"id": i, "file_name": name, "height": size[0], "width": size[1]} for i, name in enumerate(names)
        ]
        self.annotations = []
        self.categories = [{"id": 3, "name": "red"}, {"id": 7, "name": "blue"}]
        for name in names:
            write(root / "images" / name, picture)

    def add(self, category, box, image=0, **more):
        points = [float(v) for point in box_points(*box) for v in point]
        entry = {"id": len(self.annotations), "image_id": image, "category_id": category, "segmentation": [points]}
        self.annotations.append({**entry, "iscrowd": 0, **more})

    def run(self):
        write(
            self.root / "annotations" / self.name,
            {"images": self.images, "annotations": self.annotations, "categories": self.categories},
        )
        return import_dataset("coco", self.root, self.root.parent / "data"), imported(self.root.parent / "data")


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def test_coco_draws_smaller_objects_on_top_and_crowds_below(src):
    coco = Coco(src)
    coco.add(7, (10, 10, 14, 14))
    coco.add(3, (5, 5, 40, 30))
    coco.add(3, (0, 0, 20, 20), iscrowd=1)
    _, masks = coco.run()
    expected = area(FULL, (0, 0, 20, 20, 255), (5, 5, 40, 30, 1), (10, 10, 14, 14, 2))
    assert np.array_equal(masks["images/a"], expected)


def test_coco_joins_the_parts_of_an_object(src):
    coco = Coco(src)
    parts = [[0, 0, 9, 0, 9, 9, 0, 9], [4, 4, 12, 4, 12, 12, 4, 12]]
    coco.add(3, (0, 0, 1, 1), segmentation=parts)
    _, masks = coco.run()
    assert np.array_equal(masks["images/a"], area(FULL, (0, 0, 9, 9, 1), (4, 4, 12, 12, 1)))


def test_coco_of_roboflow_has_its_json_beside_the_images_and_a_category_for_all(tmp_path):
    root = tmp_path / "src"
    for seed, split in enumerate(("train", "valid", "test")):
        coco = Coco(tmp_path / "unused", names=(f"{split}_jpg.rf.0a1b.jpg",))
        write(root / split / f"{split}_jpg.rf.0a1b.jpg", jpeg(scene(seed)[0]))
        coco.categories = [
            {"id": 0, "name": "shapes", "supercategory": "none"},
            {"id": 1, "name": "red", "supercategory": "shapes"},
        ]
        coco.add(1, (2, 3, 30, 20))
        document = {"images": coco.images, "annotations": coco.annotations, "categories": coco.categories}
        write(root / split / "_annotations.coco.json", document)
    summary = import_dataset("coco", root, tmp_path / "data")
    assert [c.name for c in summary.classes] == ["background", "red"]
    assert summary.images == {"train": 1, "val": 1, "test": 1}
    assert check_dataset(tmp_path / "data").ok


def test_coco_categories_of_several_files_are_matched_by_name(src):
    for split, ids in (("train", (1, 2)), ("val", (20, 10))):
        coco = Coco(src, names=(f"{split}.png",), picture=png(scene(len(split))[0]))
        coco.categories = [{"id": ids[0], "name": "red"}, {"id": ids[1], "name": "blue"}]
        coco.add(ids[0], (20, 20, 30, 30))
        coco.add(ids[1], (0, 0, 10, 10))
        coco.name = f"instances_{split}.json"
        document = {"images": coco.images, "annotations": coco.annotations, "categories": coco.categories}
        write(src / "annotations" / coco.name, document)
    import_dataset("coco", src, src.parent / "data")
    masks = imported(src.parent / "data")
    assert masks["train/images/train"][0, 0] == masks["val/images/val"][0, 0] == 2


def test_coco_leaves_out_what_is_missing_or_unlisted_and_says_so(src):
    coco = Coco(src, names=("a.png", "b.png"))
    (src / "images" / "b.png").rename(src / "images" / "c.png")
    coco.add(3, (0, 0, 9, 9))
    coco.add(3, (0, 0, 9, 9), image=1)
    coco.add(3, (0, 0, 9, 9), segmentation=[])
    summary, masks = coco.run()
    assert list(masks) == ["images/a"]
    assert len(summary.left_out) == 1
    assert summary.left_out[0].startswith("b.png — image not found (1 annotations in ")
    assert "1 images that no JSON lists: not imported (first: images/c.png)" in summary.notes
    assert any(note.startswith("1 annotations without a segmentation: not drawn (first: ") for note in summary.notes)


def test_coco_finds_images_by_the_last_part_of_a_foreign_path(src):
    coco = Coco(src, names=("a.png",))
    coco.images[0]["file_name"] = "D:\\data\\set 1\\A.PNG"
    coco.add(3, (0, 0, 9, 9))
    assert list(coco.run()[1]) == ["images/a"]


def test_coco_files_in_folders_keep_their_own_names_where_these_differ(src):
    coco = Coco(src, names=("x/a.png", "y/a.png", "y/b.png", "y/B-.png"))
    for i in range(4):
        write(src / "images" / coco.images[i]["file_name"], png(scene(i)[0]))
        coco.add(3, (0, 0, 10 + i, 9), image=i)
    _, masks = coco.run()
    assert {key: int(mask.astype(bool).sum()) for key, mask in masks.items()} == {
        "images/images_x_a": 90,
        "images/images_y_a": 99,
        "images/b": 108,
        "images/B-": 117,
    }
    assert check_dataset(src.parent / "data").ok


def test_two_images_of_one_stem_get_different_names(src):
    coco = Coco(src, names=("a.png", "A.jpg"))
    write(src / "images" / "A.jpg", jpeg(scene(1)[0]))
    coco.add(3, (0, 0, 9, 9))
    _, masks = coco.run()
    assert len({key.casefold() for key in masks}) == 2
    assert check_dataset(src.parent / "data").ok


def test_names_in_another_unicode_form_are_found(src):
    name = "Größe.png"
    coco = Coco(src, names=(unicodedata.normalize("NFD", name),))
    coco.images[0]["file_name"] = unicodedata.normalize("NFC", name)
    coco.add(3, (0, 0, 9, 9))
    assert len(coco.run()[1]) == 1


@pytest.mark.parametrize("annotated", ["stored", "shown"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_masks_fit_images_that_exif_turns_whichever_way_they_were_annotated(src, annotated, orientation):
    shown = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shown[4:20, 6:40] = 255
    turns = {3: 2, 6: 1, 8: 3}[orientation]
    stored = np.ascontiguousarray(np.rot90(shown, turns))  # as a camera held like this has it
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    Image.fromarray(stored).save(data, "PNG", exif=exif.tobytes())
    picture = data.getvalue()
    rows, columns = np.nonzero((stored if annotated == "stored" and turns != 2 else shown)[..., 0])
    size = stored.shape[:2] if annotated == "stored" else shown.shape[:2]
    coco = Coco(src, picture=picture, size=size)
    coco.add(3, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    summary, masks = coco.run()
    assert np.array_equal(masks["images/a"], (shown[..., 0] > 0).astype(np.uint8))
    assert (src.parent / "data" / "images" / "a.png").read_bytes() == picture
    turned = "1 images are turned by their EXIF orientation, and their masks with them"
    assert (turned in summary.notes) == (annotated == "stored" and turns != 2)
    assert [p.code for p in check_dataset(src.parent / "data").problems if p.severity == "error"] == ["too_few"]


ODDLY_TURNED = {
    "a.jpg": lambda stored: exif.jpeg(stored, exif.block(6), before=b"\xff\xff"),
    "b.jpg": lambda stored: exif.jpeg(stored, exif.block(6, kind=exif.LONG)),
    "c.jpg": lambda stored: exif.jpeg(stored, exif.block(6, ">"), before=exif.segment(b"abc", 0xFE) + b"\0"),
    "d.png": lambda stored: exif.png(stored, exif.block(6, kind=exif.BYTE), late=True),
    "e.webp": lambda stored: exif.webp(stored, exif.block(6, ">")),
    "f.tif": lambda stored: exif.tiff(stored, 6),
    "g.tif": lambda stored: exif.tiff(stored, 6, ">", exif.LONG),
}
"""Pictures that the decoder turns, though their orientation is not where or what one would look for first."""


@pytest.mark.parametrize("annotated", ["stored", "shown"])
@pytest.mark.parametrize("name", ODDLY_TURNED)
def test_no_turned_image_that_the_check_accepts_is_refused(src, annotated, name):
    shown = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shown[4:20, 6:40] = 255
    stored = np.ascontiguousarray(np.rot90(shown))
    mask = (shown[..., 0] > 0).astype(np.uint8)
    picture = ODDLY_TURNED[name](stored)
    for part, data in {f"images/{name}": picture, f"masks/{name.partition('.')[0]}.png": png(mask)}.items():
        write(src.parent / "by hand" / part, data)
    assert [p.code for p in check_dataset(src.parent / "by hand").problems if p.severity == "error"] == ["too_few"]
    seen = stored if annotated == "stored" else shown
    rows, columns = np.nonzero(seen[..., 0])
    coco = Coco(src, names=(name,), picture=picture, size=seen.shape[:2])
    coco.add(3, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    _, masks = coco.run()
    assert np.array_equal(masks[f"images/{name.partition('.')[0]}"], mask)
    assert [p.code for p in check_dataset(src.parent / "data").problems if p.severity == "error"] == ["too_few"]


def run_labelme(src, shapes, *, picture=PICTURE, **more):
    write(src / "a.png", picture)
    write(src / "a.json", labelme_document("a.png", shapes, **more))
    summary = import_dataset("labelme", src, src.parent / "data")
    return summary, imported(src.parent / "data")["images/a"]


def test_labelme_draws_every_shape_with_an_area_the_later_on_top(src):
    crop = np.zeros((6, 5), np.uint8)
    crop[1:, 2:] = 1
    shapes = [
        labelme_shape("a", box_points(0, 0, 20, 20)),
        labelme_shape("b", [(30, 10), (10, 5)], "rectangle"),
        labelme_shape("c", [(45, 20), (49, 20)], "circle"),
        labelme_shape("d", [(58, 3), (62, 8)], "mask", mask=base64.b64encode(png(crop)).decode()),
        labelme_shape("e", [(0, 35), (20, 35), (40, 35)], "linestrip"),
    ]
    summary, mask = run_labelme(src, shapes)
    assert [c.name for c in summary.classes] == ["background", "a", "b", "c", "d", "e"]
    assert np.array_equal(mask[:21, :31], area((21, 31), (0, 0, 20, 20, 1), (10, 5, 30, 10, 2)))
    assert (mask == 3).sum() == pytest.approx(np.pi * 16, abs=3)
    assert np.argwhere(mask == 4).min(axis=0).tolist() == [4, 60]
    assert (mask == 4).sum() == 15
    assert 9 <= (mask[:, 10] == 5).sum() <= 11


def test_labelme_uses_the_order_of_labels_txt_and_its_names_for_background_and_ignore(src):
    write(src / "labels.txt", "__ignore__\n_background_\nzebra\nape\n")
    shapes = [
        labelme_shape("ape", box_points(0, 0, 30, 30)),
        labelme_shape("_background_", box_points(0, 0, 10, 10)),
        labelme_shape("__ignore__", box_points(20, 20, 30, 30)),
    ]
    summary, mask = run_labelme(src, shapes)
    assert [c.name for c in summary.classes] == ["background", "zebra", "ape"]
    assert np.array_equal(mask, area(FULL, (0, 0, 30, 30, 2), (0, 0, 10, 10, 0), (20, 20, 30, 30, 255)))


def test_labelme_counts_what_it_does_not_draw(src):
    shapes = [labelme_shape("a", box_points(0, 0, 9, 9)), *[labelme_shape("p", [(1, 1)], "point")] * 3]
    summary, _ = run_labelme(src, shapes)
    assert f"3 point shapes without an area: not drawn (first: {src / 'a.json'}: point 1)" in summary.notes
    assert [c.name for c in summary.classes] == ["background", "a"]


def test_labelme_takes_the_image_from_the_json_where_the_file_is_missing(src):
    data = base64.b64encode(jpeg(scene(0)[0])).decode()
    document = labelme_document("..\\gone\\a.jpg", [labelme_shape("a", box_points(0, 0, 9, 9))], imageData=data)
    write(src / "json" / "a.json", document)
    write(src / "json" / "b.json", {**document, "imageData": None})
    summary = import_dataset("labelme", src, src.parent / "data")
    assert (src.parent / "data" / "images" / "a.jpg").read_bytes() == jpeg(scene(0)[0])
    assert len(summary.left_out) == 1
    assert "b.json — its image ..\\gone\\a.jpg is not found" in summary.left_out[0].replace("\\\\", "\\")


def test_labelme_folders_of_json_beside_folders_of_images_and_splits(src):
    for split in ("train", "val"):
        write(src / split / "img" / "a.png", png(scene(len(split))[0]))
        document = labelme_document("..\\img\\a.png", [labelme_shape("a", box_points(0, 0, 9, 9))])
        del document["imageHeight"], document["imageWidth"]
        write(src / split / "ann" / "a.json", b"\xef\xbb\xbf" + json.dumps(document).encode())
    summary = import_dataset("labelme", src, src.parent / "data")
    assert summary.images == {"train": 1, "val": 1}
    assert check_dataset(src.parent / "data").ok


def run_cvat(src, shapes, **more):
    write(src / "images" / "a.png", PICTURE)
    xml = cvat_xml(f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>', **more)
    write(src / "annotations.xml", xml)
    summary = import_dataset("cvat", src, src.parent / "data")
    return summary, imported(src.parent / "data")["images/a"]


def test_cvat_draws_boxes_ellipses_and_masks_by_z_order(src):
    summary, mask = run_cvat(
        src,
        """<box label="blue" xtl="5.00" ytl="5.00" xbr="25.00" ybr="25.00" z_order="2"/>
        <ellipse label="red" cx="40" cy="20" rx="10" ry="5" z_order="0"/>
        <mask label="red" rle="1, 2, 1, 2" left="8" top="8" width="3" height="2" z_order="3"/>
        <polygon label="red" points="0,0;30,0;30,30;0,30" z_order="-1"/>
        <points label="red" points="1,1" z_order="0"/>""",
    )
    expected = area(FULL, (0, 0, 30, 30, 1), (5, 5, 25, 25, 2), (9, 8, 11, 9, 1), (9, 9, 11, 10, 1))
    assert np.array_equal(mask[:, :30], expected[:, :30])
    assert (mask[:, 30:] == 1).sum() == pytest.approx(np.pi * 50, abs=4)
    assert [c.color for c in summary.classes[1:]] == [(250, 50, 83), (61, 61, 245)]
    where = f"{src / 'annotations.xml'}: image 'a.png'"
    assert summary.notes == (f"1 points shapes without an area: not drawn (first: {where})",)


def test_cvat_turns_boxes(src):
    _, mask = run_cvat(src, '<box label="blue" xtl="10" ytl="15" xbr="50" ybr="25" rotation="90.00"/>')
    assert np.array_equal(mask, area(FULL, (25, 0, 35, 40, 1)))


def test_cvat_subsets_of_a_project_become_splits(src):
    images = []
    for subset in ("Train", "Validation", "Test"):
        write(src / "images" / subset / "a.png", png(scene(len(subset))[0]))
        images.append(
            f'<image id="0" name="a.png" subset="{subset}" task_id="1" width="{WIDTH}" height="{HEIGHT}">'
            '<box label="red" xtl="0" ytl="0" xbr="9" ybr="9"/></image>'
        )
    write(src / "annotations.xml", cvat_xml("".join(images)))
    summary = import_dataset("cvat", src, src.parent / "data")
    assert summary.images == {"train": 1, "val": 1, "test": 1}
    assert check_dataset(src.parent / "data").ok


def test_cvat_without_a_list_of_labels_sorts_those_of_the_shapes(src):
    box = '<box label="{}" xtl="0" ytl="0" xbr="9" ybr="9"/>'
    summary, _ = run_cvat(src, box.format("b") + box.format("Background") + box.format("a"), labels="")
    assert [c.name for c in summary.classes] == ["background", "a", "b"]


def test_voc_masks_of_cvat_are_read_by_the_colours_of_their_labelmap(src):
    ids = scene(0)[1]
    colors = np.array([(0, 0, 0), (30, 20, 10), (200, 0, 100)], np.uint8)
    rgb = colors[ids]
    rgb[0] = (224, 224, 192)
    write(src / "JPEGImages" / "a.jpg", jpeg(scene(0)[0]))
    write(src / "SegmentationClass" / "a.png", png(np.ascontiguousarray(rgb[..., ::-1])))
    write(
        src / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nred:30,20,10::\nblue:200,0,100::\n"
    )
    write(src / "ImageSets" / "Segmentation" / "default.txt", "a\n")
    summary = import_dataset("voc", src, src.parent / "data")
    expected = ids.copy()
    expected[0] = 255
    assert np.array_equal(imported(src.parent / "data")["images/a"], expected)
    assert [(c.name, c.color) for c in summary.classes[1:]] == [("red", (30, 20, 10)), ("blue", (200, 0, 100))]


def test_voc_classes_have_the_colours_of_its_palette(src):
    BUILDERS["voc"](src)
    classes = import_dataset("voc", src, src.parent / "data").classes
    assert len(classes) == 21
    assert {c.name: c.color for c in classes}["person"] == (192, 128, 128)
    assert {c.name: c.color for c in classes}["cat"] == (64, 0, 0)
    assert {c.name: c.color for c in classes}["tvmonitor"] == (0, 64, 128)


def test_voc_of_labelme_has_its_own_class_names(src):
    ids = scene(0)[1]
    write(src / "JPEGImages" / "a.jpg", jpeg(scene(0)[0]))
    write(src / "SegmentationClass" / "a.npy", b"\x93NUMPY")
    write(src / "SegmentationClassPNG" / "a.png", voc_png(ids))
    write(src / "class_names.txt", "__ignore__\n_background_\nred\nblue\n")
    summary = import_dataset("voc", src, src.parent / "data")
    assert [c.name for c in summary.classes] == ["background", "red", "blue"]
    assert np.array_equal(imported(src.parent / "data")["images/a"], ids)


def test_voc_lists_name_what_has_no_mask(src):
    BUILDERS["voc"](src)
    write(src / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "test.txt", "2007_000004\n2008_000001\n")
    summary = import_dataset("voc", src, src.parent / "data")
    assert summary.left_out == (
        "2007_000004 — no mask in SegmentationClass",
        "2008_000001 — no mask in SegmentationClass",
    )


@pytest.mark.parametrize("inside", ["VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_may_be_given_from_any_of_its_folders(src, inside):
    expected = BUILDERS["voc"](src)
    import_dataset("voc", src / inside, src.parent / "data")
    assert same(imported(src.parent / "data"), expected)


ORIGINAL = {
    (128, 128, 128): 0,
    (0, 128, 64): 1,
    (192, 0, 128): 1,
    (0, 0, 64): 2,
    (128, 0, 192): 3,
    (64, 192, 128): 4,
    (192, 192, 0): 5,
    (0, 64, 64): 6,
    (64, 64, 128): 7,
    (192, 64, 128): 8,
    (64, 0, 192): 9,
    (192, 0, 192): 10,
    (0, 0, 0): 255,
}


@pytest.mark.parametrize(
    ("images", "labels", "key"),
    [
        ("701_StillsRaw_full", "LabeledApproved_full", "images/0001TP_006690"),
        ("images", "labels", "images/0001TP_006690"),
        ("CamVid/val", "CamVid/val_labels", "val/images/0001TP_006690"),
    ],
)
def test_camvids_32_colours_become_its_11_classes(src, images, labels, key):
    rgb = np.repeat(np.array(list(ORIGINAL), np.uint8)[None], 20, 0).repeat(8, 1)
    rgb[5, 7] = (1, 2, 3)  # strays are in the original
    write(src / images / "0001TP_006690.png", png(rgb))
    write(src / labels / "0001TP_006690_L.png", png(np.ascontiguousarray(rgb[..., ::-1])))
    write(src / "label_colors.txt", "64 128 64\tAnimal\n")
    summary = import_dataset("camvid", src, src.parent / "data")
    mask = imported(src.parent / "data")[key]
    assert mask[0, ::8].tolist() == list(ORIGINAL.values())
    assert mask[5, 7] == 255
    assert [c.name for c in summary.classes][:5] == ["sky", "building", "pole", "road", "pavement"]
    assert (src.parent / "data" / "groups.csv").read_text() == "file,group\n0001TP_006690.png,0001TP\n"


def test_camvid_frames_and_masks_without_each_other_are_left_out(src):
    BUILDERS["camvid"](src)
    (src / "train" / "0001TP_006690.png").unlink()
    (src / "valannot" / "0016E5_07959.png").unlink()
    summary = import_dataset("camvid", src, src.parent / "data")
    assert [line.split(" — ")[1].split(" ")[:2] for line in summary.left_out] == [["no", "frame"], ["no", "mask"]]


def test_cityscapes_training_ids_are_read_too(src):
    expected = BUILDERS["cityscapes"](src)
    by_frame = {key.rpartition("/")[2].removesuffix("_leftImg8bit"): mask for key, mask in expected.items()}
    for path in list(src.rglob("*_labelIds.png")):
        frame = path.name.removesuffix("_gtFine_labelIds.png")
        write(
            path.with_name(f"{frame}_gtFine_labelTrainIds.png"), png(by_frame.get(frame, np.full(FULL, 255, np.uint8)))
        )
        path.unlink()
    import_dataset("cityscapes", src, src.parent / "data")
    assert same(imported(src.parent / "data"), expected)


def test_oxford_pet_in_the_folder_that_torchvision_makes(src):
    expected = BUILDERS["oxford-pet"](src / "oxford-iiit-pet")
    import_dataset("oxford-pet", src, src.parent / "data")
    assert same(imported(src.parent / "data"), expected)


def test_folders_may_be_links(src, tmp_path):
    expected = BUILDERS["camvid"](tmp_path / "real")
    src.mkdir()
    for path in (tmp_path / "real").iterdir():
        (src / path.name).symlink_to(path)
    (src / "circle").symlink_to(src)
    import_dataset("camvid", src, tmp_path / "data")
    assert same(imported(tmp_path / "data"), expected)


def test_images_of_other_kinds_are_named_after_what_they_are(src):
    bmp = cv2.imencode(".bmp", scene(0)[0])[1].tobytes()
    coco = Coco(src, names=("a.jpg~",), picture=jpeg(scene(0)[0]))
    coco.images.append({"id": 1, "file_name": "b.bmp", "height": HEIGHT, "width": WIDTH})
    write(src / "images" / "b.bmp", bmp)
    coco.add(3, (0, 0, 9, 9))
    coco.run()
    assert sorted(p.name for p in (src.parent / "data" / "images").iterdir()) == ["a.jpg", "b.bmp"]
