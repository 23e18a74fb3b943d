"""What stored mask values mean: one truth comes out of every form, and what means nothing is named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masks import COLORS, blobs, colored, encoded, paletted

from edge_runtime.dataset.detect import dataset_key, detect_encoding, looks_soft
from edge_runtime.dataset.label_key import (
    IGNORE,
    LabelKey,
    all_near_known,
    class_counts,
    class_table,
    fits,
    to_class_ids,
)
from edge_runtime.dataset.mask_files import StoredMask, contents_of, decode_mask, pack_color
from edge_runtime.dataset.pairs import Pair
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.contract import ClassInfo

CLASSES = tuple(ClassInfo(id=i, name=f"c{i}", color=color) for i, color in enumerate(COLORS))
INDEX = LabelKey.of("index", CLASSES)
COLOR = LabelKey.of("color", CLASSES)


def grey(values, dtype=np.uint8, *, lossy=False):
    return StoredMask(values=np.array(values, dtype), form="grey", lossy=lossy)


def encoding_of(files, classes, **known):
    return detect_encoding([contents_of(decode_mask(data, "m")) for data in files], classes, **known)


def shuffled(ids, seed):
    """A palette PNG that numbers its colours in an order of its own."""
    order = np.random.default_rng(seed).permutation(len(COLORS))
    return paletted(np.argsort(order)[ids], np.array(COLORS)[order])


FORMS = {
    "8-bit index": (encoded, "index"),
    "16-bit index": (lambda ids: encoded(ids.astype(np.uint16)), "index"),
    "palette": (paletted, "palette"),
    "2-bit palette": (lambda ids: paletted(ids, bits=2), "palette"),
    "palettes in any order": (lambda ids: shuffled(ids, int(ids.sum())), "color"),
    "colour": (colored, "color"),
    "colour with alpha": (
        lambda ids: encoded(np.dstack([np.array(COLORS, np.uint8)[ids][..., ::-1], ids * 0 + 255])),
        "color",
    ),
    "colour WebP": (lambda ids: colored(ids, COLORS, ".webp", 64, 101), "color"),
    "colour TIFF": (lambda ids: colored(ids, COLORS, ".tiff"), "color"),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_truth_comes_out_of_every_form(form):
    write, expected = FORMS[form]
    truths = [blobs(seed) for seed in range(5)] + [np.zeros((8, 8), np.uint8)]
    files = [write(ids) for ids in truths]
    encoding = encoding_of(files, len(CLASSES), colors=COLORS)
    assert encoding == expected
    key = LabelKey.of(encoding, CLASSES)
    for ids, data in zip(truths, files, strict=True):
        found = to_class_ids(decode_mask(data, "m"), key, "m")
        assert found.dtype == np.uint8
        assert np.array_equal(found, ids)


TWO_FORMS = {
    "index": (encoded, "index"),
    "binary": (lambda ids: encoded(ids * 255), "binary"),
    "palette": (lambda ids: paletted(ids, COLORS[:2], bits=1), "palette"),
    "colour": (lambda ids: colored(ids, ((0, 0, 0), (255, 0, 0))), "color"),
    "soft": (lambda ids: encoded(soften(ids)), "soft"),
}


def soften(ids):
    """Return 0/255 with edges of all grey levels that cross 128 where the classes meet."""
    levels = ids.astype(int) * 255
    rng = np.random.default_rng(0)
    edge = (ids != np.roll(ids, 1, axis=1)) | (ids != np.roll(ids, -1, axis=1))
    between = np.where(ids == 1, rng.integers(128, 255, ids.shape), rng.integers(1, 128, ids.shape))
    return np.where(edge, between, levels).astype(np.uint8)


@pytest.mark.parametrize("form", TWO_FORMS)
def test_two_classes_come_out_of_every_form(form):
    write, expected = TWO_FORMS[form]
    colors = ((0, 0, 0), (255, 0, 0))
    classes = [ClassInfo(id=i, name=f"c{i}", color=color) for i, color in enumerate(colors)]
    truths = [blobs(seed, classes=2) for seed in range(3)] + [np.zeros((8, 8), np.uint8)]
    files = [write(ids) for ids in truths]
    assert encoding_of(files, 2, colors=colors) == expected
    key = LabelKey.of(expected, classes)
    for ids, data in zip(truths, files, strict=True):
        assert np.array_equal(to_class_ids(decode_mask(data, "m"), key, "m"), ids)


class TestKey:
    @pytest.mark.parametrize("ignore_id", [255, 11, 3])
    def test_turns_the_ignored_value_into_ignore(self, ignore_id):
        key = LabelKey.of("index", CLASSES[:3], ignore_id=ignore_id)
        assert to_class_ids(grey([[0, 1, ignore_id]]), key, "m").tolist() == [[0, 1, IGNORE]]

    def test_turns_ignored_colours_into_ignore(self):
        key = LabelKey.of("color", CLASSES, ignore_colors=[(255, 255, 255), (9, 8, 7)])
        data = encoded(np.array([[(255, 255, 255), (7, 8, 9), (0, 0, 0), (128, 64, 128)]], np.uint8))
        assert to_class_ids(decode_mask(data, "m"), key, "m").tolist() == [[IGNORE, IGNORE, 0, 1]]

    def test_maps_ids_that_are_not_those_of_the_classes(self):
        key = LabelKey.of("index", CLASSES, ids={7: 0, 26000: 1, 26001: 1, 0: IGNORE})
        assert to_class_ids(grey([[7, 26000, 26001, 0]], np.uint16), key, "m").tolist() == [[0, 1, 1, IGNORE]]
        assert class_counts(contents_of(grey([[7, 26000, 26001, 0]], np.uint16)), key, "m").tolist() == [1, 2, 0, 0]

    def test_has_room_for_254_classes(self):
        classes = [ClassInfo(id=i, name=str(i), color=(0, 0, i)) for i in range(254)]
        values = np.arange(254, dtype=np.uint8)[np.newaxis]
        assert np.array_equal(to_class_ids(grey(values), LabelKey.of("index", classes, ignore_id=255), "m"), values)
        assert np.array_equal(
            to_class_ids(
                decode_mask(colored(values, [c.color for c in classes]), "m"), LabelKey.of("color", classes), "m"
            ),
            values,
        )

    @pytest.mark.parametrize(("classes", "ignored"), [((0, 1, 0), []), ((0, 1), [COLORS[1]])])
    def test_refuses_one_colour_for_two_things(self, classes, ignored):
        infos = [ClassInfo(id=i, name=str(i), color=COLORS[c]) for i, c in enumerate(classes)]
        with pytest.raises(InputError, match=r"colours of classes — \(.*\) stands twice — expected one a class"):
            LabelKey.of("color", infos, ignore_colors=ignored)

    @given(
        encoding=st.sampled_from(["index", "binary", "palette", "color", "soft"]),
        ignore_id=st.none() | st.integers(0, 255),
        lossy=st.booleans(),
    )
    def test_survives_json(self, encoding, ignore_id, lossy):
        key = LabelKey.of(encoding, CLASSES, ignore_id=ignore_id, ignore_colors=[(1, 2, 3)], lossy=lossy)
        assert LabelKey.from_dict(json.loads(json.dumps(key.to_dict())), "run.json") == key

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"encoding": "rgb"}, "encoding is 'rgb' — expected index, binary, palette, color, soft"),
            ({"meanings": [[1, 2, 3]]}, "expected pairs of a stored value and a class id"),
            ({"meanings": [[1, 4]]}, "expected pairs of a stored value and a class id"),
            ({"meanings": [[1, 2.5]]}, "expected pairs of a stored value and a class id"),
            ({"classes": "4"}, "key 'classes' is str — expected int"),
            ({"more": 1}, "unknown key 'more'"),
        ],
    )
    def test_is_read_strictly(self, change, message):
        with pytest.raises(ModelError, match=message):
            LabelKey.from_dict({**INDEX.to_dict(), **change}, "run.json")


class TestUnknownValues:
    def test_are_listed_with_their_pixels(self):
        with pytest.raises(
            InputError, match=r"^m — unknown label id 7 \(1 px\), 9 \(2 px\) — expected 0 to 3 — add the class"
        ):
            to_class_ids(grey([[0, 9, 9], [7, 1, 1]]), INDEX, "m")

    @pytest.mark.parametrize(
        ("values", "hint"),
        [
            ([38, 75, 113], "grey levels of the usual mask palette: save the indices"),
            ([255], "set ignore_id: 255"),
            (list(range(100, 120)), "resized or JPEG-compressed mask: make it again with nearest neighbour"),
            ([9], "add the class or set ignore_id"),
            ([256], "16-bit ids are never scaled: say which class each stands for with ids in dataset.yaml"),
        ],
    )
    def test_come_with_the_likely_cause(self, values, hint):
        with pytest.raises(InputError, match=hint):
            to_class_ids(grey([values], np.uint16), INDEX, "m")

    @pytest.mark.parametrize("value", [1, 128])
    def test_of_a_binary_mask_may_be_edges_or_ignored(self, value):
        key = LabelKey.of("binary", CLASSES[:2])
        with pytest.raises(
            InputError, match=rf"unknown label id {value} \(1 px\) — expected 0 and 255 — set mask_encoding: soft"
        ):
            to_class_ids(grey([[0, value, 255]]), key, "m")

    def test_beyond_a_byte_are_not_soft_edges(self):
        with pytest.raises(InputError, match="16-bit ids are never scaled"):
            to_class_ids(grey([[0, 300, 65535]], np.uint16), LabelKey.of("soft", CLASSES[:2]), "m")

    def test_that_are_colours_are_given_as_such(self):
        with pytest.raises(
            InputError,
            match=r"^m — unknown colour \(1, 200, 3\) \(1 px\) — expected \(0, 0, 0\), \(0, 0, 142\), .* — add the class or ignore_colors",
        ):
            to_class_ids(decode_mask(encoded(np.array([[(3, 200, 1), (0, 0, 0)]], np.uint8)), "m"), COLOR, "m")

    def test_that_are_nearly_known_colours_hint_at_jpeg(self):
        data = encoded(np.array([[(128, 64, 128), (130, 66, 125), (0, 0, 2)]], np.uint8))
        with pytest.raises(InputError, match=r"a little off known colours, as in a JPEG-compressed or resized mask"):
            to_class_ids(decode_mask(data, "m"), COLOR, "m")

    @pytest.mark.parametrize(("off", "near"), [(40, True), (41, False)])
    def test_are_nearly_known_up_to_a_distance_in_each_channel(self, off, near):
        values = [pack_color((128 + off, 64 - off, 128)), pack_color((off, 0, off))]
        assert all_near_known(values, COLOR) is near
        assert all_near_known([*values, pack_color((1, 200, 3))], COLOR) is False

    def test_by_the_thousand_hint_at_resizing(self):
        noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        with pytest.raises(InputError, match=r"and \d+ more — expected .* — many stray values look like a resized"):
            class_table(contents_of(decode_mask(encoded(noise), "m")), COLOR, "m")


class TestOtherForms:
    @pytest.mark.parametrize(
        ("data", "encoding", "found"),
        [
            (paletted(blobs(0)), "index", "a palette PNG — expected 'index'"),
            (encoded(blobs(0)), "palette", "one channel of values — expected 'palette'"),
            (colored(blobs(0)), "binary", "a colour mask — expected 'binary'"),
        ],
    )
    def test_than_the_dataset_s_are_refused(self, data, encoding, found):
        mask = decode_mask(data, "m")
        assert not fits(contents_of(mask), LabelKey.of(encoding, CLASSES[:2]))
        with pytest.raises(InputError, match=f"^m — {found}, the encoding of this dataset"):
            to_class_ids(mask, LabelKey.of(encoding, CLASSES[:2]), "m")

    def test_may_hold_colours_of_the_classes(self):
        for data in (encoded(np.full((3, 3), 70, np.uint8)), paletted(np.full((3, 3), 2))):
            assert to_class_ids(decode_mask(data, "m"), COLOR, "m").tolist() == [[2] * 3] * 3


class TestLossyMasks:
    def test_of_colours_mean_the_nearest_known_colour(self):
        truth = blobs(1)
        key = LabelKey.of("color", CLASSES, lossy=True)
        mask = decode_mask(colored(truth, COLORS, ".jpg", 1, 95), "m", allow_lossy=True)
        assert np.mean(to_class_ids(mask, key, "m") == truth) > 0.98

    def test_of_black_and_white_are_black_or_white(self):
        truth = blobs(1, classes=2)
        masks = [decode_mask(encoded(truth * 255, ".jpg"), "m", allow_lossy=True)]
        encoding = detect_encoding([contents_of(m) for m in masks], 2)
        found = to_class_ids(masks[0], LabelKey.of(encoding, CLASSES[:2], lossy=True), "m")
        assert np.mean(found == truth) > 0.99

    @pytest.mark.parametrize("encoding", ["index", "palette"])
    def test_of_ids_are_refused_for_neighbouring_ids_mix(self, encoding):
        mask = StoredMask(values=blobs(0), form="grey" if encoding == "index" else "palette", lossy=True, palette=())
        with pytest.raises(InputError, match=r"^m — class ids in a lossy file — expected PNG: neighbouring ids"):
            to_class_ids(mask, LabelKey.of(encoding, CLASSES), "m")


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (1, 0), (127, 0), (128, 1), (254, 1), (255, 1)])
def test_soft_edges_are_cut_at_128(level, expected):
    key = LabelKey.of("soft", CLASSES[:2], ignore_id=7)
    assert to_class_ids(grey([[level, 7]]), key, "m").tolist() == [[expected, IGNORE]]


class TestDetection:
    def test_is_binary_if_any_mask_shows_it(self):
        empty, shown = encoded(np.zeros((2, 2), np.uint8)), encoded(np.array([[0, 255]], np.uint8))
        assert encoding_of([empty, shown], 2) == "binary"
        assert encoding_of([empty], 2) == "index"
        assert encoding_of([shown], 2, ignore_id=255) == "index"
        assert encoding_of([shown], 3) == "index"

    def test_takes_palettes_that_differ_for_colours(self):
        ids = blobs(0)
        same = [paletted(ids), paletted(np.zeros((8, 8), np.uint8))]
        assert encoding_of(same, 4) == "palette"
        assert encoding_of([*same, paletted(ids, COLORS[::-1])], 4) == "color"

    def test_takes_palette_colours_where_the_indices_are_no_ids(self):
        files = [paletted(np.array([[0, 3]]), COLORS)]
        assert encoding_of(files, 2, colors=[COLORS[0], COLORS[3]]) == "color"
        assert encoding_of(files, 2, colors=[COLORS[0], COLORS[1]]) == "palette"
        assert encoding_of(files, 4, colors=COLORS) == "palette"

    def test_of_colours_is_not_upset_by_all_black_masks(self):
        black = encoded(np.zeros((4, 4), np.uint8))
        assert encoding_of([black, black, black, colored(blobs(0))], 4) == "color"

    def test_goes_with_most_masks(self):
        index, color, palette = encoded(blobs(0)), colored(blobs(0)), paletted(blobs(0))
        assert encoding_of([index, index, color], 4) == "index"
        assert encoding_of([index, color, color], 4) == "color"
        assert encoding_of([index, index, palette], 4) == "index"
        assert encoding_of([index, palette, palette], 4) == "palette"

    @pytest.mark.parametrize(
        ("counts", "soft"),
        [
            ({0: 900, 255: 100}, False),
            ({0: 900, 128: 50, 255: 100}, False),  # a trimap
            ({0: 900, 255: 100} | dict.fromkeys(range(20, 240, 10), 1), True),
            ({0: 10, 255: 10} | dict.fromkeys(range(1, 250), 10), False),  # many classes
            ({0: 900, 255: 100} | dict.fromkeys(range(1, 30), 5), False),  # thirty classes and void
            ({0: 900} | dict.fromkeys(range(1, 255), 1), False),
            ({0: 900, 254: 100} | dict.fromkeys(range(20, 240, 10), 1), True),
            ({0: 900, 250: 100} | dict.fromkeys(range(20, 240, 10), 1), True),
            ({0: 900, 249: 100} | dict.fromkeys(range(20, 240, 10), 1), False),
            ({0: 900, 254: 100, 300: 1} | dict.fromkeys(range(20, 240, 10), 1), False),
        ],
    )
    def test_knows_soft_edges(self, counts, soft):
        assert looks_soft(counts) is soft


class TestDatasetKey:
    @staticmethod
    def pairs(tmp_path, *files):
        pairs = []
        for i, data in enumerate(files):
            (tmp_path / f"{i}.png").write_bytes(data)
            pairs.append(Pair(stem=str(i), image=tmp_path / f"{i}.png", mask=tmp_path / f"{i}.png"))
        return pairs

    def test_knows_colours_from_the_classes(self, tmp_path):
        pairs = self.pairs(tmp_path, colored(blobs(0)), colored(blobs(1)))
        assert dataset_key(pairs, CLASSES) == COLOR
        ignoring = dataset_key(pairs, CLASSES[:3], ignore_colors=[COLORS[3]])
        assert dict(ignoring.meanings) == {**dict(COLOR.meanings), 0x00008E: IGNORE}

    def test_refuses_a_mixture_before_any_work_is_done(self, tmp_path):
        pairs = self.pairs(tmp_path, encoded(blobs(0)), encoded(blobs(1)), paletted(blobs(2)))
        with pytest.raises(InputError, match=r"2\.png — a palette PNG — expected 'index'"):
            dataset_key(pairs, CLASSES)

    def test_refuses_masks_of_two_scales_with_their_counts(self, tmp_path):
        ones, whites = encoded(blobs(0, classes=2)), encoded(blobs(1, classes=2) * 255)
        with pytest.raises(
            InputError, match=r"unknown label id 255 .* 2 masks hold ids as 1 and 1 white \(255\): save all"
        ):
            dataset_key(self.pairs(tmp_path, ones, whites, ones), CLASSES[:2])

    def test_takes_an_image_without_a_mask_for_nothing(self, tmp_path):
        (pair,) = self.pairs(tmp_path, encoded(blobs(0)))
        assert dataset_key([pair, Pair(stem="x", image=pair.image, mask=None)], CLASSES) == dataset_key([pair], CLASSES)

    def test_names_a_colour_that_no_class_has(self, tmp_path):
        with pytest.raises(InputError, match=r"0\.png — unknown colour \(0, 0, 142\).*--ignore-color"):
            dataset_key(self.pairs(tmp_path, colored(blobs(0))), CLASSES[:3])
