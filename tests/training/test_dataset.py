import numpy as np
import pytest
from datasets import png, squares
from masks import blobs, colored, encoded

from edge_runtime.dataset.label_key import IGNORE, LabelKey
from edge_runtime.errors import InputError
from training.data.dataset import (
    DatasetInfo,
    default_color,
    find_dataset,
    make_classes,
    read_class_ids,
)
from training.data.settings import read_info
from training.errors import DataError

THREE = DatasetInfo(classes=make_classes(["background", "red", "blue"]))


class TestDatasetYaml:
    def test_may_be_absent(self, dataset):
        assert read_info(dataset.root) is None

    def test_gives_names_colours_ignored_value_and_encoding(self, dataset):
        dataset.yaml("classes: [sky, road]\ncolors: [[1, 2, 3], [4, 5, 6]]\nignore_id: 11\nmask_encoding: index\n")
        info = read_info(dataset.root)
        assert [(c.id, c.name, c.color) for c in info.classes] == [(0, "sky", (1, 2, 3)), (1, "road", (4, 5, 6))]
        assert (info.ignore_id, info.encoding) == (11, "index")

    def test_needs_only_classes(self, dataset):
        dataset.yaml("classes: [sky, 7]\n")
        info = read_info(dataset.root)
        assert [c.name for c in info.classes] == ["sky", "7"]
        assert [c.color for c in info.classes] == [default_color(0), default_color(1)]
        assert (info.ignore_id, info.encoding) == (None, "auto")

    def test_gives_ignored_colours_ids_and_groups(self, dataset):
        dataset.yaml(
            "classes: [sky, 7]\ncolors: [[1, 2, 3], [4, 5, 6]]\nignore_colors: [[0, 0, 0]]\nmask_encoding: color\n"
            "ids: {300: sky, 5: 7, 0: null}\ngroups: '^(.+)_'\n"
        )
        info = read_info(dataset.root)
        assert (info.colors_known, info.ignore_colors, info.encoding) == (True, ((0, 0, 0),), "color")
        assert (info.ids, info.groups) == (((0, IGNORE), (5, 1), (300, 0)), "^(.+)_")
        assert info.key("color").meanings == ((0, IGNORE), (0x010203, 0), (0x040506, 1))
        assert info.key("index").meanings == ((0, IGNORE), (5, 1), (300, 0))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("classes: [a, b]\nignore-id: 3", "unknown key 'ignore-id' — did you mean 'ignore_id'?"),
            ("class: [a, b]", "unknown key 'class' — did you mean 'classes'?"),
            (
                "classes: [a, b]\nsplit: x",
                "unknown key 'split' — expected classes, ignore_id, colors, ignore_colors, ids, mask_encoding, groups, "
                "empty_without_mask",
            ),
            ("classes: [a, b]\npath: x", "unknown key 'path' — leave it out: folders are found by their names"),
            ("nc: 2\nclasses: [a, b]", "unknown key 'nc' — leave it out: the number of classes is that of the names"),
            ("names: [a, b]", "unknown key 'names' — did you mean 'classes'?"),
            ("classes: [a, b]\nignore_index: 3", "unknown key 'ignore_index' — did you mean 'ignore_id'?"),
            ("classes: [a, b]\npalette: 3", "unknown key 'palette' — did you mean 'colors'?"),
            ("classes: [a, b]\ngroup: x", "unknown key 'group' — did you mean 'groups'?"),
            (
                "- a\n- b",
                "found a list — expected keys: classes, ignore_id, colors, ignore_colors, ids, mask_encoding, groups",
            ),
            ("", "found no keys — expected keys: classes"),
            ("classes", "found text — expected keys: classes"),
            ("classes: [a, b", "not valid YAML (while parsing a flow sequence"),
            ("classes: !!python/object/apply:os.getcwd []", "not valid YAML (found a tag (!): put the text into"),
            (
                "classes: [a, b]\nclasses: [c, d]",
                "found the key 'classes' a second time: the first would be lost in line 2",
            ),
            ("classes: [a, b]\nids: {1: a, 1: b}", "found the key '1' a second time"),
            ("classes: [a, b]\nids: {1: a, 01: b}", "ids: 1 has two meanings — expected one"),
            ("classes: [a, b]\nids: {[1, 2]: a}", "found a key that is no text"),
            ("classes: &names [a, b]", "found an anchor or alias (& or *): write it out"),
            ("classes: [a, *b]", "found an anchor or alias (& or *)"),
            ("classes: [&a [x, x], &b [*a, *a], &c [*b, *b]]", "found an anchor or alias (& or *)"),
            ("classes: " + "[" * 500 + "]" * 500, "found nested more than 8 levels deep"),
            ("classes: [a, b] # " + "x" * 2**18, "bytes — expected at most 262144"),
            ("ignore_id: 3", "classes is missing — expected a list of 2 to 254 different names"),
            ("classes: null", "classes is missing — expected a list of 2 to 254 different names"),
            ("classes: background, a", "classes is 'background, a' — expected a list of 2 to 254 different names"),
            (
                "classes: [a]",
                "classes is one name, [a] — expected a list of 2 to 254 different names: the background is",
            ),
            ("classes: [defect]", "write classes: [background, defect]"),
            ("classes: []", "classes has 0 names — expected a list of 2 to 254 different names"),
            ("classes: [a, a]", "classes has 'a' twice — expected a list of 2 to 254 different names"),
            ("classes: [1, '1']", "classes has '1' twice — expected a list of 2 to 254 different names"),
            (
                "classes: [a, '']",
                "classes has an empty name — expected a list of 2 to 254 different names — name class 1",
            ),
            ("classes:\n  - a\n  -\n  - b", "classes has an empty name"),
            ("classes: [a, ' ']", "classes has an empty name"),
            ("classes: [a, [b, c]]", "classes is [a, [b, c]] — expected a list of 2 to 254 different names"),
            (
                "classes: {0: road, 1: tree}",
                "classes is a mapping — expected a list of 2 to 254 different names, the first",
            ),
            ("classes: {0: road, 1: tree}", "write classes: [road, tree]"),
            ("classes: [a, b]\nignore_id: 256", "ignore_id is '256' — expected a mask value from 0 to 255"),
            ("classes: [a, b]\nignore_id: true", "ignore_id is 'true' — expected a mask value from 0 to 255"),
            ("classes: [a, b]\nignore_id: -1", "ignore_id is '-1' — expected a mask value from 0 to 255"),
            ("classes: [a, b]\nignore_id: [3]", "ignore_id is [3] — expected a mask value from 0 to 255"),
            ("classes: [a, b]\nignore_id: 1", "ignore_id is 1, which is class 'b' — expected one meaning per value"),
            ("classes: [void, b, c]\nignore_id: 0", "write ids: {0: null, 1: b, 2: c}, or correct ignore_id"),
            (
                "classes: [a, b]\nids: {7: a, 9: b}\nignore_id: 9",
                "ignore_id is 9, which is class 'b' — expected one meaning",
            ),
            ("classes: [a, b]\nmask_encoding: binary\nignore_id: 255", "ignore_id is 255, which is class 'b'"),
            ("classes: ['a, b']", "write classes: [background, 'a, b']"),
            ("classes: {0: 'a, b', 1: c}", "write classes: ['a, b', c]"),
            ("classes: ['a: b', c]\nids: x", "as {7: 'a: b'}"),
            ("classes: ['a, b', c]\nignore_id: 1", "write ids: {1: null, 0: 'a, b'}"),
            (
                "classes: [a, b]\ncolors: [[0, 0, 0], [1, 1, 1]]\nignore_colors: [[1, 1, 1]]",
                "ignore_colors has [1, 1, 1], the colour of 'b' — expected one meaning per colour",
            ),
            (
                "classes: [a, b]\nmask_encoding: soft\nids: {7: a}",
                "mask_encoding is soft and there are ids — expected ids",
            ),
            ("classes: [a, b]\nempty_without_mask: maybe", "empty_without_mask is 'maybe' — expected true or false"),
            ("classes: [a, b]\ncolors: [[0, 0, 0]]", "expected 2 lists of red, green, blue from 0 to 255"),
            ("classes: [a, b]\ncolors: [[0, 0, 0], [0, 0, 256]]", "expected 2 lists of red, green, blue from 0 to 255"),
            (
                "classes: [a, b]\nmask_encoding: rgb",
                "mask_encoding is 'rgb' — expected auto, index, binary, palette, color",
            ),
            ("classes: [a, b]\nmask_encoding: color", "mask_encoding is color and there are no colors — add one"),
            ("classes: [a, b]\nignore_colors: [0, 0, 0]", "expected lists of red, green, blue from 0 to 255"),
            ("classes: [a, b]\nids: [7, 8]", "ids is [7, 8] — expected class names by mask value, as {7: a}"),
            ("classes: [a, b]\nids: {7: a, 65536: b}", "ids has the key '65536' — expected class names by mask value"),
            ("classes: [a, b]\nids: {7: c}", "ids: 7 is 'c' — expected one of classes, or null to ignore it"),
            ("classes: [a, b]\ngroups: '^(.+_'", "groups is '^(.+_' (missing ), unterminated subpattern"),
            ("classes: [a, b]\ngroups: '^.+_'", "(not one group in brackets) — expected a regular expression with one"),
            ("classes: [a, b]\ngroups: 3", "groups is '3' (not one group in brackets)"),
        ],
    )
    def test_is_read_strictly(self, dataset, text, message):
        path = dataset.yaml(text)
        with pytest.raises(DataError) as refused:
            read_info(dataset.root)
        assert str(refused.value).startswith(f"{path} — ")
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_gives_the_names_as_they_are_written(self, dataset):
        dataset.yaml("classes: [no, 010, null, ~, 1e3, 2020-01-01, 'yes', \"a: b\", 1_000, 0x1F, 0.50, 'null ']\n")
        assert [c.name for c in read_info(dataset.root).classes] == [
            *("no", "010", "null", "~", "1e3", "2020-01-01", "yes", "a: b", "1_000", "0x1F", "0.50", "null "),
        ]

    def test_gives_ids_of_such_names_and_ignores_null_unless_it_is_a_class(self, dataset):
        dataset.yaml("classes: [no, 010]\nids: {0: no, 1: 010, 2: null, 3: ~}\n")
        assert read_info(dataset.root).ids == ((0, 0), (1, 1), (2, IGNORE), (3, IGNORE))
        dataset.yaml("classes: [no, null]\nids: {0: no, 1: null, 2: ~}\n")
        assert read_info(dataset.root).ids == ((0, 0), (1, 1), (2, IGNORE))

    def test_may_say_twice_that_a_value_is_ignored(self, dataset):
        dataset.yaml("classes: [a, b]\nids: {0: a, 1: b, 255: null}\nignore_id: 255\n")
        info = read_info(dataset.root)
        assert (info.ignore_id, info.ids) == (255, ((0, 0), (1, 1), (255, IGNORE)))

    def test_takes_a_key_without_a_value_for_left_out(self, dataset):
        dataset.yaml("classes: [a, b]\nignore_id:\ncolors: null\nids: ~\n")
        info = read_info(dataset.root)
        assert (info.ignore_id, info.colors_known, info.ids) == (None, False, None)

    @pytest.mark.parametrize(("text", "expected"), [("true", True), ("True", True), ("false", False)])
    def test_says_that_images_without_a_mask_are_empty(self, dataset, text, expected):
        dataset.yaml(f"classes: [a, b]\nempty_without_mask: {text}\n")
        assert read_info(dataset.root).empty_without_mask is expected

    @pytest.mark.parametrize("name", ["dataset.yml", "Dataset.yaml", "DATASET.YML"])
    def test_may_be_written_with_another_ending_or_case(self, dataset, name):
        (dataset.root / name).write_text("classes: [sky, crack]\n")
        assert [c.name for c in read_info(dataset.root).classes] == ["sky", "crack"]

    def test_may_not_be_there_twice(self, dataset):
        dataset.yaml("classes: [a, b]\n")
        (dataset.root / "dataset.yml").write_text("classes: [c, d]\n")
        with pytest.raises(DataError, match=r"dataset\.yaml and dataset\.yml — expected one of them"):
            read_info(dataset.root)

    def test_that_is_a_link_to_nowhere_is_refused(self, dataset):
        (dataset.root / "dataset.yaml").symlink_to(dataset.root / "gone.yaml")
        with pytest.raises(DataError, match=r"dataset\.yaml — a link to a file that does not exist"):
            read_info(dataset.root)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_may_begin_with_a_byte_order_mark(self, dataset, encoding):
        (dataset.root / "dataset.yaml").write_bytes("classes: [große, b]\r\n".encode(encoding))
        assert [c.name for c in read_info(dataset.root).classes] == ["große", "b"]

    def test_that_is_no_text_is_refused(self, dataset):
        (dataset.root / "dataset.yaml").write_bytes(b"classes: [a, \xff\xfe]")
        with pytest.raises(DataError, match=r"dataset\.yaml — not valid YAML"):
            read_info(dataset.root)


class TestLayout:
    def test_without_splits_all_is_to_train_on(self, dataset):
        assert {split: len(pairs) for split, pairs in find_dataset(dataset.root).splits.items()} == {"train": 3}

    def test_split_folders_are_the_splits(self, empty_dataset):
        empty_dataset.fill(2, "train").fill(1, "test")
        found = find_dataset(empty_dataset.root)
        assert {split: [p.stem for p in pairs] for split, pairs in found.splits.items()} == {
            "train": ["train0", "train1"],
            "test": ["test0"],
        }
        assert [p.stem for p in found.pairs()] == ["train0", "train1", "test0"]

    @pytest.mark.parametrize(
        ("make", "found"),
        [(False, "no such folder"), (True, "no images/ and no train/images/ inside, but pictures/ .empty.")],
    )
    def test_of_another_kind_is_refused(self, empty_dataset, make, found):
        if make:
            (empty_dataset.root / "pictures").mkdir(parents=True)
        with pytest.raises(
            InputError, match=f"^dataset .*/data — {found} — expected images/ and masks/, or train/images"
        ):
            find_dataset(empty_dataset.root)


def test_a_dataset_without_some_pairs_keeps_the_rest(empty_dataset):
    found = find_dataset(empty_dataset.fill(3, "train").fill(1, "val").root)
    gone = [found.splits["train"][1], found.splits["val"][0]]
    assert [p.stem for p in found.without(gone).pairs()] == ["train0", "train2"]
    assert list(found.without(gone).splits) == ["train", "val"]
    assert found.without([]) == found


def test_class_ids_are_read_by_the_key_alone(empty_dataset):
    truth = blobs(0)
    mask = empty_dataset.mask("a.png", colored(truth))
    image = empty_dataset.image("a.png", encoded(truth))
    (pair,) = find_dataset(empty_dataset.root).pairs()
    assert (pair.image, pair.mask) == (image, mask)
    colors = [(0, 0, 0), (128, 64, 128), (70, 70, 70), (0, 0, 142)]
    key = LabelKey.of("color", make_classes(list("abcd"), colors))
    assert np.array_equal(read_class_ids(pair, key), truth)


def test_lossy_masks_are_read_if_the_key_says_so(empty_dataset):
    truth = blobs(0, classes=2)
    empty_dataset.mask("a.jpg", encoded(truth * 255, ".jpg"))
    empty_dataset.image("a.png", encoded(truth))
    (pair,) = find_dataset(empty_dataset.root).pairs()
    info = DatasetInfo(classes=make_classes(["a", "b"]))
    with pytest.raises(InputError, match=r"a\.jpg — a JPEG mask"):
        read_class_ids(pair, info.key("binary"))
    assert np.mean(read_class_ids(pair, info.key("binary", lossy=True)) == truth) > 0.99


def test_default_colours_leave_the_background_black_and_are_far_apart():
    colors = np.array([default_color(i) for i in range(12)], int)
    assert colors[0].tolist() == [0, 0, 0]
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(12, dtype=int)
    assert apart.min() > 80
    assert len({default_color(i) for i in range(254)}) == 254


def test_a_value_that_counts_nowhere_is_marked_in_the_class_ids(dataset):
    path = dataset.root / "masks" / "0.png"
    values = squares(0)[1]
    values[0] = 77
    path.write_bytes(png(values))
    info = DatasetInfo(classes=THREE.classes, ignore_id=77)
    ids = read_class_ids(find_dataset(dataset.root).pairs()[0], info.key("index"))
    assert (ids[0] == IGNORE).all()
    assert np.array_equal(ids[1:], values[1:])
