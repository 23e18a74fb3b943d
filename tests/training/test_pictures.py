import cv2
import numpy as np
import pytest
from datasets import palette_png, png, squares

from training.check import check_dataset
from training.dataset import make_classes
from training.errors import DataError
from training.pictures import captioned, contact_sheet, legend, painted, write_pictures

CLASSES = make_classes(["background", "red", "blue"], [[0, 0, 0], [255, 0, 0], [0, 0, 255]])
CAPTION_PX = captioned(np.zeros((1, 64, 3), np.uint8), "").shape[0] - 1


def has_color(image_bgr, color_bgr):
    return bool((image_bgr == np.array(color_bgr, np.uint8)).all(axis=-1).any())


class TestContactSheet:
    def test_is_a_grid_of_captioned_pictures_under_a_legend(self, empty_dataset):
        report = check_dataset(empty_dataset.fill(5).root)
        sheet = contact_sheet(report, tile_width_px=96)
        legend_px = legend(report.info.classes, 3 * 96).shape[0]
        assert sheet.shape == (legend_px + 2 * (96 + CAPTION_PX), 3 * 96, 3)
        assert sheet.dtype == np.uint8
        last_tile = sheet[-96:, -96:]
        assert (last_tile == 255).all(), "five pictures leave the sixth place blank"
        assert not (sheet[-96:, :96] == 255).all()

    def test_draws_the_masks_over_the_images(self, dataset):
        dataset.yaml("classes: [background, red, blue]\ncolors: [[0, 0, 0], [0, 255, 0], [255, 0, 255]]\n")
        sheet = contact_sheet(check_dataset(dataset.root), tile_width_px=32)
        image_bgr, ids = squares(2)
        assert np.array_equal(sheet[-32:, :32], painted(image_bgr, ids, check_dataset(dataset.root).info.classes))

    def test_takes_the_height_of_a_picture_from_the_first_image(self, empty_dataset):
        image_bgr, ids = squares(0, 32, 64)
        empty_dataset.image("a.png", png(image_bgr))
        empty_dataset.mask("a.png", palette_png(ids))
        report = check_dataset(empty_dataset.root)
        sheet = contact_sheet(report, tile_width_px=200)
        assert sheet.shape == (legend(report.info.classes, 200).shape[0] + 100 + CAPTION_PX, 200, 3)

    def test_has_no_more_pictures_than_it_was_told(self, empty_dataset):
        report = check_dataset(empty_dataset.fill(7).root)
        sheet = contact_sheet(report, rows=2, columns=2, tile_width_px=64)
        assert sheet.shape[1] == 2 * 64
        assert sheet.shape[0] == legend(report.info.classes, 128).shape[0] + 2 * (64 + CAPTION_PX)

    def test_leaves_out_what_cannot_be_read(self, dataset):
        dataset.image("a.png", b"")
        dataset.mask("a.png", png(squares(0)[1]))
        dataset.mask("0.png", b"")
        report = check_dataset(dataset.root)
        assert not report.ok
        assert contact_sheet(report, tile_width_px=64).shape[1] == 2 * 64

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

    def test_breaks_into_lines_where_it_is_narrow(self):
        assert legend(CLASSES, 60).shape[0] > legend(CLASSES, 640).shape[0]


def test_a_caption_stands_above_the_image_and_survives_any_name():
    image_bgr = np.full((10, 80, 3), 9, np.uint8)
    found = captioned(image_bgr, "größe\n画")
    assert np.array_equal(found[-10:], image_bgr)
    assert (found[:-10] < 128).any(), "something is written"


def test_painting_changes_the_pixels_of_classes_only():
    image_bgr, ids = squares(3)
    found = painted(image_bgr, ids, CLASSES)
    assert found.shape == image_bgr.shape
    assert (found[ids == 1] != image_bgr[ids == 1]).any()
    assert np.array_equal(found, painted(image_bgr, ids, CLASSES))


def test_pictures_show_image_truth_and_prediction_of_six_pairs_at_most(empty_dataset, tmp_path):
    report = check_dataset(empty_dataset.fill(9).root)
    write_pictures(tmp_path / "pictures", report.dataset.splits["train"], lambda image: image[..., 2] // 128, report)
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["0.png", "2.png", "3.png", "5.png", "6.png", "8.png"]
    picture = cv2.imread(str(paths[0]))
    assert picture.shape == (32 + CAPTION_PX, 3 * 32, 3)
    assert np.array_equal(picture[-32:, :32], squares(0)[0])
