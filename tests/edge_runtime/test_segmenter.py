import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from colors import color_contract, color_scene, color_truth, write_color_package
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edge_runtime import InputError, Segmenter, SessionOptions, UsageError
from edge_runtime.model.session import MAX_THREADS
from edge_runtime.resources import usable_cores
from edge_runtime.segment.postprocess import probabilities_of
from edge_runtime.segment.preprocess import resize_mask
from edge_runtime.segment.refined import RefinedSegmenter
from edge_runtime.segment.tiled import TiledSegmenter
from edge_runtime.segment.timing import StageTimes


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Segmenter.load(write_color_package(tmp_path_factory.mktemp("model") / "colors", color_contract()))


@pytest.fixture(scope="module")
def binary_segmenter(tmp_path_factory):
    contract = color_contract(binary=True)
    return Segmenter.load(write_color_package(tmp_path_factory.mktemp("model") / "red", contract))


def test_mask_has_frame_size_and_right_classes(color_package):
    frame = color_scene(96, 128)
    result = Segmenter.load(color_package)(frame)
    assert result.mask.shape == (96, 128)
    assert (result.mask == color_truth(frame)).mean() > 0.95


def test_at_the_models_size_the_mask_is_exact(segmenter):
    frame = color_scene(24, 32)
    assert np.array_equal(segmenter(frame).mask, color_truth(frame))


frames = st.one_of(
    npst.array_shapes(min_dims=2, max_dims=2, max_side=70),
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 4])),
).flatmap(lambda shape: npst.arrays(np.uint8, shape))


@given(frame=frames)
@settings(max_examples=80, deadline=None)
def test_any_frame_gives_a_mask_of_its_size_in_known_ids(segmenter, frame):
    result = segmenter(frame)
    assert result.mask.shape == frame.shape[:2]
    assert result.mask.dtype == np.uint8
    assert result.mask.max() < 3
    assert sum(result.fractions().values()) == pytest.approx(1.0)


def test_frame_sizes_may_change_from_call_to_call(segmenter):
    for size in [(48, 64), (480, 640), (1, 1), (1, 500), (500, 1), (48, 64)]:
        assert segmenter(np.zeros((*size, 3), np.uint8)).mask.shape == size


def test_eight_threads_get_the_same_answers(segmenter):
    rng = np.random.default_rng(3)
    many = [rng.integers(0, 256, (48 + i, 64 + i, 3), dtype=np.uint8) for i in range(8)]
    alone = [segmenter(frame).mask for frame in many]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: segmenter(many[i % 8]).mask, range(400)))
    assert all(np.array_equal(mask, alone[i % 8]) for i, mask in enumerate(together))


@pytest.mark.parametrize(
    "view", [lambda f: f[:, ::-1], lambda f: f[::-1, :, ::-1], lambda f: f[::2, 1::2], lambda f: f.transpose(1, 0, 2)]
)
@pytest.mark.parametrize("size", [(48, 64), (24, 32)])
def test_strides_and_read_only_memory_give_the_identical_mask(segmenter, view, size):
    frame = view(np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8))
    frame.flags.writeable = False
    assert np.array_equal(segmenter(frame).mask, segmenter(frame.copy("C")).mask)


def test_changing_the_frame_after_the_call_does_not_change_the_result(segmenter):
    frame = color_scene(24, 32)
    result = segmenter(frame)
    frame[:] = 0
    assert np.array_equal(result.mask, color_truth(color_scene(24, 32)))


@pytest.mark.parametrize("size", [(24, 32), (48, 64)])
def test_results_share_no_memory_with_the_frame_or_with_each_other(segmenter, size):
    frame = color_scene(*size)
    first, logits = segmenter(frame).mask, segmenter.logits(frame)
    kept = first.copy(), logits.copy()
    other = 255 - frame
    second, more = segmenter(other).mask, segmenter.logits(other)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, kept[0])
    assert np.array_equal(logits, kept[1])
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(logits, more)
    assert not np.shares_memory(first, frame)
    first[:] = 9  # the caller's own, to write on
    assert np.array_equal(segmenter(frame).mask, kept[0])


@pytest.mark.parametrize("size", [(24, 32), (48, 64)])
def test_what_runs_is_not_the_callers_memory(segmenter, size):
    """So that a camera that writes its next picture into the same memory meanwhile changes nothing."""
    frame = color_scene(*size)
    assert not np.shares_memory(segmenter._input(frame), frame)


def test_a_grey_frame_is_taken_as_equal_channels(segmenter):
    grey = np.full((30, 40), 200, np.uint8)
    expected = segmenter(np.dstack([grey] * 3)).mask
    assert np.array_equal(segmenter(grey).mask, expected)
    assert np.array_equal(segmenter(grey[:, :, np.newaxis]).mask, expected)


def test_alpha_is_dropped(segmenter):
    frame = color_scene()
    bgra = np.dstack([frame, np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)])
    assert np.array_equal(segmenter(bgra).mask, segmenter(frame).mask)


def test_a_wrong_frame_is_refused(segmenter):
    with pytest.raises(InputError, match="frame — dtype is float64 — expected uint8"):
        segmenter(np.zeros((4, 4, 3)))


def test_a_binary_model_separates_one_class(binary_segmenter):
    frame = color_scene(24, 32)
    result = binary_segmenter(frame)
    assert np.array_equal(result.mask, color_truth(frame) == 1)
    assert binary_segmenter.probabilities(frame).shape == (24, 32, 1)
    assert np.array_equal(binary_segmenter.probabilities(frame)[:, :, 0] > 0.5, result.mask == 1)


def test_probabilities_sum_to_one_and_agree_with_the_mask(segmenter):
    frame = color_scene(24, 32)
    probabilities = segmenter.probabilities(frame)
    assert probabilities.shape == (24, 32, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, rtol=0, atol=1e-6)
    assert np.array_equal(probabilities.argmax(-1), segmenter(frame).mask)


@pytest.mark.parametrize("binary", [True, False])
def test_probabilities_of_extreme_logits_are_finite(binary):
    logits = np.array([[1e30, -1e30], [-1e4, 1e4], [0, 0]], np.float32)
    result = probabilities_of(logits, binary=binary)
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


def test_fractions_and_where_speak_of_classes_by_name(segmenter):
    frame = color_scene(24, 32)
    result, truth = segmenter(frame), color_truth(frame)
    assert result.fractions() == pytest.approx(
        {name: (truth == i).mean() for i, name in enumerate(["background", "red", "blue"])}
    )
    assert {type(share) for share in result.fractions().values()} == {float}
    assert np.array_equal(result.where("red"), truth == 1)
    with pytest.raises(KeyError, match="no class 'green' — the model has background, red, blue"):
        result.where("green")


@pytest.mark.parametrize("size", [(480, 640), (24, 32)])
def test_a_call_is_input_inference_and_resize(segmenter, size):
    frame = color_scene(*size)
    image = segmenter.input_of(frame)
    assert image.shape == (24, 32, 3) and image.dtype == np.uint8
    assert np.array_equal(segmenter.logits_of(image), segmenter.logits(frame))
    assert np.array_equal(resize_mask(segmenter.mask_of(image), *size), segmenter(frame).mask)


def test_an_input_belongs_to_the_caller(segmenter):
    frame = color_scene(24, 32)  # of the model's own size: nothing is resized
    image = segmenter.input_of(frame)
    assert not np.shares_memory(image, frame)
    segmenter.input_of(255 - frame)
    segmenter(255 - frame)
    assert np.array_equal(image, frame)


def test_what_is_no_frame_has_no_input(segmenter):
    with pytest.raises(InputError, match="dtype is float64"):
        segmenter.input_of(np.zeros((24, 32, 3)))


@pytest.mark.parametrize("wrapper", [RefinedSegmenter, TiledSegmenter])
def test_what_wraps_a_segmenter_has_its_contract_and_its_masks(segmenter, wrapper):
    frame = color_scene(24, 32)
    wrapped = wrapper(segmenter)
    assert wrapped.contract is segmenter.contract
    assert np.array_equal(wrapped(frame, StageTimes()).mask, segmenter(frame).mask)


def test_the_result_is_immutable(segmenter):
    result = segmenter(color_scene())
    with pytest.raises(AttributeError):
        result.mask = None


def test_the_stages_are_timed_beside_the_result(segmenter):
    times, frame = StageTimes(), color_scene(480, 640)
    start = time.perf_counter()
    result = segmenter(frame, times)
    elapsed_ms = (time.perf_counter() - start) * 1e3
    assert list(times.stages_ms) == ["resize", "inference", "mask"]
    assert all(spent > 0 for spent in times.stages_ms.values())
    assert times.total_ms <= elapsed_ms
    assert np.array_equal(result.mask, segmenter(frame).mask)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_as_asked(color_package, threads):
    assert Segmenter.load(color_package, options=SessionOptions(threads=threads)).threads == threads


def test_threads_default_to_the_usable_cores(segmenter):
    assert segmenter.threads == usable_cores() >= 1


@pytest.mark.parametrize("threads", [-1, MAX_THREADS + 1])
def test_a_senseless_number_of_threads_is_refused(threads):
    with pytest.raises(UsageError, match=rf"threads is {threads} — expected 0 \(all usable cores\) to 1024"):
        SessionOptions(threads=threads)
