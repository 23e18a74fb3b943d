"""One test for each way in which a dataset can be wrong, and for those that are right."""

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from datasets import jpeg, palette_png, png, squares
from PIL import Image

from edge_runtime.errors import InputError
from training.data.check import check_dataset
from training.errors import DataError

IMAGE, IDS = squares(99)
NAMED = "classes: [background, red, blue]\n"


def errors(dataset):
    """Return the errors of a check as (code, file name, message), after asserting what holds for all of them."""
    report = check_dataset(dataset.root)
    found = [p for p in report.problems if p.severity == "error"]
    assert report.ok == (not found)
    assert all("\n" not in p.message and " — " in p.message for p in found)
    return [(p.code, p.file.rpartition("/")[2], p.message) for p in found]


def only_error(dataset):
    """Return the only error, apart from that a dataset of one pair is too small."""
    (error,) = (found for found in errors(dataset) if found[0] != "too_few")
    return error


def big_header_png(height_px, width_px):
    """Return a PNG of a few bytes that announces a huge picture."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


class TestGoodDatasets:
    def test_of_index_masks(self, dataset):
        report = check_dataset(dataset.root)
        assert report.ok
        assert (report.encoding, report.channels, report.problems) == ("index", 3, ())
        assert [c.name for c in report.info.classes] == ["background", "class_1", "class_2"]
        assert (
            report.pixels.tolist()
            == sum(np.bincount(squares(i)[1].reshape(-1), minlength=3) for i in range(3)).tolist()
        )
        assert report.images_with.tolist() == [3, 3, 3]

    def test_of_black_and_white_masks(self, empty_dataset):
        for i in range(3):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.jpg", jpeg(image_bgr))
            empty_dataset.mask(f"{i}.png", png(np.where(ids, 255, 0).astype(np.uint8)))
        report = check_dataset(empty_dataset.root)
        assert (report.ok, report.encoding, len(report.info.classes)) == (True, "binary", 2)
        assert report.pixels[1] == sum((squares(i)[1] > 0).sum() for i in range(3))

    def test_of_palette_masks(self, empty_dataset):
        for i in range(3):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            empty_dataset.mask(f"{i}.png", palette_png(ids))
        report = check_dataset(empty_dataset.root)
        assert (report.ok, report.encoding, len(report.info.classes)) == (True, "palette", 3)

    def test_of_grey_images_have_one_channel(self, empty_dataset):
        empty_dataset.image("a.png", png(IMAGE[..., 0]))
        empty_dataset.mask("a.png", png(IDS))
        assert check_dataset(empty_dataset.root).channels == 1

    def test_with_one_colour_image_among_grey_ones_have_three(self, dataset):
        dataset.image("a.png", png(IMAGE[..., 0]))
        dataset.mask("a.png", png(IDS))
        assert check_dataset(dataset.root).channels == 3

    def test_with_ignored_pixels_do_not_count_them(self, dataset):
        ids = IDS.copy()
        ids[:8] = 255
        dataset.image("a.png", png(IMAGE))
        dataset.mask("a.png", png(ids))
        dataset.yaml(NAMED + "ignore_id: 255\n")
        report = check_dataset(dataset.root)
        assert report.ok
        assert report.pixels.sum() == 4 * 32 * 32 - 8 * 32

    def test_change_their_fingerprint_with_any_byte_of_any_file(self, dataset):
        before = check_dataset(dataset.root).fingerprint
        assert check_dataset(dataset.root).fingerprint == before
        dataset.mask("0.png", png(squares(0)[1].T.copy()))
        assert check_dataset(dataset.root).fingerprint != before

    @pytest.mark.parametrize("stem", ["größe 画", "two words", "line\nbreak", "x" * 200])
    def test_with_unusual_names(self, dataset, stem):
        dataset.pair(stem, 50)
        assert check_dataset(dataset.root).ok
        (dataset.root / "masks" / f"{stem}.png").write_bytes(b"")
        code, _, message = only_error(dataset)
        assert code == "empty_file"
        assert stem.replace("\n", "\\n") in message

    def test_with_a_name_that_is_not_utf_8(self, dataset):
        dataset.pair("caf\udce9", 50)
        assert check_dataset(dataset.root).ok
        (dataset.root / "masks" / "caf\udce9.png").write_bytes(b"")
        assert "caf\\udce9.png — empty file" in only_error(dataset)[2]

    def test_pass_over_hidden_and_system_files(self, dataset):
        for name in ("._0.png", ".hidden.png", "Thumbs.db", "notes.txt"):
            dataset.image(name, b"nothing to see")
        (dataset.root / "images" / "folder.png").mkdir()
        assert check_dataset(dataset.root).ok

    def test_tell_each_pair_that_is_read(self, dataset):
        done = []
        check_dataset(dataset.root, on_progress=lambda *call: done.append(call))
        assert done == [*(("checking", number, 3) for number in range(4)), ("comparing", 3, 3)]


class TestPairing:
    def test_a_missing_mask(self, dataset):
        path = dataset.image("lone.jpg", jpeg(IMAGE))
        code, name, message = only_error(dataset)
        assert (code, name) == ("missing_mask", "lone.jpg")
        assert message == (
            f"no mask for image {path} — expected {dataset.root}/masks/lone.png — add it or remove the image, or pass "
            "--empty-without-mask if it shows no object"
        )

    def test_an_orphan_mask(self, dataset):
        path = dataset.mask("lone.png", png(IDS))
        code, name, message = only_error(dataset)
        assert (code, name) == ("orphan_mask", "lone.png")
        assert message == (
            f"no image for mask {path} — expected {dataset.root}/images/lone.jpg or .png — add it or remove the mask"
        )

    @pytest.mark.parametrize("name", ["0.jpg", "0.PNG"])
    def test_two_images_of_one_stem(self, dataset, name):
        dataset.image(name, jpeg(IMAGE))
        code, _, message = only_error(dataset)
        assert code == "duplicate_stem"
        assert f"images/{name}" in message
        assert "images/0.png" in message
        assert message.endswith("expected one — rename or remove one")

    def test_two_stems_that_differ_only_in_case(self, dataset):
        dataset.pair("Cat", 50)
        dataset.pair("cat", 51)
        found = errors(dataset)
        assert [code for code, _, _ in found] == ["duplicate_stem", "duplicate_stem"]
        assert "images/Cat.png and" in found[0][2]
        assert "images/cat.png" in found[0][2]


class TestSizes:
    def test_that_differ(self, dataset):
        dataset.image("a.png", png(IMAGE))
        dataset.mask("a.png", png(IDS[:20, :24].copy()))
        code, name, message = only_error(dataset)
        assert (code, name) == ("size_mismatch", "a.png")
        assert "masks/a.png — mask is 24x20, image " in message
        assert message.endswith("images/a.png is 32x32 — make them the same size")

    def test_that_are_transposed(self, dataset):
        dataset.image("a.png", png(IMAGE[:20].copy()))
        dataset.mask("a.png", png(IDS[:20].T.copy()))
        assert only_error(dataset)[2].endswith("is 32x20 — they are transposed: rotate one of them")

    def test_that_are_transposed_by_an_exif_orientation(self, dataset):
        data = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90° to show
        Image.fromarray(IMAGE[:20, :, ::-1]).save(data, "JPEG", exif=exif)
        dataset.image("a.jpg", data.getvalue())
        dataset.mask("a.png", png(IDS[:20].copy()))
        code, _, message = only_error(dataset)
        assert code == "size_mismatch"
        assert "mask is 32x20, image" in message
        assert "images/a.jpg is 20x32 — the image is rotated by its EXIF orientation and the mask is not" in message

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 15)])
    def test_that_are_too_small(self, dataset, shape):
        dataset.image("a.png", png(np.full((*shape, 3), 7, np.uint8)))
        dataset.mask("a.png", png(np.zeros(shape, np.uint8)))
        code, name, message = only_error(dataset)
        assert (code, name) == ("too_small", "a.png")
        assert message.endswith(f"a.png — {shape[1]}x{shape[0]} pixels — expected at least 16 a side — remove it")

    def test_that_would_fill_the_memory_are_refused_from_the_header(self, dataset):
        dataset.image("a.png", big_header_png(30_000, 40_000))
        dataset.mask("a.png", big_header_png(30_000, 40_000))
        found = errors(dataset)
        assert [code for code, _, _ in found] == ["too_large", "too_large"]
        for _, _, message in found:
            assert message.endswith("a.png — 40000x30000 pixels — at most 64 megapixels — scale it down")


TEXT = b"This is no picture."


def tiff(array):
    return cv2.imencode(".tif", array)[1].tobytes()


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "data", "expected", "message"),
        [
            ("a.jpg", b"", "empty_file", "empty file (0 bytes) — copy it again or remove it"),
            ("a.png", TEXT, "not_an_image", "not an image (unknown data) — expected JPEG, PNG, BMP, WebP, TIFF, GIF,"),
            ("a.gif", b"GIF89a" + bytes(40), "damaged_file", "truncated or damaged GIF"),
            ("a.png", b"%PDF-1.7" + bytes(40), "not_an_image", "not an image (PDF data)"),
            ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", "not_an_image", "(Git LFS pointer data)"),
            ("a.jpg", b"<!DOCTYPE html>", "not_an_image", "(HTML or XML data)"),
            ("a.jpg", b"\0\0\0\x24ftypheic" + bytes(40), "not_an_image", "not read (HEIC data)"),
            ("a.png", png(IMAGE)[:-200], "damaged_file", "truncated or damaged PNG — copy it again or remove it"),
            ("a.jpg", jpeg(IMAGE)[:-200], "damaged_file", "truncated JPEG (no end marker) — copy it again"),
            ("a.png", png(IMAGE.astype(np.uint16) * 257), "sixteen_bit_image", "16 bits a sample — expected 8"),
            ("a.tif", tiff(IMAGE.astype(np.uint16) * 257), "sixteen_bit_image", "16 bits a sample — expected 8"),
        ],
    )
    def test_an_image_that_cannot_be_trained_on(self, dataset, name, data, expected, message):
        dataset.image(name, data)
        dataset.mask("a.png", png(IDS))
        code, file, found = only_error(dataset)
        assert (code, file) == (expected, name)
        assert f"images/{name} — " in found
        assert message in found

    @pytest.mark.parametrize(
        ("name", "data", "expected", "message"),
        [
            ("a.png", b"", "empty_file", "empty file (0 bytes)"),
            ("a.png", TEXT, "not_an_image", "not an image (unknown data)"),
            ("a.png", png(IDS)[:-30], "damaged_file", "truncated or damaged PNG"),
            (
                "a.jpg",
                jpeg(IDS * 100),
                "lossy_mask",
                "a mask in a lossy format, as JPEG is: compression changes values",
            ),
            ("a.png", png(IDS.astype(np.uint16) * 300), "sixteen_bit_mask", "unknown label id 300"),
            ("a.png", png(IMAGE.astype(np.uint16)), "bad_mask", "uint16 of shape (32, 32, 3)"),
            ("a.png", png(np.dstack([IDS, IDS, IDS, IDS * 120])), "transparent_mask", "has transparent pixels"),
            ("a.png", png(IMAGE), "mixed_encoding", "a colour mask — expected 'index', the encoding"),
        ],
    )
    def test_a_mask_that_cannot_be_trained_on(self, dataset, name, data, expected, message):
        dataset.image("a.png", png(IMAGE))
        dataset.mask(name, data)
        code, file, found = only_error(dataset)
        assert (code, file) == (expected, name)
        assert f"masks/{name} — {message}" in found

    def test_an_opaque_alpha_channel_is_no_fault(self, dataset):
        opaque = np.full_like(IDS, 255)
        dataset.image("a.png", png(np.dstack([IMAGE, opaque])))
        dataset.mask("a.png", png(np.dstack([IDS, IDS, IDS, opaque])))
        assert check_dataset(dataset.root).ok

    def test_a_cmyk_jpeg_is_converted_as_the_device_does_it(self, dataset):
        data = io.BytesIO()
        Image.fromarray(IMAGE[..., ::-1]).convert("CMYK").save(data, "JPEG")
        dataset.image("a.jpg", data.getvalue())
        dataset.mask("a.png", png(IDS))
        assert check_dataset(dataset.root).ok

    def test_a_huge_yaml_fault_comes_before_all_others(self, dataset):
        dataset.image("a.png", b"")
        dataset.yaml("classes: [one]\n")
        with pytest.raises(
            DataError, match=r"dataset\.yaml — classes is one name, \[one\] — .* write classes: \[background, one\]"
        ):
            check_dataset(dataset.root)


class TestLabels:
    def test_an_unknown_id_with_its_pixels(self, dataset):
        ids = IDS.copy()
        ids[0, :5] = 9
        dataset.yaml(NAMED)
        dataset.image("a.png", png(IMAGE))
        dataset.mask("a.png", png(ids))
        code, name, message = only_error(dataset)
        assert (code, name) == ("unknown_id", "a.png")
        assert "masks/a.png — unknown label id 9 (5 px) — expected 0 to 2 — add the class or set ignore_id" in message

    @pytest.mark.parametrize("yaml", [NAMED, None])
    def test_a_palette_read_as_grey(self, empty_dataset, yaml):
        if yaml:
            empty_dataset.yaml(yaml)
        empty_dataset.image("a.png", png(IMAGE))
        empty_dataset.mask("a.png", png(np.array([0, 38, 75], np.uint8)[IDS]))
        code, _, message = only_error(empty_dataset)
        assert code == "unknown_id"
        assert f"unknown label id 38 ({(IDS == 1).sum()} px), 75 ({(IDS == 2).sum()} px)" in message
        assert message.endswith("these are grey levels of the usual mask palette: save the indices, not the picture")

    def test_ids_smeared_by_compression(self, dataset):
        dataset.yaml(NAMED)
        dataset.image("a.png", png(IMAGE))
        smeared = cv2.imdecode(np.frombuffer(jpeg(IDS * 100), np.uint8), cv2.IMREAD_GRAYSCALE)
        dataset.mask("a.png", png(smeared))
        assert "many stray values look like a resized or JPEG-compressed mask" in only_error(dataset)[2]

    def test_255_where_nothing_is_to_be_ignored(self, dataset):
        dataset.yaml(NAMED)
        ids = IDS.copy()
        ids[0] = 255
        dataset.image("a.png", png(IMAGE))
        dataset.mask("a.png", png(ids))
        assert only_error(dataset)[2].endswith("set ignore_id: 255 in dataset.yaml if these pixels count nowhere")

    def test_a_palette_mask_among_index_masks(self, dataset):
        dataset.image("a.png", png(IMAGE))
        dataset.mask("a.png", palette_png(IDS))
        code, name, message = only_error(dataset)
        assert (code, name) == ("mixed_encoding", "a.png")
        assert "masks/a.png — a palette PNG — expected 'index', the encoding of this dataset" in message

    def test_an_index_mask_among_palette_masks(self, empty_dataset):
        for i in range(3):
            image_bgr, ids = squares(i)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            empty_dataset.mask(f"{i}.png", png(ids) if i == 1 else palette_png(ids))
        code, name, message = only_error(empty_dataset)
        assert (code, name) == ("mixed_encoding", "1.png")
        assert "one channel of values — expected 'palette', the encoding" in message

    def test_the_stated_encoding_is_not_guessed_at(self, empty_dataset):
        image_bgr, ids = squares(0)
        empty_dataset.image("a.png", png(image_bgr))
        empty_dataset.mask("a.png", png((ids > 0).astype(np.uint8)))
        empty_dataset.yaml("classes: [a, b]\nmask_encoding: binary\n")
        assert "unknown label id 1" in only_error(empty_dataset)[2]

    @pytest.mark.parametrize(
        ("splits", "found"),
        [
            (
                {"test": 3},
                "nothing to train on — expected images in train/ — add them beside test/, or rename that folder",
            ),
            ({"val": 3, "test": 1}, "nothing to train on — expected images in train/ — add them beside val/ and test/"),
            ({"": 1}, "1 pairs to train on — expected at least 2, to hold one out — add images, or put some into val/"),
            ({"train": 1, "test": 2}, "1 pairs to train on — expected at least 2"),
            ({"train": 1, "val": 1}, None),
            ({"": 2}, None),
        ],
    )
    def test_what_training_refuses_is_an_error(self, empty_dataset, splits, found):
        for i, (split, count) in enumerate(splits.items()):
            empty_dataset.fill(count, split, first_seed=10 * i)
        messages = [p.message for p in check_dataset(empty_dataset.root).problems if p.code == "too_few"]
        assert len(messages) == (found is not None)
        assert found is None or f"dataset {empty_dataset.root} — {found}" in messages[0]
        assert check_dataset(empty_dataset.root).ok == (found is None)

    @pytest.mark.parametrize(
        ("rows", "warned"),
        [("{0},x {1},y {2},z", False), ("{0},x {1},x {2},y", True), ("{0},x {1},x {2},x", True), ("{0},x", True)],
    )
    def test_a_file_of_groups_beside_other_groups_is_a_warning(self, empty_dataset, rows, warned):
        empty_dataset.fill(3).yaml("classes: [background, red, blue]\ngroups: '^(.+)$'\n")
        names = sorted(path.stem for path in (empty_dataset.root / "images").iterdir())
        path = empty_dataset.root / "groups.csv"
        path.write_text("\n".join(["file,group", *rows.format(*names).split()]))
        report = check_dataset(empty_dataset.root)
        assert report.ok
        assert len(set(report.groups.values())) == 3
        assert [p.message for p in report.problems] == [
            f"{path} — other groups than those of groups in dataset.yaml, which are used — expected one of the two — remove "
            "the other"
        ] * warned

    def test_one_group_that_the_command_line_may_replace_is_a_warning(self, empty_dataset):
        empty_dataset.fill(3)
        names = sorted(path.stem for path in (empty_dataset.root / "images").iterdir())
        (empty_dataset.root / "groups.csv").write_text("file,group\n" + "".join(f"{name},x\n" for name in names))
        report = check_dataset(empty_dataset.root)
        (warning,) = (p for p in report.problems if p.code == "too_few")
        assert (report.ok, warning.severity) == (True, "warning")
        assert "all 3 pairs are of group 'x' — expected at least 2 groups" in warning.message

    def test_two_copies_of_one_picture_are_too_few(self, empty_dataset):
        image, mask = empty_dataset.pair("a", 0)
        empty_dataset.image("b.png", image.read_bytes())
        empty_dataset.mask("b.png", mask.read_bytes())
        assert "too_few" in [code for code, _, _ in errors(empty_dataset)]

    def test_a_class_that_a_split_lacks_is_only_a_warning(self, empty_dataset):
        empty_dataset.fill(2, "train").fill(1, "val", first_seed=10)
        empty_dataset.mask("val0.png", png(np.minimum(squares(10)[1], 1)), "val")
        empty_dataset.yaml(NAMED)
        report = check_dataset(empty_dataset.root)
        assert report.ok
        (warning,) = report.problems
        assert (warning.severity, warning.code, warning.file) == ("warning", "absent_class", "val")
        assert warning.message == ("split val — no pixel of class 'blue' — expected some — add images that show it")
        assert [p.severity for p in report.problems] == ["warning"]

    def test_a_split_whose_masks_are_all_unreadable_lacks_nothing_it_could_have(self, empty_dataset):
        empty_dataset.fill(2, "train").fill(1, "val", first_seed=10)
        empty_dataset.mask("val0.png", b"", "val")
        assert [code for code, _, _ in errors(empty_dataset)] == ["empty_file"]


def test_the_same_image_in_two_splits(empty_dataset):
    empty_dataset.fill(2, "train").fill(1, "val", first_seed=10)
    image_bgr, ids = squares(1)
    empty_dataset.image("other.png", png(image_bgr), "val")
    empty_dataset.mask("other.png", png(ids), "val")
    code, name, message = only_error(empty_dataset)
    assert (code, name) == ("leak", "other.png")
    assert message == (
        f"the same image in train and val: {empty_dataset.root}/train/images/train1.png and "
        f"{empty_dataset.root}/val/images/other.png — 1 of 2 val images have a copy in train: the val mean "
        "IoU is too good — remove all but one, or pass --allow-copies"
    )


@pytest.mark.parametrize("layout", ["images", "train/images"])
def test_an_empty_folder(empty_dataset, layout):
    (empty_dataset.root / layout).mkdir(parents=True)
    with pytest.raises(
        DataError,
        match=r"— no image with a mask of the same name, no .*masks/, .* — expected images/a\.jpg and masks/a\.png",
    ):
        check_dataset(empty_dataset.root)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"^dataset .*/none — no such folder — expected images/ and masks/"):
        check_dataset(tmp_path / "none")


def test_all_faults_are_listed_in_one_pass(empty_dataset):
    empty_dataset.fill(3, "train").fill(1, "val", first_seed=10).yaml(NAMED)
    empty_dataset.image("lone.png", png(squares(50)[0]), "train")
    empty_dataset.mask("orphan.png", png(IDS), "val")
    empty_dataset.image("cut.jpg", jpeg(IMAGE)[:-200], "train")
    empty_dataset.mask("cut.png", png(IDS + 7), "train")
    empty_dataset.pair("small", 60, "train")
    empty_dataset.mask("small.png", png(IDS[:16].copy()), "train")
    empty_dataset.image("again.png", png(squares(0)[0]), "val")
    empty_dataset.mask("again.png", b"", "val")
    report = check_dataset(empty_dataset.root)
    found = sorted((p.code, p.file.rpartition("/")[2]) for p in report.problems)
    assert found == [
        ("damaged_file", "cut.jpg"),
        ("empty_file", "again.png"),
        ("leak", "again.png"),
        ("missing_mask", "lone.png"),
        ("orphan_mask", "orphan.png"),
        ("size_mismatch", "small.png"),
        ("unknown_id", "cut.png"),
    ]
    with pytest.raises(DataError, match=r"\(and 6 more: `edge-unet data check` lists all\)$"):
        report.require_ok()


REFUSED_WITHOUT_TENSORFLOW = """
import sys
from edge_runtime.cli import main
code = main(["train", sys.argv[1], "--out", sys.argv[2]])
print(code, sorted({"tensorflow", "keras"} & {name.partition(".")[0] for name in sys.modules}))
"""


def test_train_refuses_a_bad_dataset_before_tensorflow_is_loaded(dataset, tmp_path):
    dataset.mask("0.png", b"")
    child = subprocess.run(
        [sys.executable, "-c", REFUSED_WITHOUT_TENSORFLOW, dataset.root, tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout == "3 []\n", child.stderr
    assert (
        child.stderr == f"edge-unet: {dataset.root}/masks/0.png — empty file (0 bytes) — copy it again or remove it\n"
    )
