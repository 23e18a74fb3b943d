import cv2
import numpy as np
import pytest
from datasets import png, squares

from training.data.check import check_dataset
from training.data.dataset import make_classes, read_class_ids
from training.errors import DataError
from training.report.pictures import captioned, choose_pairs, contact_sheet, legend, write_pictures

CLASSES = make_classes(["background", "red", "blue"], [[0, 0, 0], [255, 0, 0], [0, 0, 255]])
CAPTION_PX = captioned(np.zeros((1, 64, 3), np.uint8), "").shape[0] - 1


def has_color(image_bgr, color_bgr):
    return bool((image_bgr == np.array(color_bgr, np.uint8)).all(axis=-1).any())


def hatched(image_bgr):
    """Whether there are black and white stripes."""
    return has_color(image_bgr, (255, 255, 255)) and has_color(image_bgr, (0, 0, 0))


def drawn_names(empty_dataset, names):
    """Return a contact sheet of one dataset under these names of its classes."""
    empty_dataset.yaml(f"classes: [{', '.join(names)}]\n")
    return contact_sheet(check_dataset(empty_dataset.root))


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("背景", "细胞", "裂缝"), ("背景", "裂缝", "细胞")),
        (("背景", "细胞", "b"), ("背景", "裂缝", "b")),
        (("배경", "세포", "b"), ("배경", "균열", "b")),
        (("фон", "клетка", "b"), ("фон", "стенка", "b")),
        (("Grund", "Tür", "b"), ("Grund", "Tor", "b")),
        (("bg", "😀", "b"), ("bg", "🚗", "b")),
        (("bg", "รถ", "b"), ("bg", "คน", "b")),
        (("bg", "कार", "b"), ("bg", "घरा", "b")),
        (("😀", "a", "b"), ("🚗", "a", "b")),
    ],
)
def test_names_in_any_script_tell_classes_apart(empty_dataset, names, others):
    empty_dataset.fill(3)
    one, another = drawn_names(empty_dataset, names), drawn_names(empty_dataset, others)
    assert not np.array_equal(one, another)


def test_a_name_without_glyphs_has_its_id_beside_its_escapes(empty_dataset):
    empty_dataset.fill(3).yaml("classes: [bg, รถ, b]\n")
    report = check_dataset(empty_dataset.root)
    sheet = contact_sheet(report)
    shares = [f"{report.pixels[i] / report.pixels.sum():.1%}" for i in range(3)]
    said = [f"bg {shares[0]}", f"class 1 (\\u0e23\\u0e16) {shares[1]}", f"b {shares[2]}"]
    expected = legend(report.info.classes, sheet.shape[1], said)
    assert np.array_equal(sheet[: len(expected)], expected)


class TestContactSheet:
    def test_has_each_image_beside_its_mask_under_a_legend(self, empty_dataset):
        report = check_dataset(empty_dataset.fill(5).root)
        sheet = contact_sheet(report)
        side = round((240 * 180) ** 0.5)
        top = legend(report.info.classes, sheet.shape[1]).shape[0] + CAPTION_PX
        tile = (side + CAPTION_PX, 2 * (side - 4) + 8)
        assert sheet.shape == (top + 2 * tile[0], 3 * tile[1], 3)
        assert sheet.dtype == np.uint8
        assert (sheet[-side:, -tile[1] :] == 255).all(), "five pictures leave the sixth place blank"
        image, mask = sheet[-side:, : side - 4], sheet[-side:, side - 4 : 2 * (side - 4)]
        for c in report.info.classes[1:]:
            assert has_color(mask, c.color[::-1]), "its outline"
            assert not has_color(image, c.color[::-1])

    def test_shows_every_class_however_rare_and_every_split(self, empty_dataset):
        empty_dataset.fill(40, "train").fill(3, "val", first_seed=100).fill(3, "test", first_seed=200)
        empty_dataset.yaml("classes: [background, red, blue, rare, rarer]\n")
        for stem, class_id in (("train7", 3), ("train31", 4)):
            _, ids = squares(0)
            ids[:3, :3] = class_id
            empty_dataset.mask(f"{stem}.png", png(ids), "train")
        report = check_dataset(empty_dataset.root)
        for count in (6, 24):
            chosen = choose_pairs(report, count)
            assert len(chosen) == count
            assert {"train7", "train31"} <= {pair.stem for _, pair in chosen}
            assert {split for split, _ in chosen} == {"train", "val", "test"}
        assert choose_pairs(report, 1)[0][1].stem == "train7"
        assert len(choose_pairs(report, 999)) == 46

    def test_spreads_over_a_split(self, empty_dataset):
        chosen = choose_pairs(check_dataset(empty_dataset.fill(60).root), 6)
        numbers = sorted(int(pair.stem) for _, pair in chosen)
        assert numbers[0] < 15
        assert numbers[-1] > 40

    @pytest.mark.parametrize("shapes", [[(32, 400)], [(400, 20)], [(32, 32), (17, 900), (700, 30), (300, 300)]])
    def test_holds_images_of_any_size(self, empty_dataset, shapes):
        for i, shape in enumerate(shapes):
            image_bgr, ids = squares(i, *shape)
            empty_dataset.image(f"{i}.png", png(image_bgr))
            empty_dataset.mask(f"{i}.png", png(ids))
        sheet = contact_sheet(check_dataset(empty_dataset.root))
        assert sheet.shape[0] < 2000
        assert sheet.shape[1] < 2000

    def test_hatches_what_counts_nowhere(self, empty_dataset):
        image_bgr, ids = squares(0, 64, 64)
        empty_dataset.image("a.png", png(image_bgr))
        empty_dataset.mask("a.png", png(ids))
        empty_dataset.yaml("classes: [background, red, blue]\nignore_id: 255\n")
        half = contact_sheet(check_dataset(empty_dataset.root)).shape[1] // 2
        assert not hatched(contact_sheet(check_dataset(empty_dataset.root))[60:, half:-10])
        ids[:20] = 255
        empty_dataset.mask("a.png", png(ids))
        assert hatched(contact_sheet(check_dataset(empty_dataset.root))[60:, half:-10])

    def test_leaves_out_what_cannot_be_used(self, dataset):
        dataset.image("a.png", b"")
        dataset.mask("a.png", png(squares(0)[1]))
        dataset.mask("0.png", b"")
        report = check_dataset(dataset.root)
        assert not report.ok
        assert {pair.stem for _, pair in choose_pairs(report, 9)} == {"1", "2"}

    def test_of_nothing_readable_is_refused(self, empty_dataset):
        empty_dataset.image("a.png", b"")
        empty_dataset.mask("a.png", b"")
        with pytest.raises(DataError, match="no pair that can be drawn"):
            contact_sheet(check_dataset(empty_dataset.root))


class TestLegend:
    @pytest.mark.parametrize("width_px", [60, 200, 640])
    def test_shows_the_colour_of_every_class_at_any_width(self, width_px):
        strip = legend(CLASSES, width_px)
        assert strip.shape[1:] == (width_px, 3)
        for c in CLASSES:
            assert has_color(strip, c.color[::-1]), c.name

    def test_says_what_it_is_told_of_each_class(self):
        said = legend(CLASSES, 640, ["a", "b", "c"])
        assert not np.array_equal(said, legend(CLASSES, 640))
        assert np.array_equal(said, legend(make_classes(["a", "b", "c"], [c.color for c in CLASSES]), 640))

    def test_breaks_into_lines_where_it_is_narrow(self):
        assert legend(CLASSES, 60).shape[0] > legend(CLASSES, 640).shape[0]


def test_a_caption_stands_above_the_image_and_survives_any_name():
    image_bgr = np.full((10, 80, 3), 9, np.uint8)
    found = captioned(image_bgr, "größe\n画")
    assert np.array_equal(found[-10:], image_bgr)
    assert (found[:-10] < 128).any(), "something is written"


@pytest.mark.parametrize("length", [1, 30, 400])
def test_a_caption_stays_within_the_picture(length):
    found = captioned(np.zeros((4, 120, 3), np.uint8), "W" * length, gap_px=8)
    assert found.shape[1] == 128
    assert (found[:, -10:][:-4] == 255).all()


def test_pictures_show_image_truth_prediction_and_errors_of_six_pairs_at_most(empty_dataset, tmp_path):
    report = check_dataset(empty_dataset.fill(9).root)
    write_pictures(
        tmp_path / "pictures",
        report.dataset.splits["train"],
        lambda pair: read_class_ids(pair, report.key),
        lambda image: image[..., 2] // 128,
        report.info.classes,
    )
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["0.png", "2.png", "3.png", "5.png", "6.png", "8.png"]
    picture = cv2.imread(str(paths[0]))
    assert picture.shape == (32 + CAPTION_PX, 4 * 32, 3)
    assert np.array_equal(picture[-32:, :32], squares(0)[0])
