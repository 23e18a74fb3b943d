import cv2
import numpy as np
import pytest
from PIL import Image

from edge_runtime.errors import InputError
from edge_runtime.labels import IGNORE, binary_or_index, dataset_encoding, read_raw_mask, to_class_ids
from edge_runtime.pairs import Pair

IDS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def save(path, array):
    assert cv2.imwrite(str(path), array)
    return path


def save_palette(path, ids, bits=8):
    image = Image.new("P", ids.shape[::-1])
    image.putdata(ids.reshape(-1).tolist())
    image.putpalette([v for i in range(2**bits) for v in (i * 40 % 256, 255 - i, i)])
    image.save(path, bits=bits)
    return path


def pairs_of(*masks):
    return [Pair(stem=m.stem, image=m, mask=m) for m in masks]


def test_an_index_mask_keeps_its_ids(tmp_path):
    values, palette = read_raw_mask(save(tmp_path / "m.png", IDS))
    assert np.array_equal(values, IDS)
    assert not palette


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_mask_gives_indices_not_colours(tmp_path, bits):
    ids = (np.arange(12).reshape(3, 4) % 2**bits).astype(np.uint8)
    values, palette = read_raw_mask(save_palette(tmp_path / "m.png", ids, bits))
    assert np.array_equal(values, ids)
    assert palette


def test_a_one_bit_mask_is_binary(tmp_path):
    Image.fromarray(IDS == 1).convert("1").save(tmp_path / "m.png")
    values, _ = read_raw_mask(tmp_path / "m.png")
    assert binary_or_index(np.bincount(values.reshape(-1), minlength=256), 2, None) == "binary"
    assert np.array_equal(to_class_ids(values, "binary", 2, None, "m"), IDS == 1)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_stored_as_colour_keeps_its_ids(tmp_path, channels):
    layers = [IDS] * 3 + [np.full_like(IDS, 255)] * (channels - 3)
    assert np.array_equal(read_raw_mask(save(tmp_path / "m.png", np.dstack(layers)))[0], IDS)


def test_transparent_pixels_are_refused(tmp_path):
    path = save(tmp_path / "m.png", np.dstack([IDS, IDS, IDS, IDS * 100]))
    with pytest.raises(InputError, match=r"m\.png — has transparent pixels — expected an opaque mask"):
        read_raw_mask(path)


def test_a_colour_mask_is_refused_with_the_remedy(tmp_path):
    path = save(tmp_path / "m.png", np.dstack([IDS, IDS + 3, IDS]))
    with pytest.raises(InputError, match=r"a colour mask, uint8 of shape \(2, 3, 3\).* map its colours to ids"):
        read_raw_mask(path)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_a_sixteen_bit_mask_is_refused(tmp_path, ending):
    path = save(tmp_path / f"m{ending}", IDS.astype(np.uint16) * 300)
    with pytest.raises(InputError, match=r"16-bit mask|uint16"):
        read_raw_mask(path)


def test_a_jpeg_mask_is_refused_and_explained(tmp_path):
    path = save(tmp_path / "m.jpg", IDS)
    with pytest.raises(InputError, match="a JPEG mask: compression changes ids at the borders — expected PNG"):
        read_raw_mask(path)


def test_a_jpeg_under_a_png_name_is_refused_too(tmp_path):
    save(tmp_path / "m.jpg", IDS).rename(tmp_path / "m.png")
    with pytest.raises(InputError, match="a JPEG mask"):
        read_raw_mask(tmp_path / "m.png")


def test_a_truncated_palette_mask_is_refused(tmp_path):
    path = save_palette(tmp_path / "m.png", np.arange(4000, dtype=np.uint8).reshape(40, 100))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match="truncated or damaged PNG"):
        read_raw_mask(path)


def test_unknown_ids_are_listed_with_their_pixels():
    values = np.array([[0, 9, 9], [7, 1, 1]], np.uint8)
    with pytest.raises(
        InputError, match=r"^m — unknown label id 7 \(1 px\), 9 \(2 px\) — expected 0 to 2 — add the class"
    ):
        to_class_ids(values, "index", 3, None, "m")


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([38, 75, 113], "grey levels of the usual mask palette: save the indices"),
        ([255], "set ignore_id: 255"),
        (list(range(100, 120)), "resized or JPEG-compressed mask: make it again with nearest neighbour"),
        ([9], "add the class or set ignore_id"),
    ],
)
def test_unknown_ids_come_with_the_likely_cause(values, hint):
    with pytest.raises(InputError, match=hint):
        to_class_ids(np.array([values], np.uint8), "index", 3, None, "m")


def test_a_binary_mask_with_other_values_is_refused():
    with pytest.raises(InputError, match=r"unknown label id 1 \(1 px\) — expected 0 and 255"):
        to_class_ids(np.array([[0, 1, 255]], np.uint8), "binary", 2, None, "m")


@pytest.mark.parametrize("ignore_id", [255, 11, 3])
def test_the_ignore_id_becomes_ignore(ignore_id):
    values = np.array([[0, 1, ignore_id]], np.uint8)
    assert to_class_ids(values, "index", 3, ignore_id, "m").tolist() == [[0, 1, IGNORE]]


def test_all_254_classes_are_possible():
    values = np.arange(254, dtype=np.uint8)[np.newaxis]
    assert np.array_equal(to_class_ids(values, "index", 254, 255, "m"), values)


class TestDatasetEncoding:
    def test_is_binary_if_any_mask_shows_it(self, tmp_path):
        empty = save(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
        shown = save(tmp_path / "b.png", np.array([[0, 255]], np.uint8))
        assert dataset_encoding(pairs_of(empty, shown), 2) == "binary"
        assert dataset_encoding(pairs_of(empty), 2) == "index"

    def test_is_index_where_255_is_ignored(self, tmp_path):
        mask = save(tmp_path / "a.png", np.array([[0, 255]], np.uint8))
        assert dataset_encoding(pairs_of(mask), 2, ignore_id=255) == "index"

    def test_is_index_for_more_than_two_classes(self, tmp_path):
        assert dataset_encoding(pairs_of(save(tmp_path / "a.png", np.array([[0, 255]], np.uint8))), 3) == "index"

    def test_is_palette_if_all_files_are(self, tmp_path):
        masks = [save_palette(tmp_path / f"{i}.png", IDS) for i in range(2)]
        assert dataset_encoding(pairs_of(*masks), 3) == "palette"

    def test_refuses_a_mixture_and_names_both(self, tmp_path):
        masks = save_palette(tmp_path / "p.png", IDS), save(tmp_path / "i.png", IDS)
        with pytest.raises(InputError, match=r"p\.png \(palette PNG\) and .*i\.png \(not\) — expected one encoding"):
            dataset_encoding(pairs_of(*masks), 3)
