"""Nothing of a foreign dataset is lost in silence: it is imported, counted with the first case named, or refused."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from datasets import jpeg, png
from foreign_datasets import (
    BUILDERS,
    HEIGHT,
    WIDTH,
    columns,
    cvat_xml,
    imported,
    labelme_document,
    labelme_shape,
    scene,
    write,
)
from PIL import Image

from training.errors import DataError
from training.importers import ImportProblemsError, import_dataset
from training.importers.detection import recognised

BOX = [5, 5, 25, 5, 25, 15, 5, 15]
"""A box of 200 pixels."""
CORNERS = [(5, 5), (25, 5), (25, 15), (5, 15)]


@pytest.fixture
def src(tmp_path):
    return tmp_path / "src"


def coco(src, objects, *, images=None, categories=("cell",), files="images/{}.png", name="result.json", **more):
    """Write a COCO dataset: ``objects`` has the image (from 1) and the segmentation or the fields of each."""
    names = images or {i: f"{i}.png" for i in (1, 2, 3)}
    for i in range(1, len(names) + 1):
        write(src / files.format(i), png(scene(i)[0]))
    annotations = []
    for number, (image, fields) in enumerate(objects, 1):
        fields = fields if isinstance(fields, dict) else {"segmentation": fields}
        entry = {"id": number, "image_id": image, "category_id": 1, "bbox": [5, 5, 20, 10], "iscrowd": 0}
        annotations.append(entry | fields)
    document = {
        "images": [{"id": key, "file_name": file} for key, file in names.items()],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, 1)],
    }
    write(src / name, document | more)


def run(src, kind="coco", **options):
    """Return the summary, and the number of pixels of each value by image."""
    summary = import_dataset(kind, src, src.parent / "data", **options)
    values = {}
    for key, mask in imported(src.parent / "data").items():
        found, counts = np.unique(mask, return_counts=True)
        values[key.rpartition("/")[2]] = {v: n for v, n in zip(found.tolist(), counts.tolist(), strict=True) if v}
    return summary, values


def noted(summary, start):
    """Tell whether a note begins like this, and says where the first case is."""
    return any(note.startswith(start) and "(first: " in note for note in summary.notes)


def crowd():
    cells = np.zeros((HEIGHT, WIDTH), np.bool_)
    cells[5:15, 5:25] = True
    return {"counts": columns(cells), "size": [HEIGHT, WIDTH]}


class TestCrowds:
    def test_of_cvat_are_objects(self, src):
        of_cvat = {"attributes": {"occluded": False}}
        masks = {"segmentation": crowd(), "iscrowd": 1}
        coco(src, [(1, {"segmentation": [BOX], **of_cvat}), (2, masks | of_cvat), (3, masks | of_cvat)])
        summary, values = run(src)
        assert values == {"1": {1: 200}, "2": {1: 200}, "3": {1: 200}}
        assert noted(summary, "2 masks that CVAT marks as crowds (iscrowd): drawn as objects")

    def test_of_cvat_are_known_by_its_empty_information(self, src):
        info = dict.fromkeys(("contributor", "date_created", "description", "url", "version", "year"), "")
        licenses = [{"name": "", "id": 0, "url": ""}]
        coco(src, [(1, [BOX]), (2, {"segmentation": crowd(), "iscrowd": 1})], info=info, licenses=licenses)
        assert run(src)[1] == {"1": {1: 200}, "2": {1: 200}, "3": {}}

    @pytest.mark.parametrize("mark", [1, True, "1", "true", 1.0])
    def test_are_objects_where_all_are_crowds(self, src, mark):
        coco(src, [(i, {"segmentation": crowd(), "iscrowd": mark}) for i in (1, 2, 3)])
        summary, values = run(src)
        assert values == {"1": {1: 200}, "2": {1: 200}, "3": {1: 200}}
        assert noted(summary, "3 objects are marked as crowds (iscrowd), as all are: drawn as objects")

    @pytest.mark.parametrize(
        "mark", [{"iscrowd": 1}, {"iscrowd": True}, {"iscrowd": "1"}, {"ignore": 1}, {"iscrowd": 0, "ignore": True}]
    )
    def test_are_ignored_and_counted_where_other_objects_are_not(self, src, mark):
        coco(src, [(1, [BOX]), (2, {"segmentation": crowd(), **mark}), (2, [[40, 5, 50, 5, 50, 15, 40, 15]])])
        summary, values = run(src)
        assert values == {"1": {1: 200}, "2": {1: 100, 255: 200}, "3": {}}
        assert noted(summary, "1 crowds (iscrowd): their pixels are ignored, except under other objects")
        assert "1 images without any object: their masks are all background" in summary.notes

    @pytest.mark.parametrize("mark", [0, False, "0", "false", None, 0.0, ""])
    def test_are_not_what_is_marked_as_none(self, src, mark):
        coco(src, [(i, {"segmentation": [BOX], "iscrowd": mark}) for i in (1, 2, 3)])
        summary, values = run(src)
        assert values == {"1": {1: 200}, "2": {1: 200}, "3": {1: 200}}
        assert summary.notes == ()

    def test_alone_in_an_image_are_not_called_background(self, src):
        coco(src, [(1, [BOX]), (2, {"segmentation": crowd(), "iscrowd": 1}), (3, [BOX])])
        notes = run(src)[0].notes
        assert "1 images without any object: their masks are background and ignored pixels" in notes
        assert not any("all background" in note for note in notes)


def in_coco(src, shapes, size=None):
    sizes = {} if size is None else {"height": size[0], "width": size[1]}
    write(src / "images" / "a.png", png(scene(0)[0]))
    objects = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": [[float(v) for point in points for v in point]]}
        for i, points in enumerate(shapes)
    ]
    image = {"id": 1, "file_name": "a.png", **sizes}
    write(src / "a.json", {"images": [image], "annotations": objects, "categories": [{"id": 1, "name": "cell"}]})


def in_labelme(src, shapes):
    write(src / "a.png", png(scene(0)[0]))
    document = labelme_document("a.png", [labelme_shape("cell", points) for points in shapes])
    del document["imageHeight"], document["imageWidth"]
    write(src / "a.json", document)


def in_cvat(src, shapes):
    texts = [";".join(f"{x},{y}" for x, y in points) for points in shapes]
    polygons = "".join(f'<polygon label="red" points="{text}"/>' for text in texts)
    write(src / "images" / "a.png", png(scene(0)[0]))
    xml = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{polygons}</image>'
    write(src / "annotations.xml", cvat_xml(xml))


OUTSIDE = [(200, 200), (400, 200), (400, 380), (200, 380)]
REACHING_OUT = [(50, 5), (110, 5), (110, 15), (50, 15)]
SHARES = [(0.2, 0.2), (0.6, 0.2), (0.6, 0.6), (0.2, 0.6)]
SPECK = [(40.1, 20.1), (40.3, 20.1), (40.3, 20.3)]


@pytest.mark.parametrize(("kind", "build"), [("coco", in_coco), ("labelme", in_labelme), ("cvat", in_cvat)])
class TestShapesThatCoverNothing:
    @pytest.mark.parametrize(
        ("shape", "finding"),
        [
            (OUTSIDE, "lie mostly outside their image"),
            (REACHING_OUT, "lie mostly outside their image"),
            (SHARES, "lie in the first pixel, as shares of 1 would"),
            (SPECK, "are too small to cover a pixel"),
        ],
    )
    def test_are_an_error_if_most_do_and_counted_if_some_do(self, src, kind, build, shape, finding):
        build(src, [shape, CORNERS, shape])
        with pytest.raises(DataError, match=r"2 of 3 shapes cover nothing: 2 \w+ shapes .* \(first: ") as caught:
            import_dataset(kind, src, src.parent / "data")
        assert finding in str(caught.value)
        build(src, [shape, CORNERS])
        summary, values = run(src, kind)
        assert any(f"shapes {finding} (first: " in note for note in summary.notes)
        assert values["a"][1] >= 200

    def test_are_imported_as_they_are_if_the_user_says_so(self, src, kind, build):
        build(src, [REACHING_OUT])
        assert run(src, kind, skip_bad=True)[1] == {"a": {1: 140}}

    @pytest.mark.parametrize("shape", [[(5, 5), (25, 15)], [(5, 5)], [(5, 5), (15, 5), (25, 5)], [(5, 5)] * 4])
    def test_without_an_area_are_left_out_and_counted(self, src, kind, build, shape):
        build(src, [CORNERS, shape, shape])
        summary, values = run(src, kind)
        assert values == {"a": {1: 200}}
        assert any(note.startswith("2 ") and "without an area: not drawn (first: " in note for note in summary.notes)

    def test_that_are_all_without_an_area_are_refused_with_their_kinds(self, src, kind, build):
        build(src, [[(5, 5), (25, 15)]])
        with pytest.raises(DataError, match=r"no shape with an area: 1 .* — expected polygons"):
            import_dataset(kind, src, src.parent / "data")

    def test_so_thin_that_they_miss_the_centres_are_drawn_as_lines(self, src, kind, build):
        build(src, [[(5, 10.1), (50, 10.1), (50, 10.3), (5, 10.3)]])
        summary, values = run(src, kind)
        assert values == {"a": {1: 45}}
        assert not any("shapes" in note for note in summary.notes)


class TestCoco:
    @pytest.mark.parametrize(
        "segmentation",
        [
            BOX,
            [BOX],
            [[5, 5], [25, 5], [25, 15], [5, 15]],
            [[[5, 5], [25, 5], [25, 15], [5, 15]]],
            [str(v) for v in BOX],
        ],
    )
    def test_reads_a_polygon_however_it_is_nested(self, src, segmentation):
        coco(src, [(1, segmentation), (2, [BOX]), (3, [BOX])])
        assert run(src)[1]["1"] == {1: 200}

    def test_reads_a_list_of_run_lengths(self, src):
        coco(src, [(1, [crowd()]), (2, [BOX]), (3, [BOX])])
        assert run(src)[1]["1"] == {1: 200}

    @pytest.mark.parametrize("write_id", [str, float, lambda i: f" {i}", lambda i: f"{i}.0"])
    @pytest.mark.parametrize("key", ["image_id", "category_id"])
    def test_matches_ids_that_differ_in_type_alone(self, src, write_id, key):
        entries = [(i, {"segmentation": [BOX], "image_id": i, "category_id": 1}) for i in (1, 2, 3)]
        coco(src, [(i, fields | {key: write_id(fields[key])}) for i, fields in entries])
        assert run(src)[1] == {"1": {1: 200}, "2": {1: 200}, "3": {1: 200}}

    def test_keeps_ids_apart_that_a_file_has_as_number_and_as_text(self, src):
        coco(src, [("1", [BOX])], images={1: "1.png", "1": "2.png"})
        assert run(src)[1] == {"1": {}, "2": {1: 200}}

    def test_names_an_id_that_two_images_have(self, src):
        coco(src, [(1, [BOX])])
        document = json.loads((src / "result.json").read_text())
        document["images"][1]["id"] = 1
        write(src / "result.json", document)
        with pytest.raises(ImportProblemsError, match="image id 1 — two images have it"):
            import_dataset("coco", src, src.parent / "data")

    @pytest.mark.parametrize("content", ['["cell"]', "{", '{"a": 1}', "7", '{"images": [], "annotations": 3}', "\xff"])
    def test_passes_over_a_json_of_something_else_with_a_note(self, src, content):
        coco(src, [(i, [BOX]) for i in (1, 2, 3)])
        write(src / "classes.json", content.encode("latin-1"))
        summary, values = run(src)
        assert len(values) == 3
        assert noted(summary, "1 JSON files that are not read as COCO instances")

    def test_refuses_a_damaged_file_whose_name_says_that_it_has_annotations(self, src):
        coco(src, [(i, [BOX]) for i in (1, 2, 3)], name="annotations/instances_train.json")
        write(src / "annotations" / "instances_val.json", "{")
        with pytest.raises(ImportProblemsError, match=r"instances_val\.json — not valid JSON"):
            import_dataset("coco", src, src.parent / "data")
        summary, values = run(src, skip_bad=True)
        assert len(values) == 3
        assert "instances_val.json — not valid JSON" in summary.left_out[0]

    def test_says_what_the_only_json_is_instead(self, src):
        write(src / "a.json", '["cell"]')
        with pytest.raises(DataError, match="holds a list — expected a JSON object — expected annotations/instances"):
            import_dataset("coco", src, src.parent / "data")

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"segmentation": [], "keypoints": [1, 1, 2]}, "annotations of key points"),
            ({"segmentation": None, "utf8_string": "a"}, "annotations of text"),
            ({"segmentation": []}, r"annotations \(boxes only\)"),
            ({"bbox": None}, "annotations"),
        ],
    )
    def test_says_what_there_is_in_place_of_segmentations(self, src, fields, what):
        coco(src, [(i, fields) for i in (1, 2, 3)])
        with pytest.raises(DataError, match=f"no shape with an area: 3 {what} without a segmentation: not drawn"):
            import_dataset("coco", src, src.parent / "data")

    def test_leaves_out_categories_that_never_occur_in_any_split(self, src):
        names = [f"c{i}" for i in range(300)]
        coco(
            src,
            [(1, {"segmentation": [BOX], "category_id": 8})],
            categories=names,
            name="train.json",
            images={1: "1.png"},
        )
        coco(
            src,
            [(2, {"segmentation": [BOX], "category_id": 4})],
            categories=names,
            name="val.json",
            images={2: "2.png"},
        )
        write(src / "images" / "2.png", png(scene(2)[0]))
        summary, values = run(src)
        assert [c.name for c in summary.classes] == ["background", "c3", "c7"]
        assert values == {"1": {2: 200}, "2": {1: 200}}
        unused = "298 classes never occur and are left out; --classes keeps them: c0, c1, c2, c4, c5 … (298 in all)"
        assert unused in summary.notes


class TestImages:
    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("../../../../root/media/upload/4/{}.png", "images/{}.png"),
            ("..\\..\\media\\{}.png", "images/{}.png"),
            ("/home/me/set 1/{}.png", "images/{}.png"),
            ("https://example.org/b/{}.png?token=1&x=/y", "images/{}.png"),
            ("{}.png?v=2#top", "images/{}.png"),
            ("s3://bucket/set/a%20{}.png", "images/a {}.png"),
            ("/data/local-files/?d=cam1%2F{}.png", "images/cam1/{}.png"),
            ("{}.png", "images/cam1/{}.png"),
            ("{}.png", "deep/er/still/{}.PNG"),
            ("a%20{}.png", "images/a%20{}.png"),
            ("a#{}.png", "images/a#{}.png"),
        ],
    )
    def test_are_found_inside_the_folder_whatever_their_path_was(self, src, name, file):
        coco(src, [(i, [BOX]) for i in (1, 2, 3)], images={i: name.format(i) for i in (1, 2, 3)}, files=file)
        assert [value for _, value in sorted(run(src)[1].items())] == [{1: 200}] * 3

    def test_of_one_name_are_told_apart_by_their_folders(self, src):
        for camera in (1, 2):
            write(src / "images" / f"cam{camera}" / "a.png", png(scene(camera)[0]))
        coco(src, [(2, [BOX])], images={1: "C:\\x\\cam1\\a.png", 2: "/y/cam2/a.png"}, files="unused/{}.png")
        assert run(src)[1] == {"images_cam1_a": {}, "images_cam2_a": {1: 200}}

    def test_of_one_name_are_refused_if_nothing_tells_them_apart(self, src):
        for camera in (1, 2):
            write(src / "images" / f"cam{camera}" / "a.png", png(scene(camera)[0]))
        coco(src, [(1, [BOX])], images={1: "a.png"}, files="unused/{}.png")
        message = r"file name 'a\.png' — may be images/cam1/a\.png or images/cam2/a\.png — expected one"
        with pytest.raises(ImportProblemsError, match=message):
            import_dataset("coco", src, src.parent / "data")

    def test_are_counted_and_the_first_is_named_if_nothing_lists_them(self, src):
        BUILDERS["voc"](src)
        write(src / "VOCdevkit" / "VOC2012" / "JPEGImages" / "b.jpg", jpeg(scene(7)[0]))
        summary = import_dataset("voc", src, src.parent / "data")
        assert any("images without a mask, or that no list names: not imported (first: " in n for n in summary.notes)


class TestLabelMe:
    TILTED = [(30, 5), (50, 10), (45, 30), (25, 25)]

    @pytest.mark.parametrize("kind", ["rectangle", "rotation", "oriented_rectangle", "quadrilateral", "polygon", None])
    def test_fills_every_kind_of_four_corners(self, src, kind):
        write(src / "a.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document("a.png", [labelme_shape("leaf", self.TILTED, kind)]))
        assert run(src, "labelme")[1]["a"][1] == pytest.approx(425, abs=5)

    @pytest.mark.parametrize("kind", ["ellipse", "blob", "3d_box"])
    def test_refuses_a_kind_that_it_does_not_know_or_leaves_it_out_if_told(self, src, kind):
        shapes = [labelme_shape("cell", CORNERS), labelme_shape("leaf", self.TILTED, kind)]
        write(src / "a.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document("a.png", shapes))
        with pytest.raises(ImportProblemsError, match=f"a.json: {kind} 1 — an unknown kind — expected polygon, "):
            import_dataset("labelme", src, src.parent / "data")
        summary, values = run(src, "labelme", skip_bad=True)
        assert values == {"a": {1: 200}}
        assert summary.notes == ("1 faulty files and shapes are left out",)

    @pytest.mark.parametrize(
        ("kind", "points", "text"),
        [
            ("point", [(5, 5)], "without an area"),
            ("points", [(5, 5), (9, 9)], "without an area"),
            ("cuboid", [(5, 5)] * 8, "in space"),
            ("circle", [(5, 5)], "without an area"),
            ("circle", [(5, 5), (5, 5)], "without an area"),
            ("line", [(5, 5)], "without an area"),
            ("rectangle", [(5, 5)], "without an area"),
            ("rectangle", [(5, 5), (25, 5)], "without an area"),
        ],
    )
    def test_leaves_out_and_counts_what_cannot_be_filled(self, src, kind, points, text):
        shapes = [labelme_shape("cell", CORNERS), *[labelme_shape("cell", points, kind)] * 2]
        write(src / "a.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document("a.png", shapes))
        summary, values = run(src, "labelme")
        assert values == {"a": {1: 200}}
        assert noted(summary, f"2 {kind} shapes {text}: not drawn")

    @pytest.mark.parametrize("labels", [None, "cell\n"])
    def test_says_which_shapes_there_are_if_none_can_be_filled(self, src, labels):
        write(src / "a.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document("a.png", [labelme_shape("cell", [(5, 5)], "point")] * 3))
        if labels:
            write(src / "labels.txt", labels)
        with pytest.raises(DataError, match="no shape with an area: 3 point shapes without an area"):
            import_dataset("labelme", src, src.parent / "data")

    def test_leaves_out_a_faulty_shape_if_told_and_keeps_the_others(self, src):
        shapes = [labelme_shape("cell", CORNERS), labelme_shape(None, CORNERS), labelme_shape("cell", [(1, "x")]), 7]
        write(src / "a.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document("a.png", shapes))
        write(src / "b.json", "{")
        with pytest.raises(ImportProblemsError) as caught:
            import_dataset("labelme", src, src.parent / "data")
        assert len(caught.value.problems) == 4
        summary, values = run(src, "labelme", skip_bad=True)
        assert values == {"a": {1: 200}}
        assert "4 faulty files and shapes are left out" in summary.notes
        assert len(summary.left_out) == 4

    def test_names_two_files_that_are_of_one_image(self, src):
        write(src / "a.png", png(scene(0)[0]))
        for name in ("a.json", "b.json"):
            write(src / name, labelme_document("a.png", [labelme_shape("cell", CORNERS)]))
        with pytest.raises(ImportProblemsError, match=r"b\.json — is of a\.png, as .*a\.json is — expected one JSON"):
            import_dataset("labelme", src, src.parent / "data")

    @pytest.mark.parametrize("name", ["..\\..\\images\\a.jpg", "../../../x/a.jpg", "/gone/a.jpg", "", None])
    def test_takes_the_image_inside_where_the_name_leads_nowhere(self, src, name):
        data = base64.b64encode(jpeg(scene(0)[0])).decode()
        shapes = [labelme_shape("cell", CORNERS)]
        write(src / "annotations" / "b.json", labelme_document(name, shapes, imageData=data))
        assert run(src, "labelme")[1] == {"b": {1: 200}}

    @pytest.mark.parametrize("place", ["ann/a.png", "img/a.png", "img/cam1/a.png"])
    def test_finds_an_image_by_its_name_below_the_folder(self, src, place):
        write(src / place, png(scene(0)[0]))
        write(src / "ann" / "a.json", labelme_document("..\\..\\..\\x\\a.png", [labelme_shape("cell", CORNERS)]))
        assert list(run(src, "labelme")[1]) == ["a"]

    def test_passes_over_a_json_of_something_else(self, src):
        write(src / "a.png", png(scene(0)[0]))
        write(src / "a.json", labelme_document("a.png", [labelme_shape("cell", CORNERS)]))
        write(src / "classes.json", '["cell"]')
        summary, values = run(src, "labelme")
        assert values == {"a": {1: 200}}
        assert "classes.json — no file of LabelMe" in summary.left_out[0]


OF_VOC_ITSELF = "20 classes are those of VOC itself, because neither labelmap.txt nor class_names.txt names others"


class TestVoc:
    @staticmethod
    def build(src, names, lists, folder="", suffix=".jpg", where="ImageSets/Segmentation"):
        ids = np.zeros((HEIGHT, WIDTH), np.uint8)
        ids[5:15, 5:25] = 1
        for i, name in enumerate(names):
            write(src / "JPEGImages" / folder / f"{name}{suffix}", jpeg(scene(i)[0]))
            write(src / "SegmentationClass" / folder / f"{name}.png", png(ids))
        for name, text in lists.items():
            write(src / where / name, text)

    @pytest.mark.parametrize(
        ("names", "lines"),
        [
            (("my image 1", "my image 2"), ('"my image 1"', '"my image 2"')),
            (("my image 1", "my image 2"), ("my image 1", "my image 2")),
            (("my image", "b"), ("my image -1", "b  1")),
            (('a "b"', "c"), ('"a \\"b\\""', '"c"')),
            (("a0", "a1"), ("a0.jpg", "a1.PNG")),
            (("a0", "a1"), ("JPEGImages/a0.jpg", "JPEGImages\\a1.jpg")),
            (("a0", "a1"), ("/JPEGImages/a0.jpg /SegmentationClass/a0.png", "a1.jpg a1.png")),
            (("a.b", "a.jpg"), ("a.b", "a.jpg")),
        ],
    )
    @pytest.mark.parametrize("subsets", [("train.txt", "val.txt"), ("Train.txt", "Validation.txt")])
    def test_reads_the_lists_of_many_tools(self, src, names, lines, subsets):
        self.build(src, names, dict(zip(subsets, lines, strict=True)))
        summary, _ = run(src, "voc")
        assert summary.images == {"train": 1, "val": 1}
        assert summary.left_out == ()
        assert summary.notes == (OF_VOC_ITSELF,)

    def test_finds_the_splits_by_other_words(self, src):
        self.build(src, ("a", "b", "c"), {"Training.txt": "a", "valid.txt": "b", "Testing.txt": "c"})
        assert run(src, "voc")[0].images == {"train": 1, "val": 1, "test": 1}

    @pytest.mark.parametrize("where", ["ImageSets/Segmentation", "ImageSets", "."])
    @pytest.mark.parametrize(
        "lists",
        [
            {"train.txt": "a", "val.txt": "b", "test.txt": "c"},
            {"trainval.txt": "a\nb", "val.txt": "b", "test.txt": "c"},
            {"trainval.txt": "a\nb", "train.txt": "a", "val.txt": "b", "test.txt": "c", "default.txt": "a\nb\nc"},
        ],
    )
    def test_finds_the_splits(self, src, lists, where):
        self.build(src, ("a", "b", "c"), lists, where=where)
        assert run(src, "voc")[0].images == {"train": 1, "val": 1, "test": 1}

    def test_names_lists_and_masks_that_are_not_used(self, src):
        self.build(src, ("a", "b"), {"train.txt": "a\n", "extra.txt": "b\n"})
        notes = run(src, "voc")[0].notes
        assert "1 lists that are not read (first: extra.txt)" in notes
        assert "1 masks that no list names: not imported (first: SegmentationClass/b.png)" in notes
        assert "1 images without a mask, or that no list names: not imported (first: JPEGImages/b.jpg)" in notes

    def test_refuses_an_image_in_two_splits_and_some_in_none(self, src):
        self.build(src, ("a", "b"), {"train.txt": "a\nb\n", "val.txt": "b\n"})
        with pytest.raises(ImportProblemsError, match=r"val\.txt — 'b' — is in the list of train, too"):
            import_dataset("voc", src, src.parent / "data")
        self.build(src, (), {"train.txt": "a\n", "val.txt": "", "default.txt": "b\n"})
        with pytest.raises(DataError, match=r"1 of 2 images are in no split, the first JPEGImages/b\.jpg"):
            import_dataset("voc", src, src.parent / "data")

    @pytest.mark.parametrize("names", [None, "_background_\ncell\n"])
    def test_reads_rgb_masks_by_its_own_colours(self, src, names):
        self.build(src, ("a",), {})
        rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        rgb[5:15, 5:25], rgb[0] = (128, 0, 0), (224, 224, 192)
        write(src / "SegmentationClass" / "a.png", png(np.ascontiguousarray(rgb[..., ::-1])))
        if names:
            write(src / "class_names.txt", names)
        summary, values = run(src, "voc")
        assert values == {"a": {1: 200, 255: WIDTH}}
        assert summary.classes[1].name == ("cell" if names else "aeroplane")

    def test_reads_a_mask_folder_of_another_name_and_names_those_beside(self, src):
        self.build(src, ("a",), {})
        (src / "SegmentationClass").rename(src / "SegmentationClassAug")
        assert run(src, "voc")[1] == {"a": {1: 200}}
        write(src / "SegmentationClass" / "a.png", png(np.zeros((HEIGHT, WIDTH), np.uint8)))
        summary = import_dataset("voc", src, src.parent / "other")
        assert "1 folders of masks beside SegmentationClass: not read (first: SegmentationClassAug)" in summary.notes


def test_cvat_leaves_out_faulty_shapes_if_told_and_keeps_the_others(src):
    shapes = """<box label="red" xtl="5" ytl="5" xbr="25" ybr="15"/><box label="green" xtl="5" ytl="5" xbr="9" ybr="9"/>
    <blob label="red"/><mask label="red" rle="3" left="0" top="0" width="2" height="2"/><cuboid label="red"/>"""
    write(src / "images" / "a.png", png(scene(0)[0]))
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    write(src / "annotations.xml", cvat_xml(image))
    with pytest.raises(ImportProblemsError) as caught:
        import_dataset("cvat", src, src.parent / "data")
    assert len(caught.value.problems) == 3
    summary, values = run(src, "cvat", skip_bad=True)
    assert values == {"a": {1: 200}}
    assert noted(summary, "1 cuboid shapes in space: not drawn")


@pytest.mark.parametrize("kind", ["coco", "labelme", "voc", "cvat", "camvid", "oxford-pet", "cityscapes"])
def test_a_damaged_image_is_left_out_if_told(src, kind):
    BUILDERS[kind](src)
    summary = import_dataset(kind, src, src.parent / "whole")
    image = next((src.parent / "whole").rglob("images/*"))
    for path in [path for path in src.rglob("*") if path.is_file() and path.read_bytes() == image.read_bytes()]:
        write(path, image.read_bytes()[:60])
    with pytest.raises(ImportProblemsError):
        import_dataset(kind, src, src.parent / "data")
    skipped = import_dataset(kind, src, src.parent / "data", skip_bad=True)
    assert sum(skipped.images.values()) == sum(summary.images.values()) - 1
    assert "1 faulty files and shapes are left out" in skipped.notes


def turned(shown, orientation):
    """Return a picture stored so that its EXIF orientation, 6 or 8, makes it look like ``shown``."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    data = io.BytesIO()
    stored = np.rot90(shown, 1 if orientation == 6 else 3)
    Image.fromarray(np.ascontiguousarray(stored)).save(data, "PNG", exif=tags.tobytes())
    return data.getvalue()


@pytest.mark.parametrize("stated", ["stored", "shown", None])
@pytest.mark.parametrize("orientation", [6, 8])
class TestTurnedImages:
    """Images shown 64 high and 40 wide; the first has an object that fits one way round only."""

    SHOWN, STORED = (64, 40), (40, 64)

    def build(self, src, orientation, stated, first):
        size = {"stored": self.STORED, "shown": self.SHOWN, None: None}[stated]
        boxes = {"1": first, "2": (5, 5, 25, 15)}
        for name, (left, top, right, bottom) in boxes.items():
            picture = np.zeros((*self.SHOWN, 3), np.uint8)
            picture[::3] = int(name)
            write(src / f"{name}.png", turned(picture, orientation))
            document = labelme_document(
                f"{name}.png", [labelme_shape("cell", [(left, top), (right, bottom)], "rectangle")]
            )
            document |= {"imageHeight": size and size[0], "imageWidth": size and size[1]}
            write(src / f"{name}.json", document)

    def test_annotated_as_shown_keep_their_masks_whatever_size_is_stated(self, src, orientation, stated):
        self.build(src, orientation, stated, (5, 30, 25, 60))
        import_dataset("labelme", src, src.parent / "data")
        masks = imported(src.parent / "data")
        assert masks["images/1"].shape == self.SHOWN
        assert masks["images/1"][30:60, 5:25].all()
        assert masks["images/1"].sum() == 600
        assert masks["images/2"][5:15, 5:25].all()  # as the first one shows
        assert masks["images/2"].sum() == 200

    def test_annotated_as_stored_have_their_masks_turned_whatever_size_is_stated(self, src, orientation, stated):
        self.build(src, orientation, stated, (30, 5, 60, 25))
        import_dataset("labelme", src, src.parent / "data")
        masks = imported(src.parent / "data")
        back = 3 if orientation == 6 else 1
        for name, (left, top, right, bottom) in {"1": (30, 5, 60, 25), "2": (5, 5, 25, 15)}.items():
            stored = np.zeros(self.STORED, np.uint8)
            stored[top:bottom, left:right] = 1
            assert np.array_equal(masks[f"images/{name}"], np.rot90(stored, back))

    def test_that_fit_both_ways_are_taken_by_their_stated_size(self, src, orientation, stated):
        self.build(src, orientation, stated, (5, 5, 25, 15))
        summary = import_dataset("labelme", src, src.parent / "data")
        doubt = "2 of the turned images may be annotated either way round: their stated size decides (first: 1.png)"
        assert (doubt in summary.notes) == (stated == "stored")


POLYGON = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"


def pictures(src, *names):
    for number, name in enumerate(names):
        write(src / name, png(scene(number)[0]))


def part(value, left):
    """A mask whose object covers 10 columns from ``left``."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, left : left + 10] = value
    return png(mask)


class TestYolo:
    def test_boxes_without_names_of_classes_are_refused_in_words(self, src):
        pictures(src, "images/a.png")
        write(src / "labels/a.txt", b"0 0.5 0.5 0.2 0.2\n")
        with pytest.raises(DataError, match="no shape with an area: 1 boxes without a polygon"):
            run(src, "yolo")

    def test_each_polygon_of_an_unknown_class_is_counted(self, src):
        pictures(src, "images/a.png", "images/b.png")
        write(src / "data.yaml", b"names: [cell]\n")
        write(src / "labels/a.txt", (POLYGON + POLYGON.replace("0 ", "3 ", 1) * 2).encode())
        write(src / "labels/b.txt", POLYGON.replace("0 ", "3 ", 1).encode())
        with pytest.raises(ImportProblemsError) as refused:
            run(src, "yolo")
        assert len(refused.value.problems) == 3

    def test_a_label_file_beside_the_images_without_an_image_is_named(self, src):
        pictures(src, "train/a.png")
        write(src / "train/a.txt", POLYGON.encode())
        write(src / "train/gone.txt", POLYGON.encode())
        summary, _ = run(src, "yolo")
        assert [line for line in summary.left_out if "gone.txt — no image of this name" in line]

    def test_folders_may_be_spelled_with_capitals(self, src):
        pictures(src, "Images/a.png")
        write(src / "Labels/a.txt", POLYGON.encode())
        assert list(run(src, "yolo")[1]["a"]) == [1]

    @pytest.mark.parametrize(
        "lists",
        [
            {"train.txt": "images/0.png\n", "val.txt": "images/1.png\n", "test.txt": "images/2.png\n"},
            {"train.txt": "0.png\n", "val.txt": "1.png\n", "test.txt": "2.png\n"},
            {
                "data/train.txt": "/home/me/x/images/0.png",
                "data/valid.txt": "images/1.png",
                "a/test.txt": "images/2.png",
            },
            {
                "trainval.txt": "images/0.png\nimages/1.png\n",
                "train.txt": "images/0.png\n",
                "val2017.txt": "images/1.png\n",
                "test.txt": "./images/2.png\n",
            },
            {
                "obj.data": "classes = 1\ntrain = data/a.txt\nvalid=data/b.txt\nnames = data/obj.names\n",
                "a.txt": "data/images/0.png\n",
                "b.txt": "data/images/1.png\n",
                "test.txt": "images/2.png\n",
            },
        ],
    )
    @pytest.mark.parametrize("config", [None, "names: [cell]\n"])
    def test_lists_called_as_splits_make_splits_if_data_yaml_does_not(self, src, lists, config):
        for i in range(3):
            pictures(src, f"images/{i}.png")
            write(src / f"labels/{i}.txt", POLYGON.encode())
        for name, text in lists.items() | ({"data.yaml": config} if config else {}).items():
            write(src / name, text.encode())
        summary, _ = run(src, "yolo")
        assert summary.images == {"train": 1, "val": 1, "test": 1}
        assert noted(summary, "1 lists of images that are not read") == ("trainval.txt" in lists)

    def test_a_list_of_one_split_does_not_say_where_the_others_are_and_is_named(self, src):
        for i in range(2):
            pictures(src, f"images/{i}.png")
            write(src / f"labels/{i}.txt", POLYGON.encode())
        write(src / "train.txt", b"images/0.png\n")
        write(src / "labels/val.txt", POLYGON.encode())
        summary, _ = run(src, "yolo")
        assert summary.images == {"all": 2}
        assert "1 lists of images that are not read (first: train.txt)" in summary.notes

    @pytest.mark.parametrize("names", ["data.yaml", "classes.txt"])
    def test_ids_from_1_are_refused_with_names_by_number_which_then_are_right(self, src, names):
        for number in (1, 2):
            pictures(src, f"images/{number}.png")
            write(src / f"labels/{number}.txt", POLYGON.replace("0 ", f"{number} ", 1).encode())
        write(src / names, b"cat\ndog\n" if names == "classes.txt" else b"names: [cat, dog]\n")
        with pytest.raises(
            DataError, match=r"the ids seem to start at 1 — name them by number in data\.yaml"
        ) as refused:
            import_dataset("yolo", src, src.parent / "data", skip_bad=True)
        write(src / "data.yaml", str(refused.value).rpartition(", as ")[2].encode())
        summary, values = run(src, "yolo")
        assert [c.name for c in summary.classes] == ["background", "cat", "dog"]
        assert [list(found) for found in values.values()] == [[1], [2]]

    @pytest.mark.parametrize("name", ["labels/train/classes.txt", "labels/classes.txt", "labels/train/obj.names"])
    def test_names_beside_the_labels_are_read(self, src, name):
        pictures(src, "images/train/a.png", "images/val/b.png")
        for place in ("train/a", "val/b"):
            write(src / f"labels/{place}.txt", POLYGON.encode())
        write(src / name, b"cell\nrod\n")
        summary, _ = run(src, "yolo")
        assert summary.classes[1].name == "cell"
        write(src / "labels/val/classes.txt", b"cell\n")
        assert import_dataset("yolo", src, src.parent / "again").classes == summary.classes
        write(src / "labels/val/classes.txt", b"rod\n")
        with pytest.raises(DataError, match=r"classes\.txt — \['rod'\] — expected the names of .*\['cell', 'rod'\]"):
            import_dataset("yolo", src, src.parent / "third")


class TestMasksPerImage:
    @pytest.mark.parametrize("form", ["masks/{}/{}.png", "masks/{}_{}.png", "masks/{}-{}_1.png"])
    def test_names_that_come_again_are_classes(self, src, form):
        pictures(src, *(f"images/{name}.png" for name in "abc"))
        for name in "abc":
            write(src / form.format(name, "car"), part(255, 0))
            write(src / form.format(name, "person"), part(255, 20))
        summary, values = run(src, "object-masks")
        assert [c.name for c in summary.classes] == ["background", "car", "person"]
        assert values["a"] == {1: 10 * HEIGHT, 2: 10 * HEIGHT}

    @pytest.mark.parametrize("form", ["{}_{}", "{}-{}", "{}_{}_1"])
    def test_names_that_come_again_are_classes_with_one_mask_per_image_too(self, src, form):
        for name, label in zip("abcd", ("car", "car", "dog", "dog"), strict=True):
            pictures(src, f"images/{name}.png")
            write(src / f"masks/{form.format(name, label)}.png", part(255, 0))
        assert recognised(src) == {
            "object-masks": f"masks has masks called by image and class, such as {form.format('a', 'car')}.png"
        }
        summary, values = run(src, "object-masks")
        assert [c.name for c in summary.classes] == ["background", "car", "dog"]
        assert values == {name: {number: 10 * HEIGHT} for name, number in zip("abcd", (1, 1, 2, 2), strict=True)}

    def test_classes_of_one_split_are_those_of_another_with_few_masks(self, src):
        for split, name, label in (
            ("train", "a", "car"),
            ("train", "b", "dog"),
            ("val", "c", "car"),
            ("val", "d", "dog"),
        ):
            pictures(src, f"{split}/images/{name}.png")
            write(src / f"{split}/masks/{name}_{label}.png", part(255, 0))
        summary, _ = run(src, "object-masks")
        assert summary.images == {"train": 2, "val": 2}
        assert [c.name for c in summary.classes] == ["background", "car", "dog"]

    @pytest.mark.parametrize("endings", [("_mask", "_mask"), ("_1", "_2"), ("_car", "_dog"), ("", "_car")])
    def test_one_mask_per_image_without_names_that_come_again_is_a_dataset_as_it_is(self, src, endings):
        for name, ending in zip("ab", endings, strict=True):
            pictures(src, f"images/{name}.png")
            write(src / f"masks/{name}{ending}.png", part(255, 0))
        assert recognised(src) == {}
        with pytest.raises(DataError, match="a dataset as it is: run `edge-unet data check`"):
            run(src, "object-masks")

    def test_a_folder_per_class_may_repeat_its_name_in_the_files(self, src):
        pictures(src, "images/a.png", "images/b.png")
        for name in "ab":
            write(src / f"masks/car/{name}_car.png", part(255, 0))
            write(src / f"masks/person/{name}_person.png", part(255, 20))
        summary, values = run(src, "object-masks")
        assert [c.name for c in summary.classes] == ["background", "car", "person"]
        assert values["b"] == {1: 10 * HEIGHT, 2: 10 * HEIGHT}

    @pytest.mark.parametrize("form", ["masks/{}/{}.png", "masks/{}/mask_{}.png", "masks/{}/x{}{}.png"])
    def test_numbers_and_names_of_their_own_are_objects(self, src, form):
        pictures(src, *(f"images/{name}.png" for name in "abc"))
        for name in "abc":
            for number in (0, 1):
                own = "pqr"["abc".index(name)] if form.count("{}") > 2 else ""
                write(src / form.format(name, *([own] * bool(own)), number), part(255, 20 * number))
        summary, values = run(src, "object-masks")
        assert [c.name for c in summary.classes] == ["background", "object"]
        assert len(values) == 3


class TestVocFolders:
    def test_a_mask_in_another_format_is_named(self, src):
        pictures(src, "JPEGImages/a.png", "JPEGImages/b.png")
        write(src / "SegmentationClass/a.png", part(1, 0))
        write(src / "SegmentationClass/b.bmp", b"BM")
        with pytest.raises(ImportProblemsError, match=r"b\.bmp — a mask in another format — expected PNG"):
            run(src, "voc")

    @pytest.mark.parametrize("name", ["class_names.txt", "labels.txt", "classes.txt"])
    @pytest.mark.parametrize(
        "background", ["background", "_background_", "Background", "BG", "__ignore__\n_background_"]
    )
    def test_classes_are_those_of_a_list_with_the_background(self, src, name, background):
        pictures(src, "JPEGImages/a.png")
        write(src / "SegmentationClass/a.png", part(1, 0))
        write(src / name, f"{background}\ncell\n")
        summary, values = run(src, "voc")
        assert [c.name for c in summary.classes] == ["background", "cell"]
        assert values == {"a": {1: 10 * HEIGHT}}
        assert summary.notes == ()

    def test_class_names_without_the_background_would_each_be_a_value_too_low(self, src):
        pictures(src, "JPEGImages/a.png")
        write(src / "SegmentationClass/a.png", part(1, 0))
        write(src / "class_names.txt", "cell\nrod\n")
        with pytest.raises(
            DataError, match="its first class is 'cell' — expected the one of the value 0, the background"
        ):
            run(src, "voc")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("labels.txt", "cell\n"),
            ("classes.txt", "cell\n"),
            ("class_names.txt", ""),
            ("SegmentationClass/labelmap.txt", "background:0,0,0::\ncell:128,0,0::\n"),
            ("ImageSets/class_names.txt", "background\ncell\n"),
        ],
    )
    def test_lists_of_classes_that_are_not_read_are_named_and_so_are_the_classes_in_their_place(self, src, name, text):
        pictures(src, "JPEGImages/a.png")
        write(src / "SegmentationClass/a.png", part(1, 0))
        write(src / name, text)
        summary, _ = run(src, "voc")
        assert summary.classes[1].name == "aeroplane"
        assert {f"1 lists of classes that are not read (first: {name})", OF_VOC_ITSELF} <= set(summary.notes)

    @pytest.mark.parametrize("empty", [False, True])
    def test_white_masks_of_one_class_are_not_taken_for_ignored_pixels_alone(self, src, empty):
        pictures(src, "JPEGImages/a.png", "JPEGImages/b.png")
        write(src / "SegmentationClass/a.png", part(255, 0))
        write(src / "SegmentationClass/b.png", part(0 if empty else 255, 0))
        write(src / "class_names.txt", "background\ncell\n")
        with pytest.raises(
            DataError, match=r"masks with ignored pixels .* none with a pixel of a class — expected cell"
        ):
            run(src, "voc")
        write(src / "SegmentationClass/b.png", part(1, 20))
        assert run(src, "voc")[1] == {"a": {255: 10 * HEIGHT}, "b": {1: 10 * HEIGHT}}

    def test_lists_in_main_make_the_split_if_there_are_no_others(self, src):
        pictures(src, "JPEGImages/a.png", "JPEGImages/b.png")
        for name, split in (("a", "train"), ("b", "val")):
            write(src / f"SegmentationClass/{name}.png", part(1, 0))
            write(src / f"ImageSets/Main/{split}.txt", name.encode())
        summary, _ = run(src, "voc")
        assert summary.images == {"train": 1, "val": 1}


def in_yolo(src, folder, name):
    pictures(src, f"{folder}/images/{name}.png")
    write(src / f"{folder}/labels/{name}.txt", POLYGON.encode())


def in_labelme_of(src, folder, name):
    pictures(src, f"{folder}/{name}.png")
    write(src / f"{folder}/{name}.json", labelme_document(f"{name}.png", [labelme_shape("cell", CORNERS)]))


def in_coco_of(src, folder, name):
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [BOX]}
    pictures(src, f"{folder}/{name}.png")
    images, categories = [{"id": 1, "file_name": f"{name}.png"}], [{"id": 1, "name": "cell"}]
    write(src / folder / "result.json", {"images": images, "annotations": [entry], "categories": categories})


def in_via(src, folder, name):
    shape = {"name": "rect", "x": 5, "y": 5, "width": 20, "height": 10}
    region = {"shape_attributes": shape, "region_attributes": {"class": "cell"}}
    pictures(src, f"{folder}/{name}.png")
    write(src / folder / "via.json", {"a": {"filename": f"{name}.png", "regions": [region]}})


def in_object_masks(src, folder, name):
    pictures(src, f"{folder}/images/{name}.png")
    write(src / f"{folder}/masks/cell/{name}.png", part(255, 0))


IN_FOLDERS = {
    "yolo": in_yolo,
    "labelme": in_labelme_of,
    "coco": in_coco_of,
    "via": in_via,
    "object-masks": in_object_masks,
}


@pytest.mark.parametrize("kind", IN_FOLDERS)
class TestSplitsOfFolders:
    @pytest.mark.parametrize("folder", ["training_set/{}", "data/{}", "{}/test_hall", "{}/data", "My_{}", "{}_2"])
    def test_are_the_deepest_folder_that_is_called_as_a_split(self, src, kind, folder):
        for split, name in (("train", "a"), ("valid", "b"), ("Test", "c")):
            IN_FOLDERS[kind](src, folder.format(split), name)
        assert run(src, kind)[0].images == {"train": 1, "val": 1, "test": 1}

    def test_are_not_made_of_the_name_of_the_source(self, tmp_path, kind):
        IN_FOLDERS[kind](tmp_path / "crack-test", ".", "a")
        summary, _ = run(tmp_path / "crack-test", kind)
        assert summary.images == {"all": 1}
        assert not any("split" in note for note in summary.notes)

    @pytest.mark.parametrize(("folder", "split"), [("test_pieces", "test"), ("valid", "val")])
    def test_are_not_made_where_train_would_have_no_image(self, src, kind, folder, split):
        IN_FOLDERS[kind](src, folder, "a")
        summary, _ = run(src, kind)
        assert summary.images == {"all": 1}
        lone = f"1 images are all in {split} by the names of files or folders: no splits are made"
        assert lone in summary.notes


@pytest.mark.parametrize("place", ["first-test.json", "sub/first-test.json"])
def test_a_single_json_of_coco_with_test_in_its_name_makes_no_split(src, place):
    coco(src, [(1, [BOX])], name=place)
    summary, _ = run(src)
    assert summary.images == {"all": 3}


class TestSeveralFiles:
    @pytest.mark.parametrize(("first", "other"), [("instances_train", "val"), ("trainset", "valset")])
    def test_coco_takes_another_split_under_another_name(self, src, first, other):
        coco(src, [(1, [BOX])], images={1: "1.png"}, name=f"{first}.json")
        document = json.loads((src / f"{first}.json").read_bytes())
        document["images"][0]["file_name"] = "2.png"
        write(src / "images/2.png", png(scene(2)[0]))
        write(src / f"{other}.json", document)
        summary, values = run(src)
        assert summary.images == {"train": 1, "val": 1}
        assert values.keys() == {"1", "2"}

    @pytest.mark.parametrize("folder", ["valid", "Val", "images/validation", "annotations/val_2017"])
    def test_coco_finds_the_images_of_a_split_in_a_folder_called_otherwise(self, src, folder):
        for split, place in (("train", "train"), ("val", folder)):
            coco(
                src,
                [(1, [BOX])],
                images={1: "1.png"},
                files=f"{place}/{{}}.png",
                name=f"annotations/instances_{split}.json",
            )
        pictures(src, f"{folder}/1.png")
        summary, _ = run(src)
        assert summary.images == {"train": 1, "val": 1}
        assert {path.stem for path in (src.parent / "data/val/images").iterdir()} == {f"{folder.replace('/', '_')}_1"}

    def test_the_folder_of_an_annotation_says_which_of_two_images_it_means(self, src):
        for camera in ("cam1", "cam2"):
            pictures(src, f"images/{camera}/a.png")
            write(src / f"annotations/{camera}/a.json", labelme_document("a.png", [labelme_shape("cell", CORNERS)]))
        assert sum(run(src, "labelme")[0].images.values()) == 2

    def test_a_class_may_begin_with_a_hash(self, src):
        pictures(src, "a.png")
        write(src / "a.json", labelme_document("a.png", [labelme_shape("#1 cell", CORNERS)]))
        write(src / "labels.txt", b"# classes\n__ignore__\n_background_\n#1 cell\n")
        assert [c.name for c in run(src, "labelme")[0].classes] == ["background", "#1 cell"]

    def test_corners_as_objects_are_refused_in_words(self, src):
        coco(src, [(1, [{"x": 5, "y": 5}, {"x": 9, "y": 5}, {"x": 9, "y": 9}])])
        with pytest.raises(ImportProblemsError, match="expected pairs of numbers, or counts and size"):
            run(src)
