import cv2
import numpy as np
import pytest
from datasets import COLORS_BGR, png, squares
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import InputError
from edge_runtime.image import read_image
from edge_runtime.labels import IGNORE
from edge_runtime.pairs import Pair
from edge_runtime.preprocess import model_input, resize_mask
from training.dataset import (
    Dataset,
    DatasetInfo,
    default_color,
    find_dataset,
    infer_info,
    load_arrays,
    make_classes,
    read_info,
    with_validation,
)
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

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("classes: [a, b]\nignore-id: 3", "unknown key 'ignore-id' — did you mean 'ignore_id'?"),
            ("class: [a, b]", "unknown key 'class' — did you mean 'classes'?"),
            ("classes: [a, b]\npath: x", "unknown key 'path' — expected classes, ignore_id, colors, mask_encoding"),
            ("- a\n- b", "found list — expected keys: classes, ignore_id, colors, mask_encoding"),
            ("", "found NoneType — expected keys: classes"),
            ("classes: [a, b", "not valid YAML (while parsing a flow sequence"),
            ("classes: !!python/object/apply:os.getcwd []", "not valid YAML (could not determine a constructor"),
            ("ignore_id: 3", "classes is None — expected a list of 2 to 254 different names"),
            ("classes: [a]", "classes is ['a'] — expected a list of 2 to 254 different names"),
            ("classes: [a, a]", "classes is ['a', 'a'] — expected a list of 2 to 254 different names"),
            ("classes: [1, '1']", "classes is [1, '1'] — expected a list of 2 to 254 different names"),
            ("classes: [a, b]\nignore_id: 256", "ignore_id is 256 — expected a mask value from 0 to 255"),
            ("classes: [a, b]\nignore_id: true", "ignore_id is True — expected a mask value from 0 to 255"),
            ("classes: [a, b]\ncolors: [[0, 0, 0]]", "expected 2 lists of red, green, blue from 0 to 255"),
            ("classes: [a, b]\ncolors: [[0, 0, 0], [0, 0, 256]]", "expected 2 lists of red, green, blue from 0 to 255"),
            ("classes: [a, b]\nmask_encoding: rgb", "mask_encoding is 'rgb' — expected auto, index, binary, palette"),
            ("classes: [a, b]\nmask_encoding: color", "color is not read yet — map the colours to ids"),
        ],
    )
    def test_is_read_strictly(self, dataset, text, message):
        path = dataset.yaml(text)
        with pytest.raises(DataError) as refused:
            read_info(dataset.root)
        assert str(refused.value).startswith(f"{path} — ")
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)

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
        ("make", "found"), [(False, "no such folder"), (True, "no images/ and no train/images/ inside")]
    )
    def test_of_another_kind_is_refused(self, empty_dataset, make, found):
        if make:
            (empty_dataset.root / "pictures").mkdir(parents=True)
        with pytest.raises(
            InputError, match=f"^dataset .*/data — {found} — expected images/ and masks/, or train/images"
        ):
            find_dataset(empty_dataset.root)


def pairs_named(count, tmp_path):
    return tuple(Pair(stem=f"{i:03d}", image=tmp_path / f"{i}.png", mask=tmp_path / f"{i}.png") for i in range(count))


class TestValidationSplit:
    @given(count=st.integers(2, 60), fraction=st.floats(0.01, 0.6), seed=st.integers(0, 2**31))
    def test_is_disjoint_complete_and_stable(self, tmp_path_factory, count, fraction, seed):
        pairs = pairs_named(count, tmp_path_factory.getbasetemp())
        whole = Dataset(root=tmp_path_factory.getbasetemp(), splits={"train": pairs}, problems=())
        held_out = with_validation(whole, fraction, seed)
        train, val = held_out.splits["train"], held_out.splits["val"]
        assert sorted([*train, *val], key=lambda p: p.stem) == list(pairs)
        assert len(val) == max(1, round(count * fraction))
        assert held_out == with_validation(whole, fraction, seed)

    def test_depends_on_the_seed(self, tmp_path):
        whole = Dataset(root=tmp_path, splits={"train": pairs_named(40, tmp_path)}, problems=())
        assert len({with_validation(whole, 0.2, seed).splits["val"] for seed in range(5)}) == 5

    def test_that_exists_is_kept(self, empty_dataset):
        found = find_dataset(empty_dataset.fill(2, "train").fill(1, "val").root)
        assert with_validation(found, 0.5, 0) is found

    @pytest.mark.parametrize("count", [0, 1])
    def test_needs_two_pairs(self, tmp_path, count):
        few = Dataset(root=tmp_path, splits={"train": pairs_named(count, tmp_path)}, problems=())
        with pytest.raises(DataError, match=f"— {count} pairs to train on — expected at least 2$"):
            with_validation(few, 0.1, 0)


class TestInferredClasses:
    @pytest.mark.parametrize("values", [{0}, {255}, {0, 255}])
    def test_of_black_and_white_masks_are_two(self, values):
        info = infer_info(values)
        assert [c.name for c in info.classes] == ["background", "foreground"]
        assert info.ignore_id is None

    def test_are_numbered_up_to_the_highest(self):
        assert [c.name for c in infer_info({0, 1, 3}).classes] == ["background", "class_1", "class_2", "class_3"]
        assert infer_info({0, 1, 3}).ignore_id is None

    def test_leave_255_to_the_pixels_that_do_not_count(self):
        info = infer_info({0, 1, 2, 255})
        assert (len(info.classes), info.ignore_id) == (3, 255)

    def test_are_not_made_up_from_values_that_are_no_ids(self):
        assert len(infer_info({0, 38, 75, 113}).classes) == 2
        assert len(infer_info({0, 1, 2, 200}).classes) == 3

    @given(st.sets(st.integers(0, 255), min_size=1))
    def test_always_make_a_valid_contract(self, values):
        names = [c.name for c in infer_info(values).classes]
        assert 2 <= len(names) <= 254
        assert len(set(names)) == len(names)


def test_default_colours_leave_the_background_black_and_are_far_apart():
    colors = np.array([default_color(i) for i in range(12)], int)
    assert colors[0].tolist() == [0, 0, 0]
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(12, dtype=int)
    assert apart.min() > 80
    assert len({default_color(i) for i in range(254)}) == 254


def load(root, info=THREE, encoding="index", height_px=32, width_px=32, channels=3):
    pairs = find_dataset(root).pairs()
    return load_arrays(pairs, info, encoding, height_px=height_px, width_px=width_px, channels=channels)


class TestArrays:
    def test_are_rgb_and_masks_are_ids(self, dataset):
        arrays = load(dataset.root)
        assert (arrays.images.shape, arrays.images.dtype) == ((3, 32, 32, 3), np.uint8)
        assert (arrays.masks.shape, arrays.masks.dtype) == ((3, 32, 32), np.uint8)
        assert arrays.names == ("0.png", "1.png", "2.png")
        assert np.array_equal(arrays.masks[0], squares(0)[1])
        red_rgb = arrays.images[arrays.masks == 1].mean(axis=0)
        assert np.abs(red_rgb - COLORS_BGR[1][::-1]).max() < 10

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("size", [(32, 32), (64, 32), (48, 80)])
    def test_hold_the_pixels_that_the_runtime_would_see(self, dataset, channels, size):
        arrays = load(dataset.root, height_px=size[0], width_px=size[1], channels=channels)
        for i, pair in enumerate(find_dataset(dataset.root).pairs()):
            seen_bgr = model_input(read_image(pair.image), *size, channels)
            assert np.array_equal(arrays.images[i], seen_bgr[..., ::-1])
            assert np.array_equal(arrays.masks[i], resize_mask(squares(i)[1], *size))

    def test_of_grey_images_have_one_channel(self, empty_dataset):
        image_bgr, ids = squares(5)
        grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
        empty_dataset.image("a.png", png(grey))
        empty_dataset.mask("a.png", png(ids))
        arrays = load(empty_dataset.root, channels=1)
        assert np.array_equal(arrays.images, grey[np.newaxis, ..., np.newaxis])

    def test_mark_what_counts_nowhere(self, dataset):
        path = dataset.root / "masks" / "0.png"
        values = squares(0)[1]
        values[0] = 77
        path.write_bytes(png(values))
        info = DatasetInfo(classes=THREE.classes, ignore_id=77)
        assert (load(dataset.root, info).masks[0, 0] == IGNORE).all()

    def test_tell_each_pair_that_is_done(self, dataset):
        done = []
        pairs = find_dataset(dataset.root).pairs()
        load_arrays(pairs, THREE, "index", height_px=32, width_px=32, channels=3, on_pair=lambda: done.append(None))
        assert len(done) == 3
