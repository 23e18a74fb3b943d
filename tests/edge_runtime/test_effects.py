from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from colors import COLOR_CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.effects import MARK_BGR, Overlay, color_mask, cover, marked_pixels, overlay_of_mask, parse_effect
from edge_runtime.errors import InputError, UsageError
from edge_runtime.model.contract import ClassInfo
from edge_runtime.segment.segmentation import Segmentation

RED_BGR, BLUE_BGR = (0, 0, 255), (255, 0, 0)


EVERY_EFFECT = ("overlay", "mask", "blur", "replace=#204060", "cutout")


def segmentation(mask, classes=COLOR_CLASSES, alpha=None):
    return Segmentation(mask=mask, classes=classes, alpha=alpha)


def soft(result, sigma=3.0):
    """The same with an alpha: its mask, softened."""
    alpha = cv2.GaussianBlur((result.mask > 0).astype(np.uint8) * 255, (0, 0), sigma)
    return segmentation(result.mask, result.classes, alpha)


def write_video(path, levels, size=(48, 64)):
    """A lossless video of plain grey frames."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 20.0, size[::-1])
    assert writer.isOpened()
    for level in levels:
        writer.write(np.full((*size, 3), level, np.uint8))
    writer.release()
    return path


@pytest.fixture
def scene():
    """A textured frame, and a mask with a red square on the left and a blue one that touches it."""
    image = np.random.default_rng(7).integers(60, 200, (120, 160, 3), np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    mask[30:90, 20:70] = 1
    mask[30:90, 70:120] = 2
    return image, segmentation(mask)


@pytest.mark.parametrize("edges", [lambda result: result, soft])
@pytest.mark.parametrize("name", EVERY_EFFECT)
class TestEveryEffect:
    def test_the_frame_and_the_result_stay_as_they_are(self, scene, name, edges):
        image, result = scene[0], edges(scene[1])
        before = image.copy(), result.mask.copy(), None if result.alpha is None else result.alpha.copy()
        picture = parse_effect(name)(image, result)
        assert picture.shape == (*image.shape[:2], 4 if name == "cutout" else 3) and picture.dtype == np.uint8
        assert np.array_equal(image, before[0]) and np.array_equal(result.mask, before[1])
        assert result.alpha is None or np.array_equal(result.alpha, before[2])

    def test_a_picture_belongs_to_the_caller(self, scene, name, edges):
        image, result = scene[0], edges(scene[1])
        effect = parse_effect(name)
        first = effect(image, result)
        kept = first.copy()
        second = effect(255 - image, edges(segmentation(np.roll(result.mask, 30, 1))))
        assert np.array_equal(first, kept) and not np.array_equal(first, second)
        assert not np.shares_memory(first, second) and not np.shares_memory(first, image)
        first[:] = 0  # writable, and nobody else's

    def test_any_strides_and_read_only_frames(self, scene, name, edges):
        image, result = scene[0], edges(scene[1])
        effect = parse_effect(name)
        wide = np.repeat(image, 2, axis=1)[:, ::2]
        flipped = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
        locked = image.copy()
        locked.flags.writeable = False
        for other in (wide, flipped, locked):
            assert np.array_equal(effect(other, result), effect(image, result))

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 5), (48, 64)])
    def test_tiny_frames_of_one_class(self, name, edges, size):
        for class_id in (0, 1):
            result = edges(segmentation(np.full(size, class_id, np.uint8)))
            assert parse_effect(name)(np.full((*size, 3), 77, np.uint8), result).shape[:2] == size

    def test_threads_do_not_disturb_each_other(self, name, edges):
        effect = parse_effect(name)
        random = np.random.default_rng(3)
        jobs = []
        for size in ((90, 120), (60, 200), (120, 90)) * 8:
            mask = cv2.resize(random.integers(0, 3, (4, 5), np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
            jobs.append((random.integers(0, 255, (*size, 3), np.uint8), edges(segmentation(mask))))
        alone = [effect(*job) for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda job: effect(*job), jobs))
        assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


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

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]))
    def test_it_is_what_a_plain_formula_gives(self, height, width, seed, opacity):
        random = np.random.default_rng(seed)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        mask = np.zeros((height, width), np.uint8)
        for class_id in (1, 2):
            top, left = random.integers(0, height), random.integers(0, width)
            mask[top : top + random.integers(1, 20), left : left + random.integers(1, 20)] = class_id
        colors = np.array([c.color[::-1] for c in COLOR_CLASSES], np.uint8)[mask]
        neighbours = np.pad(mask, 1, mode="edge")
        around = np.stack([neighbours[y : y + height, x : x + width] for y in range(3) for x in range(3)])
        rim = (around != mask).any(0) & (mask > 0)
        expected = np.where((mask > 0)[..., None], (1 - opacity) * image + opacity * colors, image)
        expected = np.where(rim[..., None], colors, expected)
        picture = Overlay(opacity)(image, segmentation(mask))
        assert np.abs(picture - expected).max() <= 0.51

    def test_soft_edges_fade(self, scene):
        image, result = scene
        image[:] = 100
        result = soft(result, sigma=1.2)
        picture = Overlay(opacity=0.6)(image, result)
        assert np.array_equal(picture[result.alpha == 0], image[result.alpha == 0])
        row, expected = picture[60].astype(int), 100 + result.alpha[60, :, None] / 255 * 0.6 * (np.array(RED_BGR) - 100)
        outside = slice(0, 19)  # left of the contour, which is at 20
        assert np.abs(row[outside] - expected[outside]).max() <= 1
        assert 0 < result.alpha[60, 18] < 128 and (row[18] != 100).any()

    def test_contours_run_along_soft_edges(self, scene):
        image, result = scene
        # The opacity ends three pixels outside the mask: there is the contour then.
        alpha = np.zeros_like(result.mask)
        alpha[27:93, 17:123] = 255
        picture = Overlay()(image, segmentation(result.mask, alpha=alpha))
        assert tuple(picture[60, 17]) == RED_BGR and tuple(picture[60, 20]) != RED_BGR
        assert tuple(picture[60, 69]) == RED_BGR and tuple(picture[60, 70]) == BLUE_BGR  # between classes as ever

    @pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
    def test_opacity_out_of_range(self, opacity):
        with pytest.raises(UsageError, match=r"opacity is .* expected 0"):
            parse_effect("overlay", opacity=opacity)

    def test_opacity_is_passed_on(self, scene):
        image, result = scene
        assert np.array_equal(parse_effect("overlay", opacity=0.9)(image, result), Overlay(0.9)(image, result))

    def test_a_frame_of_nothing_but_background_stays_as_it_is(self, scene):
        image, _ = scene
        assert np.array_equal(Overlay()(image, segmentation(np.zeros((120, 160), np.uint8))), image)


class TestLegend:
    @staticmethod
    def plate_of(image, result):
        """Rows and columns of the picture that the legend changed, as a slice of it."""
        drawn, plain = Overlay(legend=True)(image, result), Overlay()(image, result)
        rows, columns = np.nonzero((drawn != plain).any(-1))
        return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] if len(rows) else None

    def test_it_names_the_classes_that_are_there(self):
        image, mask = np.full((480, 640, 3), 90, np.uint8), np.zeros((480, 640), np.uint8)
        assert self.plate_of(image, segmentation(mask)) is None
        mask[300:400, 300:400] = 1
        one = self.plate_of(image, segmentation(mask))
        assert self.has(one, RED_BGR) and not self.has(one, BLUE_BGR)
        mask[300:400, 400:500] = 2
        two = self.plate_of(image, segmentation(mask))
        assert self.has(two, RED_BGR) and self.has(two, BLUE_BGR) and two.shape[0] > 1.4 * one.shape[0]

    @staticmethod
    def has(plate, color_bgr):
        return (np.abs(plate - 0.8 * np.array(color_bgr)).max(-1) < 60).sum() > 20

    def test_single_pixels_are_not_named(self):
        image, mask = np.full((480, 640, 3), 90, np.uint8), np.zeros((480, 640), np.uint8)
        mask[300:303, 300:303] = 1
        assert self.plate_of(image, segmentation(mask)) is None

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_it_can_be_read_on_any_background(self, level):
        mask = np.zeros((480, 640), np.uint8)
        mask[300:400, 300:400] = 1
        plate = self.plate_of(np.full((480, 640, 3), level, np.uint8), segmentation(mask))
        assert np.percentile(plate.max(-1), 99) - np.median(plate.max(-1)) > 120

    def test_it_grows_with_the_picture(self):
        sizes = []
        for scale in (1, 2):
            mask = np.zeros((480 * scale, 640 * scale), np.uint8)
            mask[: 100 * scale, -100 * scale :] = 1
            sizes.append(self.plate_of(np.full((*mask.shape, 3), 90, np.uint8), segmentation(mask)).shape[:2])
        assert np.allclose(np.array(sizes[1]) / sizes[0], 2, rtol=0.1)

    @pytest.mark.parametrize("size", [(64, 64), (70, 900), (480, 90)])
    def test_it_stays_within_the_picture_whatever_it_has_to_say(self, size):
        classes = tuple(ClassInfo(id=i, name=f"a class called {i}", color=(i, 99, 255 - i)) for i in range(254))
        mask = (np.arange(size[0] * size[1]) % 254).astype(np.uint8).reshape(size)
        image = np.full((*size, 3), 90, np.uint8)
        drawn = Overlay(legend=True)(image, segmentation(mask, classes))
        assert drawn.shape == image.shape
        assert np.array_equal(drawn[-1], Overlay()(image, segmentation(mask, classes))[-1])

    @pytest.mark.parametrize(
        ("name", "as_name"),
        [
            ("ไทย", "class 1"),
            ("हिन्दी", "class 1"),
            ("😀", "class 1"),
            ("a🚗", "class 1"),
            ("a\nb", "class 1"),
            ("\udce9", "class 1"),
        ],
    )
    def test_a_name_without_glyphs_is_the_id(self, name, as_name):
        assert np.array_equal(self.plate_named(name), self.plate_named(as_name))

    @pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV 4 writes ASCII alone")
    @pytest.mark.parametrize("name", ["细胞", "клетка", "Größe", "세포", "a b"])
    def test_a_name_with_glyphs_is_written(self, name):
        plate = self.plate_named(name)
        for other in ("class 1", "?" * len(name)):
            unlike = self.plate_named(other)
            assert plate.shape != unlike.shape or not np.array_equal(plate, unlike)

    def plate_named(self, name):
        mask = np.zeros((480, 640), np.uint8)
        mask[:100, :100] = 1
        classes = (ClassInfo(id=0, name="bg", color=(0, 0, 0)), ClassInfo(id=1, name=name, color=(250, 0, 0)))
        image = np.full((480, 640, 3), 90, np.uint8)
        drawn, plain = (Overlay(legend=x)(image, segmentation(mask, classes)) for x in (True, False))
        rows, columns = np.nonzero((drawn != plain).any(-1))
        return drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]

    def test_a_picture_too_small_to_read_is_left_alone(self):
        image, result = np.full((60, 60, 3), 90, np.uint8), segmentation(np.ones((60, 60), np.uint8))
        assert self.plate_of(image, result) is None


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

    @pytest.mark.parametrize("class_id", [0, 1])
    def test_an_even_frame_stays_even(self, class_id):
        image = np.full((48, 64, 3), 77, np.uint8)
        picture = parse_effect("blur")(image, segmentation(np.full((48, 64), class_id, np.uint8)))
        assert np.abs(picture.astype(int) - 77).max() <= 1

    def test_soft_edges_are_mixed(self, scene):
        image, result = scene
        image[:], image[result.mask > 0] = 40, 200
        result = soft(result)
        picture = parse_effect("blur")(image, result)
        solid = result.alpha == 255
        assert np.array_equal(picture[solid], image[solid])
        halfway = np.abs(result.alpha.astype(int) - 128) < 20
        assert halfway.any() and np.abs(picture[halfway & (result.mask > 0)].astype(int) - 120).max() < 30


class TestReplace:
    @pytest.mark.parametrize(
        ("value", "rgb"), [("#102030", (16, 32, 48)), ("white", (255, 255, 255)), ("Green", (0, 255, 0))]
    )
    def test_by_a_color(self, scene, value, rgb):
        image, result = scene
        picture = parse_effect(f"replace={value}")(image, result)
        assert (picture[:20] == rgb[::-1]).all()
        assert np.array_equal(picture[50:70, 40:100], image[50:70, 40:100])

    def test_soft_edges_are_mixed(self, scene):
        image, result = scene
        result = soft(result)
        picture = parse_effect("replace=white")(image, result)
        weight = result.alpha[..., None] / 255
        assert np.abs(picture - (image * weight + 255 * (1 - weight))).max() <= 1.01

    def test_by_a_video_one_frame_a_call_and_round_again(self, scene, tmp_path):
        image, result = scene
        effect = parse_effect(f"replace={write_video(tmp_path / 'clip.mkv', (10, 90, 200))}")
        levels = [int(effect(image, result)[5, 5, 0]) for _ in range(7)]
        assert np.abs(np.array(levels) - (10, 90, 200, 10, 90, 200, 10)).max() <= 2

    def test_threads_share_the_frames_of_a_video(self, scene, tmp_path):
        image, result = scene
        effect = parse_effect(f"replace={write_video(tmp_path / 'clip.mkv', range(10, 210, 10))}")
        with ThreadPoolExecutor(4) as pool:
            levels = list(pool.map(lambda _: int(effect(image, result)[5, 5, 0]), range(20)))
        assert np.abs(np.sort(levels) - np.arange(10, 210, 10)).max() <= 2

    def test_a_video_that_is_none(self, tmp_path):
        (tmp_path / "clip.mp4").write_bytes(b"no video at all" * 100)
        with pytest.raises(InputError, match=r"clip\.mp4 — cannot be opened as a video"):
            parse_effect(f"replace={tmp_path / 'clip.mp4'}")
        with pytest.raises(InputError, match=r"cannot read .*gone\.mp4 — no such file"):
            parse_effect(f"replace={tmp_path / 'gone.mp4'}")

    def test_a_video_that_goes_away(self, scene, tmp_path):
        path = write_video(tmp_path / "clip.mkv", (10, 90))
        effect = parse_effect(f"replace={path}")
        path.unlink()
        with pytest.raises(InputError, match=r"clip\.mkv"):
            for _ in range(3):
                effect(*scene)

    def test_a_file_may_be_called_like_a_color(self, scene, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_video(tmp_path / "white.mkv", (30,)).rename("white")
        assert (parse_effect("replace=white")(*scene)[:20] == 255).all()
        assert np.abs(parse_effect("replace=./white")(*scene)[:20].astype(int) - 30).max() <= 2

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


class TestCutout:
    def test_alpha_is_the_mask(self, scene):
        image, result = scene
        picture = parse_effect("cutout")(image, result)
        assert np.array_equal(picture[..., :3], image)
        assert np.array_equal(picture[..., 3], np.where(result.mask > 0, 255, 0))

    def test_alpha_is_the_soft_one_where_there_is_one(self, scene):
        result = soft(scene[1])
        assert np.array_equal(parse_effect("cutout")(scene[0], result)[..., 3], result.alpha)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("oberlay", "did you mean 'overlay'?"),
        ("Blur", "did you mean 'blur'?"),
        ("replase=x.png", "did you mean 'replace'?"),
        ("xyz", "no such effect — expected overlay, mask, blur, replace=IMAGE|VIDEO|COLOR, cutout"),
        ("cutuot", "did you mean 'cutout'?"),
        ("replace=#12", "expected #rrggbb"),
        ("replace=#12345g", "expected #rrggbb"),
        ("replace=whit", "no such file or color — expected an image, a video, #rrggbb or black"),
        ("replace=whit", "did you mean 'white'?"),
        ("", "no such effect"),
        ("replace", "by what — expected an image, a video or a color"),
        ("replace=", "by what"),
        ("blur=3", "'blur' takes no value"),
    ],
)
def test_unknown_effects(text, message):
    with pytest.raises(UsageError) as caught:
        parse_effect(text)
    assert message in str(caught.value) and str(caught.value).startswith("--effect")


def test_a_mask_that_no_segmenter_gave_is_painted_as_any(scene):
    image, result = scene
    before = image.copy()
    found = overlay_of_mask(image, result.mask, result.classes)
    assert np.array_equal(found, Overlay()(image, result))
    assert (found[result.mask == 1] != image[result.mask == 1]).any()
    assert np.array_equal(found[result.mask == 0], image[result.mask == 0])
    assert np.array_equal(image, before)


def test_marked_pixels_are_red_on_the_darkened_image(scene):
    image, result = scene
    before = image.copy()
    found = marked_pixels(image, result.mask == 2)
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert (found[result.mask == 2] == MARK_BGR).all()
    assert np.array_equal(found[result.mask != 2], image[result.mask != 2] // 3)
    assert np.array_equal(image, before)
