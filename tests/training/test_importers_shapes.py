"""Shapes, run lengths and EXIF orientation against independent implementations: pycocotools, Pillow, OpenCV."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
from foreign_datasets import columns
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from edge_runtime.headers import exif_orientation, oriented
from edge_runtime.image import decode
from training.errors import DataError
from training.importers.documents import point_array
from training.importers.shapes import box, coco_counts, ellipse, polygon, runs, strip

SIZE = (40, 60)
CELLS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def painted(region, size=SIZE):
    mask = np.zeros(size, np.uint8)
    region.paint(mask, 1)
    return mask.astype(bool)


@given(CELLS)
def test_compressed_run_lengths_are_those_of_pycocotools(cells):
    encoded = coco_mask.encode(np.asfortranarray(cells.astype(np.uint8)))
    counts = coco_counts(encoded["counts"].decode(), "a")
    assert np.array_equal(runs(counts, cells.shape, "F", "a"), cells)


def test_long_run_lengths_of_large_pictures_are_read():
    cells = np.zeros((3000, 4000), np.uint8)
    cells[100:2900, 1000:1003] = 1
    encoded = coco_mask.encode(np.asfortranarray(cells))
    assert np.array_equal(runs(coco_counts(encoded["counts"].decode(), "a"), cells.shape, "F", "a"), cells)


@given(CELLS)
def test_uncompressed_run_lengths_go_down_the_columns_in_coco_and_along_the_rows_in_cvat(cells):
    assert np.array_equal(runs(columns(cells), cells.shape, "F", "a"), cells)
    assert np.array_equal(runs([str(n) for n in columns(cells.T)], cells.shape, "C", "a"), cells)


@given(st.text(max_size=12))
def test_any_text_is_run_lengths_or_refused(text):
    try:
        coco_counts(text, "a.json: annotation 7")
    except DataError as error:
        assert str(error).startswith("a.json: annotation 7 — run lengths that cannot be decoded")


@pytest.mark.parametrize(
    "counts", [[3], [-1, 7], [2.5, 3.5], ["a"], None, [[6]], [1e300, 5], [float("nan"), 6], [2**70]]
)
def test_run_lengths_that_do_not_fill_the_mask_are_refused(counts):
    with pytest.raises(DataError, match=r"^here — run lengths of \S+ pixels — expected 6 \(3x2\)"):
        runs(counts, (2, 3), "F", "here")


@settings(max_examples=60)
@example([(0.0, 0.0), (0.0, 0.0), (11.0, 11.0)])
@given(st.lists(st.tuples(st.floats(-10, 70), st.floats(-10, 50)), min_size=3, max_size=9))
def test_a_pixel_is_in_a_polygon_when_its_centre_is(points):
    corners = np.array(points)
    found = painted(polygon(corners, SIZE))
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = np.zeros(SIZE, bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # From above: an edge there and back meets centres that lie on it to a rounding, the same one both times.
        (x0, y0), (x1, y1) = sorted((start, end), key=lambda point: point[1])
        crossed = (rows >= min(y0, y1)) & (rows < max(y0, y1))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside ^= crossed & (cols >= x0 + (rows - y0) / (y1 - y0) * (x1 - x0))
    if inside.any():
        assert np.array_equal(found, inside)
    else:  # so thin that it is drawn as a line
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        assert not found[(rows < top - 0.5) | (rows > bottom + 0.5) | (cols < left - 0.5) | (cols > right + 0.5)].any()


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(5, 10.1), (50, 10.1), (50, 10.4), (5, 10.4)], {(10, x) for x in range(5, 50)}),  # a lying wire
        ([(7.6, 3), (7.9, 3), (7.9, 30), (7.6, 30)], {(y, 7) for y in range(3, 30)}),  # a standing one
        ([(50, 10.1), (90, 10.1), (90, 10.4), (50, 10.4)], {(10, x) for x in range(50, 60)}),  # reaches out
        ([(5.2, 5.2), (5.4, 5.2), (5.4, 5.4), (5.2, 5.4)], set()),  # a speck
        ([(0, 0), (10, 10), (20, 20)], set()),  # no area
        ([(0.1, 0.2), (10.1, 10.2), (20.1, 20.2)], set()),  # no area, but for a rounding
        ([(90, 10.1), (99, 10.1), (99, 10.4), (90, 10.4)], set()),  # outside
        ([(5, 10), (50, 10), (50, 11), (5, 11)], {(10, x) for x in range(5, 50)}),  # as wide as a pixel: by its centres
    ],
)
def test_a_polygon_thinner_than_a_pixel_is_a_line(points, expected):
    found = painted(polygon(np.array(points, np.float64), SIZE))
    assert {(int(y), int(x)) for y, x in np.argwhere(found)} == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
@pytest.mark.parametrize("seed", range(8))
def test_polygons_agree_with_pycocotools_but_for_the_outline(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radius = rng.uniform(60, 140, 12)
    points = np.stack([200 + radius * np.cos(angles), 150 + radius * np.sin(angles)], 1)
    size = (300, 400)
    ours = painted(polygon(points, size), size)
    (encoded,) = coco_mask.frPyObjects([points.reshape(-1).tolist()], *size)
    theirs = coco_mask.decode(encoded).astype(bool)
    outline = cv2.polylines(np.zeros(size, np.uint8), [np.floor(points).astype(np.int32)], True, (1,), 3).astype(bool)
    assert not ((ours != theirs) & ~outline).any()
    exact = 0.5 * abs(np.sum(points[:, 0] * np.roll(points[:, 1], -1) - np.roll(points[:, 0], -1) * points[:, 1]))
    assert ours.sum() == pytest.approx(exact, rel=0.005)
    filled = cv2.fillPoly(np.zeros(size, np.uint8), [np.round(points).astype(np.int32)], (1,))
    assert abs(int(ours.sum()) - exact) < abs(int(filled.sum()) - exact)  # the reason for not using it


def test_neighbours_share_no_pixel_and_leave_none_between():
    middle = [(30.3, -5), (25.7, 20.2), (33.1, 60)]
    left = painted(polygon(np.array([(-5, -5), *middle, (-5, 60)]), SIZE))
    right = painted(polygon(np.array([(90, -5), *middle, (90, 60)]), SIZE))
    assert (left ^ right).all()


@pytest.mark.parametrize(
    "points", [[], [(1, 1)], [(1, 1), (30, 30)], [(-9, -9), (-1, -9), (-5, -1)], [(1e9, 1e9), (-1e9, 1e9), (0, 0.9e9)]]
)
def test_what_has_no_pixels_in_the_picture_paints_none(points):
    assert not painted(polygon(np.array(points, np.float64).reshape(-1, 2), SIZE)).any()


def test_boxes_are_exact_in_any_order_of_their_corners_and_cut_off_at_the_edge():
    expected = np.zeros(SIZE, bool)
    expected[5:40, 10:20] = True
    assert np.array_equal(painted(box(10, 5, 20, 99, SIZE)), expected)
    assert np.array_equal(painted(box(20, 99, 10, 5, SIZE)), expected)


def test_boxes_turn_clockwise():
    lying, standing = box(10, 15, 50, 25, SIZE), box(25, 0, 35, 40, SIZE)
    assert np.array_equal(painted(box(10, 15, 50, 25, SIZE, degrees=90)), painted(standing))
    assert painted(lying)[20, 12]
    turned = painted(box(10, 15, 50, 25, SIZE, degrees=30))
    assert turned[11, 14] and turned[29, 45] and not turned[29, 14]


@pytest.mark.parametrize("degrees", [0, 37, 90, 200])
def test_ellipses_are_those_of_an_exact_outline(degrees):
    t = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    turn = np.radians(degrees)
    x, y = 17 * np.cos(t), 8 * np.sin(t)
    points = np.stack([30.2 + x * np.cos(turn) - y * np.sin(turn), 20.7 + x * np.sin(turn) + y * np.cos(turn)], 1)
    found = painted(ellipse(30.2, 20.7, 17, 8, SIZE, degrees=degrees))
    assert (found != painted(polygon(points, SIZE))).sum() <= 2
    assert not painted(ellipse(30, 20, 0, 8, SIZE)).any()


def test_lines_are_as_wide_as_in_labelmes_export():
    image = Image.new("L", (60, 40))
    ImageDraw.Draw(image).line([(10, 20), (50, 20)], fill=1, width=10)
    found, expected = painted(strip(np.array([(10.0, 20.0), (50.0, 20.0)]), 10, SIZE)), np.asarray(image).astype(bool)
    assert found[:, 30].sum() == pytest.approx(expected[:, 30].sum(), abs=1)
    assert painted(strip(np.array([(-1e9, 20.0), (1e9, 20.0)]), 10, SIZE))[20].all()


@pytest.mark.parametrize(
    "points", [[1], [1, "x"], [[1, 2, 3], [4, 5, 6]], [1, None], [float("inf"), 1], [1e10, 1], [[1, 2], [3]], {}]
)
def test_points_that_are_no_pairs_of_numbers_are_refused(points):
    with pytest.raises(DataError, match=r"^here — points are .* — expected pairs of numbers$"):
        point_array(points, "here")


def photo(orientation, kind, size=(7, 5)):
    """Return an image file of noise whose EXIF says this orientation."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "a maker, so that there is more than one tag"
    exif[0x0112] = orientation
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_our_reader_turns_the_image(orientation, kind):
    data = photo(orientation, kind)
    assert exif_orientation(data) == orientation
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    shown = decode(data, "photo")
    for channel in range(3):
        assert np.array_equal(oriented(np.ascontiguousarray(stored[..., channel]), orientation), shown[..., channel])


@settings(max_examples=50)
@given(st.data())
def test_damaged_exif_is_passed_over(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    original = bytearray(photo(6, kind))
    place = data.draw(st.integers(0, len(original) - 1))
    original[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(original)))
    assert 1 <= exif_orientation(photo(6, "JPEG")[:cut] + b"\xff") <= 8
    assert 1 <= exif_orientation(bytes(original)) <= 8
    assert 1 <= exif_orientation(bytes(original[:cut])) <= 8


def test_run_lengths_survive_json():
    cells = np.eye(9, dtype=bool)
    text = json.dumps(coco_mask.encode(np.asfortranarray(cells.astype(np.uint8)))["counts"].decode())
    assert np.array_equal(runs(coco_counts(json.loads(text), "a"), (9, 9), "F", "a"), cells)
