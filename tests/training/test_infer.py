"""Classes that are made up from masks, and how masks are found to be stored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masks import COLORS, blobs, colored, encoded, paletted

from edge_runtime.dataset.label_key import class_counts
from edge_runtime.dataset.mask_files import MaskContents, contents_of, decode_mask
from edge_runtime.errors import InputError
from training.data.check.labels import refused_labels
from training.data.color_tables import CAMVID_11, CAMVID_32, CITYSCAPES, TABLES, VOC, recognise
from training.data.dataset import DatasetInfo, make_classes
from training.data.infer import infer_info, resolve_labels
from training.errors import DataError


def grey(values):
    return [MaskContents(form="grey", lossy=False, counts=dict.fromkeys(sorted(values), 10), colors={})]


def contents(*files, allow_lossy=False):
    return [contents_of(decode_mask(data, "m", allow_lossy=allow_lossy)) for data in files]


def names(info):
    return [c.name for c in info.classes]


class TestIds:
    @pytest.mark.parametrize("values", [{0}, {255}, {0, 255}])
    def test_black_and_white_are_two_classes(self, values):
        info = infer_info(grey(values))
        assert names(info) == ["background", "foreground"]
        assert info.ignore_id is None

    def test_are_numbered_up_to_the_highest(self):
        assert names(infer_info(grey({0, 1, 3}))) == ["background", "class_1", "class_2", "class_3"]
        assert infer_info(grey({0, 1, 3})).ignore_id is None

    def test_leave_255_to_the_pixels_that_do_not_count(self):
        info = infer_info(grey({0, 1, 2, 255}))
        assert (len(info.classes), info.ignore_id) == (3, 255)

    def test_are_not_made_up_from_values_that_are_no_ids(self):
        assert len(infer_info(grey({0, 38, 75, 113})).classes) == 2
        assert len(infer_info(grey({0, 1, 2, 200})).classes) == 3

    @given(st.sets(st.integers(0, 65535), min_size=1))
    def test_always_make_a_valid_contract(self, values):
        found = names(infer_info(grey(values)))
        assert 2 <= len(found) <= 254
        assert len(set(found)) == len(found)

    def test_of_a_palette_are_drawn_in_its_colours(self):
        info = infer_info(contents(paletted(blobs(0)), paletted(np.zeros((8, 8), np.uint8))))
        assert names(info) == ["background", "class_1", "class_2", "class_3"]
        assert [c.color for c in info.classes] == list(COLORS)

    def test_of_the_voc_palette_have_its_names(self):
        colors = [color for _, color in VOC.classes] + [(9, 9, 9)] * 234 + [(224, 224, 192)]
        ids = np.array([[*range(5, 21), 255]])
        info, key = resolve_labels(None, contents(paletted(ids, colors)))
        few = infer_info(contents(paletted(np.array([[0, 1, 2]]), colors)))
        assert names(few) == ["background", "class_1", "class_2"], "many tools use the first colours for any classes"
        assert (names(info)[15], len(info.classes), info.ignore_id, key.encoding) == ("person", 21, 255, "palette")

    @pytest.mark.parametrize(("lossy", "expected"), [(False, "soft"), (True, "binary")])
    def test_of_soft_or_lossy_edges_are_two_classes(self, lossy, expected):
        levels = np.zeros((40, 40), np.uint8)
        levels[:, 20:], levels[:, 15:25] = 255, np.arange(5, 255, 25)
        files = [encoded(levels, ".jpg" if lossy else ".png")]
        info, key = resolve_labels(None, contents(*files, allow_lossy=lossy), lossy=lossy)
        assert (names(info), key.encoding) == (["background", "foreground"], expected)


class TestColors:
    def test_are_classes_the_most_pixels_first(self):
        ids = np.array([[0, 0, 0, 1, 1, 2]])
        info, key = resolve_labels(None, contents(colored(ids, [(9, 8, 7), (128, 64, 160), (0, 0, 1)])))
        assert names(info) == ["color_090807", "color_8040a0", "color_000001"]
        assert (key.encoding, info.colors_known) == ("color", True)
        assert key.meanings == ((0x000001, 2), (0x090807, 0), (0x8040A0, 1))

    @pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
    def test_of_a_well_known_dataset_have_its_names(self, table):
        colors = [color for _, color in table.classes] + list(table.ignored)
        ids = np.arange(len(colors))[np.newaxis]
        info, key = resolve_labels(None, contents(colored(ids, colors)))
        assert names(info) == [name for name, _ in table.classes]
        assert dict(key.meanings)[int("{:02x}{:02x}{:02x}".format(*table.ignored[0]), 16)] == 255

    def test_blended_at_the_edges_are_refused(self):
        levels = np.repeat(np.linspace(0, 1, 40)[:, None], 3, axis=1)[None]
        blends = levels * np.array([200, 10, 90]) + (1 - levels) * np.array([3, 100, 220])
        wide = np.concatenate(
            [np.tile(blends[:, :1], (1, 50000, 1)), blends, np.tile(blends[:, -1:], (1, 50000, 1))], 1
        )
        with pytest.raises(
            DataError, match=r"masks have \d+ colours, 2 of them .* edges are blended, or the masks were res"
        ):
            infer_info(contents(encoded(wide.round().astype(np.uint8))))

    def test_of_a_photograph_are_refused(self):
        noise = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)
        with pytest.raises(DataError, match=r"masks have 512 colours.*expected at most 254, one a class"):
            infer_info(contents(encoded(noise)))

    RED = ((0, 0, 0), (255, 0, 0))

    @pytest.mark.parametrize("stray", [(254, 0, 0), (239, 16, 9), (1, 1, 1)])
    def test_that_are_rare_and_almost_another_are_no_classes(self, stray):
        blobs_of_red = blobs(0, classes=2, height_px=400)
        one = blobs_of_red.copy()
        one[0, :3] = 2
        masks = contents(colored(one, (*self.RED, stray)), colored(blobs_of_red, self.RED))
        info, key = resolve_labels(None, masks)
        assert names(info) == ["background", "color_ff0000"]
        assert refused_labels(masks[0], key) == "smeared_mask"

    @pytest.mark.parametrize(("rare", "pixels"), [((238, 0, 0), 3), ((0, 0, 255), 3), ((254, 0, 0), 40)])
    def test_that_are_rare_or_almost_another_are_classes(self, rare, pixels):
        ids = blobs(0, classes=2, height_px=400)
        ids[0, :pixels] = 2
        assert len(infer_info(contents(colored(ids, (*self.RED, rare)))).classes) == 3

    def test_of_a_well_known_dataset_have_its_names_beside_a_stray_colour(self):
        colors = [*(color for _, color in VOC.classes), (127, 0, 0)]
        ids = np.repeat(np.arange(22), [*[200] * 21, 1])[np.newaxis]
        assert names(infer_info(contents(colored(ids, colors))))[15] == "person"

    @pytest.mark.parametrize(("levels", "copy"), [((0, 76), True), ((0, 77), True), ((0, 29), True), ((0, 90), False)])
    def test_of_a_grey_picture_of_the_others_are_no_classes(self, levels, copy):
        ids = blobs(0, classes=3)
        colors = (*self.RED, (0, 0, 255))
        grey_mask = np.array(levels, np.uint8)[blobs(1, classes=2)]
        masks = contents(colored(ids, colors), colored(ids, colors), encoded(grey_mask))
        info, key = resolve_labels(None, masks)
        assert len(info.classes) == (3 if copy else 4)
        if copy:
            assert refused_labels(masks[2], key) == "mixed_encoding"
            with pytest.raises(
                InputError, match=r"^m — a grey mask of levels that the colours of the others become \(\d+\)"
            ):
                class_counts(masks[2], key, "m")

    def test_are_needed_for_classes_that_are_only_named(self):
        stated = DatasetInfo(classes=make_classes(list("abcd")))
        with pytest.raises(
            DataError, match=r"^masks are colour-coded, with \(.*\) — expected to know .* add colors to dataset\.yaml"
        ):
            resolve_labels(stated, contents(colored(blobs(0))))


def test_what_is_stated_is_not_guessed():
    masks = contents(encoded(blobs(0, classes=2) * 255))
    stated = DatasetInfo(classes=make_classes(["a", "b"]), encoding="index")
    assert resolve_labels(stated, masks)[1].encoding == "index"
    assert resolve_labels(DatasetInfo(classes=stated.classes), masks, lossy=True)[1] == stated.key("binary", lossy=True)


@pytest.mark.parametrize(
    ("colors", "encoding"),
    [(COLORS, "palette"), ([(0, 0, 0), (80, 80, 80)], "palette"), ([(0, 0, 0), (2, 2, 2)], "index")],
)
def test_stated_ids_may_be_the_indices_of_palettes(colors, encoding):
    stated = DatasetInfo(classes=make_classes(["a", "b", "c"]), encoding="index")
    masks = contents(*[paletted(blobs(i, classes=2), colors) for i in range(3)])
    assert resolve_labels(stated, masks)[1] == stated.key(encoding)
    few = [*masks[:1], *contents(encoded(blobs(0)), encoded(blobs(1)))]
    assert resolve_labels(stated, few)[1] == stated.key("index")


def test_ids_that_are_stated_are_index_masks():
    stated = DatasetInfo(classes=make_classes(["a", "b"]), ids=((0, 0), (255, 1)))
    info, key = resolve_labels(stated, contents(encoded(blobs(0, classes=2) * 255)))
    assert info is stated
    assert (key.encoding, key.meanings) == ("index", ((0, 0), (255, 1)))


class TestTables:
    def test_have_as_many_classes_as_their_datasets_and_no_colour_twice(self):
        assert [len(t.classes) for t in (CAMVID_11, CITYSCAPES, VOC, CAMVID_32)] == [11, 19, 21, 31]
        for table in TABLES:
            colors = [color for _, color in table.classes] + list(table.ignored)
            assert len(set(colors)) == len(colors)
            assert len({name for name, _ in table.classes}) == len(table.classes)

    def test_hold_the_published_colours_of_pascal_voc(self):
        assert dict(VOC.classes)["person"] == (192, 128, 128)
        assert dict(VOC.classes)["tvmonitor"] == (0, 64, 128)
        assert VOC.ignored == ((224, 224, 192),)

    @pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
    def test_recognise_a_dataset_by_half_of_its_classes_and_nothing_else(self, table):
        colors = [color for _, color in table.classes][::-1]
        half = (len(colors) + 1) // 2
        assert recognise(set(colors[:half])) is table
        assert recognise(set(colors[: half - 1])) is None
        assert recognise({*colors, (1, 2, 3)}) is None
