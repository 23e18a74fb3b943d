"""The validation images in memory: as the model takes them, spread over the split, counted at their own size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from colors import COLOR_CLASSES, color_contract, color_scene, color_truth

import export.validation_set
from edge_runtime.dataset.label_key import IGNORE, LabelKey
from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError
from export.validation_set import ValidationSet


def write_pair(root: Path, number: int, height_px: int = 48, width_px: int = 64) -> Pair:
    image = np.roll(color_scene(height_px, width_px), number, axis=1)
    pair = Pair(stem=str(number), image=root / f"{number}.png", mask=root / f"{number}.mask.png")
    pair.image.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    pair.mask.write_bytes(cv2.imencode(".png", color_truth(image))[1].tobytes())
    return pair


def index_key(ignore_id: int | None = None) -> LabelKey:
    return LabelKey.of("index", COLOR_CLASSES, ignore_id=ignore_id)


def numbered(count: int) -> ValidationSet:
    """Images of one pixel that hold their number."""
    pixels = tuple(np.full((1, 1, 1), n, np.uint8) for n in range(count))
    return ValidationSet(images=pixels, truths=tuple(p[..., 0] for p in pixels), classes=255)


class TestRead:
    def test_images_are_the_model_s_input_and_truths_keep_their_size(self, tmp_path):
        pairs = [write_pair(tmp_path, 0), write_pair(tmp_path, 1, 60, 40)]
        found = ValidationSet.read(pairs, index_key(), color_contract(24, 32))
        assert [(i.shape, i.dtype) for i in found.images] == [((24, 32, 3), np.uint8)] * 2
        assert [t.shape for t in found.truths] == [(48, 64), (60, 40)]
        assert found.classes == 3
        np.testing.assert_array_equal(found.images[0], cv2.resize(color_scene(), (32, 24)))
        np.testing.assert_array_equal(found.truths[0], color_truth(color_scene()))

    def test_one_channel_is_grey(self, tmp_path):
        contract = replace(color_contract(binary=True), channels=1)
        pair = write_pair(tmp_path, 0)
        cv2.imwrite(str(pair.mask), (color_truth(color_scene()) == 1).astype(np.uint8))
        assert ValidationSet.read([pair], index_key(), contract).images[0].shape == (24, 32, 1)

    def test_what_is_to_be_ignored_stays_ignored(self, tmp_path):
        pair = write_pair(tmp_path, 0)
        mask = color_truth(color_scene())
        mask[:5] = 9
        cv2.imwrite(str(pair.mask), mask)
        (truth,) = ValidationSet.read([pair], index_key(ignore_id=9), color_contract()).truths
        assert (truth[:5] == IGNORE).all()
        assert (truth[5:] != IGNORE).all()

    @pytest.mark.parametrize(("images", "read"), [(10, 10), (3, 3), (1, 1), (0.2, 1)])
    def test_no_more_are_read_than_memory_is_given_for(self, tmp_path, monkeypatch, images, read):
        size = 24 * 32 * 3 + 48 * 64
        monkeypatch.setattr(export.validation_set, "MAX_BYTES", int(images * size))
        pairs = [write_pair(tmp_path, n) for n in range(10)]
        found = ValidationSet.read(pairs, index_key(), color_contract())
        assert len(found.images) == len(found.truths) == read
        np.testing.assert_array_equal(found.truths[0], color_truth(color_scene()))
        if read > 1:
            np.testing.assert_array_equal(found.truths[-1], color_truth(np.roll(color_scene(), 9, axis=1)))

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path):
        pair = write_pair(tmp_path, 0)
        pair.image.write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"0\.png — .*not an image"):
            ValidationSet.read([pair], index_key(), color_contract())

    def test_a_split_of_nothing_is_refused(self):
        with pytest.raises(InputError, match=r"validation split — no images in it — export compares on them"):
            ValidationSet.read([], index_key(), color_contract())


class TestMatrix:
    def test_it_is_counted_at_the_size_of_the_truth(self):
        truth = np.array([[0, 0, 1, 1], [0, IGNORE, 1, 1]], np.uint8)
        both = ValidationSet(images=(np.zeros((1, 2, 1), np.uint8),) * 2, truths=(truth, truth[:1]), classes=2)
        found = both.matrix(iter([np.array([[0, 1]], np.uint8), np.array([[1, 1]], np.uint8)]))
        # The first mask is right on all 7 pixels that count; the second takes the two of class 0 for class 1.
        assert found.tolist() == [[3, 2], [0, 4 + 2]]

    def test_a_mask_too_few_is_not_passed_over(self):
        with pytest.raises(ValueError, match="zip"):
            numbered(2).matrix([np.zeros((1, 1), np.uint8)])


class TestThinned:
    @pytest.mark.parametrize(
        ("number", "left"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10))), (99, list(range(10)))]
    )
    def test_images_and_truths_are_thinned_together(self, number, left):
        found = numbered(10).thinned(number)
        assert [int(i.item()) for i in found.images] == [int(t.item()) for t in found.truths] == left
        assert found.classes == 255
