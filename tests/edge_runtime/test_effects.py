import cv2
import numpy as np
import pytest
from colors import COLOR_CLASSES

from edge_runtime.contract import ClassInfo
from edge_runtime.effects import Overlay, color_mask, cover, parse_effect
from edge_runtime.errors import InputError, UsageError
from edge_runtime.segmenter import Segmentation

RED_BGR, BLUE_BGR = (0, 0, 255), (255, 0, 0)


def segmentation(mask, classes=COLOR_CLASSES):
    return Segmentation(mask=mask, classes=classes, latency_ms=1.0)


@pytest.fixture
def scene():
    """A textured frame, and a mask with a red square on the left and a blue one that touches it."""
    image = np.random.default_rng(7).integers(60, 200, (120, 160, 3), np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    mask[30:90, 20:70] = 1
    mask[30:90, 70:120] = 2
    return image, segmentation(mask)


def test_no_effect_changes_the_frame(scene, tmp_path):
    image, result = scene
    (tmp_path / "b.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    before = image.copy()
    for name in ("overlay", "mask", "blur", f"replace={tmp_path / 'b.png'}"):
        picture = parse_effect(name)(image, result)
        assert picture.shape == image.shape and picture.dtype == np.uint8
        assert np.array_equal(image, before)


class TestOverlay:
    def test_background_is_untouched_and_classes_are_mixed_with_their_color(self, scene):
        image, result = scene
        picture = Overlay(opacity=0.5)(image, result)
        assert np.array_equal(picture[result.mask == 0], image[result.mask == 0])
        for column, color in ((45, RED_BGR), (95, BLUE_BGR)):
            expected = 0.5 * image[60, column] + 0.5 * np.array(color)
            assert np.abs(picture[60, column] - expected).max() <= 1

    def test_contours_have_the_full_color_also_between_classes(self, scene):
        image, result = scene
        picture = Overlay()(image, result)
        assert tuple(picture[60, 20]) == RED_BGR  # against the background
        assert tuple(picture[60, 69]) == RED_BGR and tuple(picture[60, 70]) == BLUE_BGR  # against each other

    def test_contours_of_ids_that_share_no_bit(self):
        # A contour found by "and" of ids would miss 1 beside 2, or 2 beside 4.
        classes = tuple(ClassInfo(id=i, name=str(i), color=(10 * i, 20 * i, 30 * i)) for i in range(6))
        mask = np.repeat(np.array([[1, 2, 4, 0, 5, 3]], np.uint8), 20, axis=1).repeat(60, axis=0)
        picture = Overlay()(np.full((60, 120, 3), 128, np.uint8), segmentation(mask, classes))
        for left, right in ((19, 20), (39, 40), (99, 100)):
            for column in (left, right):
                assert tuple(picture[30, column]) == classes[mask[30, column]].color[::-1]

    def test_a_frame_of_nothing_but_background_stays_as_it_is(self, scene):
        image, _ = scene
        assert np.array_equal(Overlay()(image, segmentation(np.zeros((120, 160), np.uint8))), image)


def test_mask_is_drawn_in_the_colors_of_the_classes(scene):
    image, result = scene
    picture = color_mask(image, result)
    for info in COLOR_CLASSES:
        assert (picture[result.mask == info.id] == info.color[::-1]).all()


class TestBlur:
    def test_foreground_is_sharp_and_background_is_smooth(self, scene):
        image, result = scene
        picture = parse_effect("blur")(image, result)
        inside = np.zeros(result.mask.shape, bool)
        inside[40:80, 30:110] = True
        assert np.array_equal(picture[inside], image[inside])
        assert picture[:20].std() < 0.3 * image[:20].std()

    def test_colors_of_the_foreground_do_not_leak_out(self):
        image = np.full((120, 160, 3), 40, np.uint8)
        mask = np.zeros((120, 160), np.uint8)
        mask[40:80, 60:100] = 1
        image[mask == 1] = (0, 0, 250)
        picture = parse_effect("blur")(image, segmentation(mask))
        far = cv2.dilate(mask, np.ones((7, 7), np.uint8)) == 0
        assert np.abs(picture[far].astype(int) - 40).max() <= 8

    @pytest.mark.parametrize("id_", [0, 1])
    @pytest.mark.parametrize("size", [(1, 1), (3, 5), (48, 64)])
    def test_frames_of_one_class_and_tiny_frames(self, id_, size):
        image = np.full((*size, 3), 77, np.uint8)
        picture = parse_effect("blur")(image, segmentation(np.full(size, id_, np.uint8)))
        assert np.abs(picture.astype(int) - 77).max() <= 1


class TestReplace:
    def test_background_is_replaced_and_foreground_stays(self, scene, tmp_path):
        image, result = scene
        (tmp_path / "Strand ü.png").write_bytes(cv2.imencode(".png", np.full((10, 10, 3), 250, np.uint8))[1].tobytes())
        picture = parse_effect(f"replace={tmp_path / 'Strand ü.png'}")(image, result)
        assert np.array_equal(picture[50:70, 40:100], image[50:70, 40:100])
        assert (picture[:20] >= 249).all()

    def test_frames_of_changing_size(self, scene, tmp_path):
        (tmp_path / "b.png").write_bytes(cv2.imencode(".png", np.full((9, 9, 3), 5, np.uint8))[1].tobytes())
        effect = parse_effect(f"replace={tmp_path / 'b.png'}")
        for size in ((20, 30), (30, 20), (20, 30)):
            assert effect(np.full((*size, 3), 9, np.uint8), segmentation(np.zeros(size, np.uint8))).shape == (*size, 3)

    @pytest.mark.parametrize("size", [(50, 50), (50, 200), (200, 50), (1, 1), (33, 77)])
    def test_cover_keeps_the_aspect_ratio_and_the_centre(self, size):
        image = np.zeros((100, 100, 3), np.uint8)
        cv2.circle(image, (50, 50), 10, (255, 255, 255), -1)
        fitted = cover(image, *size)
        assert fitted.shape == (*size, 3)
        if min(size) > 20:
            rows, columns = np.nonzero(fitted[:, :, 0] > 127)
            scale = max(size) / 100
            assert abs(rows.mean() - (size[0] - 1) / 2) <= 1 and abs(columns.mean() - (size[1] - 1) / 2) <= 1
            assert abs(np.ptp(columns) - np.ptp(rows)) <= 2 and abs(np.ptp(columns) - 20 * scale) <= 2

    def test_image_that_is_not_there(self):
        with pytest.raises(InputError, match=r"cannot read nothing\.png"):
            parse_effect("replace=nothing.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("oberlay", "did you mean 'overlay'?"),
        ("Blur", "did you mean 'blur'?"),
        ("replase=x.png", "did you mean 'replace'?"),
        ("xyz", "no such effect — expected overlay, mask, blur, replace=IMAGE"),
        ("", "no such effect"),
        ("replace", "no image — expected replace=IMAGE"),
        ("replace=", "no image"),
        ("blur=3", "'blur' takes no value"),
    ],
)
def test_unknown_effects(text, message):
    with pytest.raises(UsageError) as caught:
        parse_effect(text)
    assert message in str(caught.value) and str(caught.value).startswith("--effect")
