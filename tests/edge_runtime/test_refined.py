import cv2
import numpy as np
import pytest
from colors import color_scene, color_truth

from edge_runtime.errors import InputError
from edge_runtime.segment.postprocess import class_ids_of, probabilities_of, probability_planes
from edge_runtime.segment.refined import RefinedSegmenter
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.segment.timing import StageTimes


class TestPlanes:
    @pytest.mark.parametrize("count", [1, 2, 3, 11])
    @pytest.mark.parametrize("spread", [1, 30, 1000])
    @pytest.mark.filterwarnings("error")
    def test_they_are_what_the_plain_formula_gives(self, count, spread):
        logits = np.random.default_rng(count).standard_normal((17, 23, count)).astype(np.float32) * np.float32(spread)
        kept = logits.copy()
        planes = probability_planes(logits, binary=count == 1)
        plain = probabilities_of(logits, binary=count == 1)
        assert planes.shape == (count, 17, 23) and planes.dtype == np.float32 and np.array_equal(logits, kept)
        assert np.allclose(planes.transpose(1, 2, 0), plain, atol=1e-6)
        ids = class_ids_of(planes, axis=0)
        expected = planes.argmax(0) if count > 1 else planes[0] > 0.5
        assert ids.dtype == np.uint8 and np.array_equal(ids, expected)

    def test_of_equal_classes_the_first_wins(self):
        assert not class_ids_of(np.full((3, 4, 5), 1 / 3, np.float32), axis=0).any()
        assert not class_ids_of(np.full((1, 4, 5), 0.5, np.float32), axis=0).any()

    @pytest.mark.parametrize("shape", [(7,), (5, 6), (2, 5, 6)])
    @pytest.mark.parametrize("count", [1, 2, 3, 11, 255])
    def test_class_ids_are_the_largest_score_along_any_axis(self, count, shape):
        # Few different values, so that many classes are equal.
        scores = np.random.default_rng(count).integers(-3, 4, (*shape, count)).astype(np.float32)
        expected = scores.argmax(-1) if count > 1 else scores[..., 0] > 0
        for axis in range(scores.ndim):
            found = class_ids_of(np.moveaxis(scores, -1, axis), axis=axis, threshold=0)
            assert found.dtype == np.uint8 and np.array_equal(found, expected)
        assert np.array_equal(class_ids_of(scores, threshold=0), expected)


@pytest.mark.parametrize("binary", [False, True])
class TestRefinedSegmenter:
    @pytest.mark.parametrize(
        "options", [{}, {"smooth": True}, {"soft_edges": True}, {"smooth": True, "soft_edges": True}]
    )
    def test_the_first_mask_is_that_of_the_segmenter(self, make_color_package, binary, options):
        segmenter = Segmenter.load(make_color_package(binary=binary))
        frame = color_scene()
        times = StageTimes()
        plain, refined = segmenter(frame), RefinedSegmenter(segmenter, **options)(frame, times)
        assert np.array_equal(refined.mask, plain.mask) and refined.classes == plain.classes
        assert (refined.alpha is not None) == options.get("soft_edges", False)
        assert list(times.stages_ms) == ["resize", "inference", "mask", "refine"]
        assert all(spent > 0 for spent in times.stages_ms.values())

    def test_alpha_is_the_opacity_of_all_that_is_not_background(self, make_color_package, binary):
        segmenter = Segmenter.load(make_color_package(height_px=64, width_px=64, binary=binary))
        frame = color_scene(200, 300)
        truth = color_truth(frame) > 0 if not binary else color_truth(frame) == 1
        # This model is never sure: its logits are within -0.5 and 0.5. Still, alpha ends up on the right side.
        alpha = RefinedSegmenter(segmenter, soft_edges=True)(frame).alpha
        kernel = np.ones((15, 15), np.uint8)
        inside, outside = cv2.erode(truth.astype(np.uint8), kernel) > 0, cv2.dilate(truth.astype(np.uint8), kernel) == 0
        assert alpha.shape == (200, 300) and alpha.dtype == np.uint8
        assert alpha[inside].min() > alpha[outside].max()

    def test_smoothing_holds_what_one_frame_gets_wrong(self, make_color_package, binary):
        segmenter = Segmenter.load(make_color_package(binary=binary))
        refined = RefinedSegmenter(segmenter, smooth=True)
        frame = color_scene()
        frame[20:28, 40:48] = 60
        # Just below and just above what the model takes for red, hardly to be seen: the plain mask flickers.
        low, high = frame.copy(), frame.copy()
        low[4:10, 30:40, 2], high[4:10, 30:40, 2] = 126, 129
        plain = {int(segmenter(x).mask[7, 35]) for x in (low, high)}
        held = {int(refined(x).mask[7, 35]) for x in (low, high, low, high)}
        assert plain == {0, 1} and held == {0}

    def test_reset_forgets(self, make_color_package, binary):
        segmenter = Segmenter.load(make_color_package(binary=binary))
        refined = RefinedSegmenter(segmenter, smooth=True)
        low, high = color_scene(), color_scene()
        low[4:10, 30:40, 2], high[4:10, 30:40, 2] = 126, 129
        refined(low)
        assert refined(high).mask[7, 35] == 0
        refined.reset()
        assert refined(high).mask[7, 35] == 1

    def test_a_new_frame_size_is_a_new_stream(self, make_color_package, binary):
        refined = RefinedSegmenter(Segmenter.load(make_color_package(binary=binary)), smooth=True, soft_edges=True)
        low, high = np.full((48, 64, 3), 60, np.uint8), np.full((96, 64, 3), 60, np.uint8)
        low[8:20, 8:20, 2], high[16:40, 8:20, 2] = 126, 129  # the same to the model, but for a hair
        refined(low)
        result = refined(high)
        assert result.mask.shape == result.alpha.shape == (96, 64) and result.mask[28, 14] == 1

    def test_results_belong_to_the_caller(self, make_color_package, binary):
        refined = RefinedSegmenter(Segmenter.load(make_color_package(binary=binary)), smooth=True, soft_edges=True)
        # At the model's own size nothing is resized on the way out.
        frame = color_scene(24, 32)
        first = refined(frame)
        kept = first.mask.copy(), first.alpha.copy()
        refined(255 - frame)
        assert np.array_equal(first.mask, kept[0]) and np.array_equal(first.alpha, kept[1])

    def test_what_the_caller_does_to_a_mask_is_not_remembered(self, make_color_package, binary):
        refined = RefinedSegmenter(Segmenter.load(make_color_package(binary=binary)), smooth=True)
        low, high = np.full((24, 32, 3), 60, np.uint8), np.full((24, 32, 3), 60, np.uint8)
        low[4:10, 4:10, 2], high[4:10, 4:10, 2] = 126, 129
        refined(low).mask[:] = 1
        assert not refined(high).mask.any()

    @pytest.mark.parametrize("shape", [(48, 64), (48, 64, 1), (48, 64, 4)])
    def test_grey_and_bgra_frames(self, make_color_package, binary, shape):
        segmenter = Segmenter.load(make_color_package(binary=binary))
        frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        result = RefinedSegmenter(segmenter, smooth=True, soft_edges=True)(frame)
        assert np.array_equal(result.mask, segmenter(frame).mask) and result.alpha.shape == (48, 64)

    def test_what_is_no_frame_is_refused(self, make_color_package, binary):
        refined = RefinedSegmenter(Segmenter.load(make_color_package(binary=binary)))
        with pytest.raises(InputError, match="dtype is float64"):
            refined(np.zeros((48, 64, 3)))
