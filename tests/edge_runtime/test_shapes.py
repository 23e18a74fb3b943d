"""Class areas as polygons and run lengths."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edge_runtime.model.contract import ClassInfo
from edge_runtime.sinks.shapes import polygons, run_lengths

CLASSES = tuple(ClassInfo(id=i, name=f"class {i}", color=(i, 0, 0)) for i in range(4))
masks = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


def blobs(seed, height=120, width=160):
    """Large smooth areas with holes, as a network finds them."""
    noise = np.random.default_rng(seed).random((height // 8, width // 8, 4), np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).argmax(axis=2).astype(np.uint8)


def decoded(rle):
    """Read COCO's text as maskApi.c does, and paint the runs column by column."""
    counts, position, text = [], 0, rle["counts"].encode()
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            character = text[position] - 48
            value |= (character & 0x1F) << shift
            more = bool(character & 0x20)
            position, shift = position + 1, shift + 5
            if not more and character & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    height, width = rle["size"]
    flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return flat.reshape(width, height).T


def filled(rings, shape):
    area = np.zeros(shape, np.uint8)
    cv2.fillPoly(area, [np.array(ring, np.int32).reshape(-1, 1, 2) for ring in rings], 1)
    return area


def assert_runs(mask):
    found = run_lengths(mask, CLASSES)
    assert list(found) == [f"class {i}" for i in range(1, 4) if (mask == i).any()]
    for info in CLASSES[1:]:
        area = (mask == info.id).astype(np.uint8)
        if area.any():
            rle = found[info.name]
            expected = coco.encode(np.asfortranarray(area))
            assert rle == {"size": expected["size"], "counts": expected["counts"].decode()}
            assert np.array_equal(decoded(rle), area)


def assert_polygons(mask):
    found = polygons(mask, CLASSES)
    assert list(found) == [f"class {i}" for i in range(1, 4) if (mask == i).any()]
    for info in CLASSES[1:]:
        if (mask == info.id).any():
            assert np.array_equal(filled(found[info.name], mask.shape), mask == info.id)


@pytest.mark.parametrize("seed", range(5))
def test_areas_come_back_from_runs_and_polygons(seed):
    assert_runs(blobs(seed))
    assert_polygons(blobs(seed))


@settings(deadline=None)
@given(masks)
def test_any_mask_comes_back_from_runs(mask):
    assert_runs(mask)


@settings(deadline=None)
@given(masks)
def test_any_mask_comes_back_from_polygons(mask):
    assert_polygons(mask)


def test_runs_of_a_large_mask_that_ends_in_a_class():
    mask = np.zeros((3000, 4000), np.uint8)
    mask[-1, -1] = mask[1500, 2000] = 1
    assert_runs(mask)


def test_a_mask_with_one_class_only():
    assert_runs(np.full((5, 7), 3, np.uint8))
    assert polygons(np.full((5, 7), 3, np.uint8), CLASSES) == {"class 3": [[0, 0, 0, 4, 6, 4, 6, 0]]}


def test_the_background_is_left_out():
    nothing = np.zeros((5, 7), np.uint8)
    assert run_lengths(nothing, CLASSES) == polygons(nothing, CLASSES) == {}


def test_a_hole_has_a_ring_of_its_own_through_the_pixels_around_it():
    mask = np.ones((5, 5), np.uint8)
    mask[2, 2] = 0
    outer, hole = polygons(mask, CLASSES)["class 1"]
    assert sorted(zip(outer[::2], outer[1::2], strict=True)) == [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert sorted(zip(hole[::2], hole[1::2], strict=True)) == [(1, 2), (2, 1), (2, 3), (3, 2)]


def test_single_pixels_and_lines():
    mask = np.zeros((5, 5), np.uint8)
    mask[0, 0] = mask[2, 1:4] = 1
    assert sorted(polygons(mask, CLASSES)["class 1"]) == [[0, 0], [1, 2, 3, 2]]
