"""What is made of mask values that no class has, of two ways to store one class, and of palettes in another order."""

import re

import numpy as np
import pytest
from datasets import jpeg, png, squares
from masks import paletted

from training.data.check import check_dataset
from training.errors import DataError


def discs(dataset, *values, first=0, split=""):
    """Add a pair per tuple of values: a picture whose mask has each value in an area of its own."""
    for i, found in enumerate(values, start=first):
        image_bgr, _ = squares(i)
        mask = np.full((32, 32), found[0], np.uint16 if max(found) > 255 else np.uint8)
        for place, value in enumerate(found[1:]):
            mask[2 * place : 2 * place + 2, i : i + 9] = value
        dataset.image(f"{i:02d}.png", png(image_bgr), split)
        dataset.mask(f"{i:02d}.png", png(mask), split)
    return dataset


def refused(dataset):
    """Return the messages of the errors of a check."""
    return [p.message for p in check_dataset(dataset.root).problems if p.severity == "error"]


class TestValuesWithoutAClass:
    @pytest.mark.parametrize(
        "values",
        [
            *((0, 128, 255), (0, 127, 255), (0, 85, 170, 255), (0, 63, 127, 191, 255), (0, 100, 200), (0, 128)),
            *((0, 7000), (10, 20, 30), (0, 50, 150, 250)),
        ],
    )
    def test_are_written_as_ids_with_classes_to_name(self, empty_dataset, values):
        discs(empty_dataset, *[values] * 3)
        names = ["background", *(f"class_{i}" for i in range(1, len(values)))]
        classes = f"classes: [{', '.join(names)}]"
        ids = f"ids: {{{', '.join(f'{value}: {name}' for value, name in zip(values, names, strict=True))}}}"
        messages = refused(empty_dataset)
        assert len(messages) == 3
        for message in messages:
            assert message.endswith(f"say which class each value is: write `{classes}` and `{ids}` in dataset.yaml")
        empty_dataset.yaml(f"{classes}\n{ids}\n")
        assert check_dataset(empty_dataset.root).images_with.tolist() == [3] * len(values)

    def test_are_written_with_the_names_that_are_stated(self, empty_dataset):
        discs(empty_dataset, *[(0, 128, 255)] * 2).yaml("classes: [floor, box, cup]\n")
        assert refused(empty_dataset)[0].endswith(
            "say which class each value is: write `ids: {0: floor, 128: box, 255: cup}` in dataset.yaml"
        )

    @pytest.mark.parametrize(
        "name", ["car, red", "bg: all", "a #1", "it's", "[x]", "- y", "*", "null", "a:", "ä ö", '"q"']
    )
    def test_are_written_with_names_that_need_quotes(self, empty_dataset, name):
        quoted = "'" + name.replace("'", "''") + "'"
        yaml = f"classes: [background, {quoted}]\n"
        discs(empty_dataset, *[(0, 128)] * 2).yaml(yaml)
        (written,) = {re.search(r"write `(ids: .*)` in", message)[1] for message in refused(empty_dataset)}
        empty_dataset.yaml(yaml + written)
        report = check_dataset(empty_dataset.root)
        assert (report.ok, report.info.ids) == (True, ((0, 0), (128, 1)))

    def test_leave_a_name_to_fill_in_if_there_are_more_than_classes(self, empty_dataset):
        discs(empty_dataset, *[(0, 100, 200)] * 2).yaml("classes: [floor, box]\n")
        assert refused(empty_dataset)[0].endswith("write `ids: {0: floor, 100: CLASS, 200: CLASS}` in dataset.yaml")

    def test_are_shown_in_part_if_they_are_many_and_evenly_spaced(self, empty_dataset):
        discs(empty_dataset, range(0, 121, 12), range(120, 241, 12))
        assert refused(empty_dataset)[0].endswith("60: class_5, 72: class_6, 84: class_7, …}` in dataset.yaml")

    @pytest.mark.parametrize(
        ("values", "names"), [((1, 2, 3), "road, tree, sky"), ((1, 2), "a, b"), ((2, 3), "x, y, z")]
    )
    def test_that_start_at_one_are_so_called(self, empty_dataset, values, names):
        discs(empty_dataset, *[values] * 2).yaml(f"classes: [{names}]\n")
        ids = ", ".join(f"{i}: {name}" for i, name in enumerate(names.split(", "), start=1))
        assert refused(empty_dataset)[0].endswith(f"ids seem to start at 1: write `ids: {{{ids}}}` in dataset.yaml")
        empty_dataset.yaml(f"classes: [{names}]\nids: {{{ids}}}\n")
        assert refused(empty_dataset) == []

    def test_that_may_start_at_one_beside_something_unlabelled_have_both_remedies(self, empty_dataset):
        discs(empty_dataset, *[(0, 1, 2, 3)] * 2).yaml("classes: [road, tree, sky]\n")
        assert refused(empty_dataset)[0].endswith(
            "add the class or set ignore_id in dataset.yaml, or correct the mask; if 0 is none of the classes, ids start "
            "at 1: write `ids: {0: null, 1: road, 2: tree, 3: sky}` in dataset.yaml"
        )

    def test_of_one_mask_among_good_ones_are_judged_by_that_mask(self, empty_dataset):
        discs(empty_dataset, (0, 1, 2), (0, 1, 2), (0, 1, 9)).yaml("classes: [a, b, c]\n")
        assert refused(empty_dataset)[0].endswith("add the class or set ignore_id in dataset.yaml, or correct the mask")

    @pytest.mark.parametrize("yaml", ["", "classes: [background, cell]\n"])
    @pytest.mark.parametrize("white", [255, 254, 250])
    def test_at_the_edges_of_a_white_below_255_are_soft(self, empty_dataset, white, yaml):
        for i in range(3):
            levels = np.zeros((32, 32), np.uint8)
            levels[:, 22:], levels[:, 12:22] = white, np.linspace(20, 230, 10).astype(np.uint8) + i
            empty_dataset.image(f"{i}.png", png(squares(i)[0]))
            empty_dataset.mask(f"{i}.png", png(levels))
        if yaml:
            empty_dataset.yaml(yaml)
        report = check_dataset(empty_dataset.root)
        assert (report.ok, report.encoding) == (True, "soft")
        assert report.pixels.tolist() == [3 * 32 * 17, 3 * 32 * 15]

    def test_of_ids_where_black_and_white_is_stated_need_the_other_encoding(self, empty_dataset):
        discs(empty_dataset, (0, 1), (0, 1)).yaml("classes: [a, b]\nmask_encoding: binary\n")
        assert refused(empty_dataset)[0].endswith(
            "the masks hold class ids: set mask_encoding: index in dataset.yaml in place of binary"
        )


class TestMasksOfTwoTools:
    @pytest.mark.parametrize("names", [None, ("floor", "box")])
    @pytest.mark.parametrize(("ones", "whites"), [(4, 4), (6, 2), (2, 6)])
    def test_are_refused_with_their_counts_and_the_remedy_reads_both(self, empty_dataset, names, ones, whites):
        discs(empty_dataset, *[(0, 1)] * ones, *[(0, 255)] * whites)
        if names:
            empty_dataset.yaml(f"classes: [{', '.join(names)}]\n")
        background, shown = names or ("background", "foreground" if whites > ones else "class_1")
        classes = f"classes: [{background}, {shown}]"
        ids = f"ids: {{0: {background}, 1: {shown}, 255: {shown}}}"
        remedy = f"write `{ids}`" if names else f"write `{classes}` and `{ids}`"
        messages = refused(empty_dataset)
        assert len(messages) == min(ones, whites), "the fewer are wrong"
        for message in messages:
            assert f"— {ones} masks hold ids as 1 and {whites} hold white (255) in their place: {remedy} in" in message
        empty_dataset.yaml(f"{classes}\n{ids}\n")
        report = check_dataset(empty_dataset.root)
        assert (report.ok, report.images_with.tolist()) == (True, [ones + whites, ones + whites])

    def test_of_several_classes_are_refused_too(self, empty_dataset):
        discs(empty_dataset, (0, 1, 2), (0, 2), (0, 255), (0, 255))
        messages = refused(empty_dataset)
        assert len(messages) == 2
        assert "2 masks hold ids as 1 and 2 hold white (255) in their place" in messages[0]
        assert "255: CLASS}" in messages[0]

    def test_with_soft_edges_are_refused_where_the_other_holds_ones(self, empty_dataset):
        discs(empty_dataset, (0, 1), (0, 1))
        for i in range(2, 6):
            mask = np.zeros((32, 32), np.uint8)
            mask[:, 22:], mask[:, 12:22] = 255, np.linspace(20, 230, 10).astype(np.uint8) + i
            empty_dataset.image(f"{i:02d}.png", png(squares(i)[0]))
            empty_dataset.mask(f"{i:02d}.png", png(mask))
        messages = refused(empty_dataset)
        assert len(messages) == 2
        assert all("2 masks hold ids as 1 and 4 hold white (255) in their place" in message for message in messages)

    @pytest.mark.parametrize(
        "masks",
        [
            [(0, 1, 255), (0, 1, 255), (0, 1)],
            [(0, 1, 255), (0, 1), (0, 255)],
            [(0, 1, 2, 255), (0, 2), (0, 255)],
            [(0, 1), (0, 1), (255,)],
        ],
    )
    def test_are_not_seen_where_255_lies_beside_ids(self, empty_dataset, masks):
        report = check_dataset(discs(empty_dataset, *masks).root)
        assert (report.ok, report.info.ignore_id) == (True, 255)

    @pytest.mark.parametrize("yaml", ["", "classes: [background, cell]\n", "classes: [background, cell, dirt]\n"])
    @pytest.mark.parametrize("stray", [(0, 1, 255), (0, 1, 2, 255), (0, 1)])
    def test_are_black_and_white_where_a_stray_value_lies_in_one_of_many(self, empty_dataset, stray, yaml):
        discs(empty_dataset, *[(0, 255)] * 5, stray)
        if yaml:
            empty_dataset.yaml(yaml)
        messages = refused(empty_dataset)
        assert all("1 masks hold ids as 1 and 5 hold white (255) in their place" in message for message in messages)
        assert not any("ignore_id" in message for message in messages), "every object would be ignored"
        if "dirt" not in yaml:
            assert [message.split(" — ")[1].split(" (")[0] for message in messages] == ["unknown label id 1"]
            assert "05.png" in messages[0]

    @pytest.mark.parametrize("stray", [2, 128, 254])
    def test_are_black_and_white_whatever_the_stray_value_is(self, empty_dataset, stray):
        discs(empty_dataset, *[(0, 255)] * 5, (0, stray, 255))
        (message,) = refused(empty_dataset)
        assert f"05.png — unknown label id {stray} " in message

    def test_may_be_stated_to_be_one(self, empty_dataset):
        discs(empty_dataset, (0, 1), (0, 1), (0, 255), (0, 255)).yaml("classes: [a, b]\nignore_id: 255\n")
        assert check_dataset(empty_dataset.root).images_with.tolist() == [4, 2]


class TestPalettesAgainstColors:
    NAMES = "classes: [background, red, green]\n"
    COLORS = NAMES + "colors: [[0, 0, 0], [200, 0, 0], [0, 200, 0]]\n"

    def palettes(self, dataset, colors):
        """Add palette masks with these colours, and remember the pixels of each index."""
        for i in range(3):
            dataset.image(f"{i}.png", png(squares(i)[0]))
            dataset.mask(f"{i}.png", paletted(squares(i)[1], colors))
        self.pixels = np.sum([np.bincount(squares(i)[1].reshape(-1), minlength=3) for i in range(3)], axis=0).tolist()
        return dataset

    @pytest.mark.parametrize(
        ("colors", "encoding", "order"),
        [
            ([(0, 0, 0), (200, 0, 0), (0, 200, 0)], "palette", [0, 1, 2]),
            ([(0, 0, 0), (0, 200, 0), (200, 0, 0)], "color", [0, 2, 1]),
            ([(200, 0, 0), (0, 200, 0), (0, 0, 0)], "color", [2, 0, 1]),
            ([(9, 9, 9), (80, 80, 80), (1, 2, 3)], "palette", [0, 1, 2]),
            ([(0, 0, 0), (200, 0, 0), (9, 9, 9)], "palette", [0, 1, 2]),
            ([(0, 0, 0), (0, 0, 0), (0, 0, 0)], "palette", [0, 1, 2]),
        ],
    )
    def test_the_stated_colours_decide_where_all_are_stated(self, empty_dataset, colors, encoding, order):
        self.palettes(empty_dataset, colors).yaml(self.COLORS)
        report = check_dataset(empty_dataset.root)
        assert (report.ok, report.encoding) == (True, encoding)
        assert report.pixels.tolist() == [self.pixels[i] for i in order]

    def test_a_contradiction_that_colours_cannot_decide_is_refused(self, empty_dataset):
        self.palettes(empty_dataset, [(0, 0, 0), (0, 200, 0), (9, 9, 9)]).yaml(self.COLORS)
        with pytest.raises(
            DataError, match=r"index 1 is shown in the colour of 'green' .* index 1 is 'red' .* mask_enc"
        ):
            check_dataset(empty_dataset.root)
        empty_dataset.yaml(self.COLORS + "mask_encoding: palette\n")
        assert check_dataset(empty_dataset.root).pixels.tolist() == self.pixels

    def test_ids_that_are_stated_decide_against_colours(self, empty_dataset):
        self.palettes(empty_dataset, [(0, 0, 0), (0, 200, 0), (200, 0, 0)])
        empty_dataset.yaml(self.COLORS + "ids: {0: background, 1: red, 2: green}\n")
        assert check_dataset(empty_dataset.root).pixels.tolist() == self.pixels

    def test_colours_that_are_not_stated_leave_the_indices(self, empty_dataset):
        self.palettes(empty_dataset, [(0, 0, 0), (0, 200, 0), (200, 0, 0)]).yaml(self.NAMES)
        assert check_dataset(empty_dataset.root).pixels.tolist() == self.pixels


class TestPalettesOfGreys:
    @staticmethod
    def check(dataset, palette, *, yaml="", greys=0, values=(0, 255)):
        """Check masks whose index 1 is a fourth of the pixels, the last ones in one channel with two values."""
        for i in range(4):
            ids = np.zeros((32, 32), np.uint8)
            ids[8 * i : 8 * i + 8] = 1
            dataset.image(f"{i}.png", png(squares(i)[0]))
            as_grey = png(np.array(values, np.uint8)[ids])
            dataset.mask(f"{i}.png", as_grey if i >= 4 - greys else paletted(ids, [(v, v, v) for v in palette]))
        if yaml:
            dataset.yaml(yaml)
        return check_dataset(dataset.root)

    TWO, THREE = "classes: [ground, a]\n", "classes: [ground, a, b]\n"

    @pytest.mark.parametrize(
        ("palette", "yaml", "encoding", "shares"),
        [
            ((0, 2), "", "index", [3, 0, 1]),
            ((0, 2), THREE, "index", [3, 0, 1]),
            ((2, 0), THREE, "index", [1, 0, 3]),
            ((0, 255), "", "binary", [3, 1]),
            ((255, 0), "", "binary", [1, 3]),
            ((255, 0), TWO, "binary", [1, 3]),
            ((0, 128), THREE + "ids: {0: ground, 7: a, 128: b}\n", "index", [3, 0, 1]),
            # Greys that only show the ids.
            ((0, 85), "", "palette", [3, 1]),
            ((85, 170), THREE, "palette", [3, 1, 0]),
            ((0, 255), THREE, "palette", [3, 1, 0]),
            ((0, 255), TWO + "ignore_id: 255\n", "palette", [3, 1]),
            ((255, 0), TWO + "mask_encoding: palette\n", "palette", [3, 1]),
            ((0, 128), THREE + "ids: {0: ground, 1: b}\n", "palette", [3, 0, 1]),
        ],
    )
    def test_are_levels_where_these_are_ids_or_white(self, empty_dataset, palette, yaml, encoding, shares):
        report = self.check(empty_dataset, palette, yaml=yaml)
        assert (report.ok, report.encoding) == (True, encoding)
        assert (4 * report.pixels / report.pixels.sum()).tolist() == shares

    @pytest.mark.parametrize(("palette", "values"), [((0, 255), (0, 255)), ((255, 0), (255, 0)), ((0, 2), (0, 2))])
    @pytest.mark.parametrize("greys", [1, 2, 3])
    def test_are_levels_beside_masks_of_these(self, empty_dataset, palette, values, greys):
        report = self.check(empty_dataset, palette, greys=greys, values=values)
        assert report.ok
        assert sorted(report.pixels.tolist())[-2:] == [1024, 3072]
        assert report.pixels[0] == (3072 if palette[0] == 0 else 1024)

    @pytest.mark.parametrize("palette", [(0, 127), (0, 255)])
    def test_are_refused_beside_ids_that_have_other_levels(self, empty_dataset, palette):
        report = self.check(empty_dataset, palette, greys=3, values=(0, 1), yaml=self.TWO + "ignore_id: 255\n")
        (problem,) = (p for p in report.problems if p.severity == "error")
        assert problem.code == "mixed_encoding"


def test_black_is_the_background_of_colour_masks_even_if_another_colour_has_more_pixels(empty_dataset):
    for i in range(3):
        mask = np.full((32, 32, 3), (10, 20, 200), np.uint8)
        mask[:8], mask[8:12] = 0, (200, 20, 10)
        empty_dataset.image(f"{i}.png", png(squares(i)[0]))
        empty_dataset.mask(f"{i}.png", png(np.roll(mask, i, axis=0)))
    names = [c.name for c in check_dataset(empty_dataset.root).info.classes]
    assert names == ["background", "color_c8140a", "color_0a14c8"]


class TestSplitsWithoutAPixelThatCounts:
    @pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train")])
    def test_are_refused(self, empty_dataset, split, other):
        discs(empty_dataset, (0, 1), (0, 1), split=other)
        discs(empty_dataset, (255,), (255,), first=5, split=split).yaml("classes: [a, b]\nignore_id: 255\n")
        (message,) = refused(empty_dataset)
        assert message.startswith(f"split {split} — every pixel of its masks is ignored — expected pixels of a class")

    def test_may_be_the_test_split(self, empty_dataset):
        discs(empty_dataset, (0, 1), (0, 1), split="train")
        discs(empty_dataset, (255,), first=5, split="test").yaml("classes: [a, b]\nignore_id: 255\n")
        report = check_dataset(empty_dataset.root)
        assert report.ok
        assert [p.code for p in report.problems] == ["empty_mask"]

    @pytest.mark.parametrize("ignored", ["ids: {1: null, 0: null}", "ignore_id: 255"])
    def test_are_refused_in_a_dataset_without_splits(self, empty_dataset, ignored):
        value = 255 if "255" in ignored else 1
        discs(empty_dataset, (value,), (value,)).yaml(f"classes: [a, b]\n{ignored}\n")
        assert "split train — every pixel of its masks is ignored" in refused(empty_dataset)[0]


def blocks(seed):
    """Return a (96, 96, 3) uint8 picture of coarse blocks, unlike that of any other seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.kron(small, np.ones((16, 16, 1), np.uint8))


class TestOneMaskForManyImages:
    MASK = np.kron(squares(0)[1], np.ones((3, 3), np.uint8))

    def codes(self, dataset, masks):
        for i, mask in enumerate(masks):
            dataset.image(f"{i:02d}.png", png(blocks(i)))
            dataset.mask(f"{i:02d}.png", png(mask))
        return {p.code: p.message for p in check_dataset(dataset.root).problems}

    @pytest.mark.parametrize(("same", "others"), [(2, 0), (8, 0), (3, 9)])
    def test_is_warned_about_once(self, empty_dataset, same, others):
        masks = [self.MASK] * same + [np.roll(self.MASK, i + 1, axis=1) for i in range(others)]
        message = self.codes(empty_dataset, masks)["shared_mask"]
        assert message.startswith(f"one mask for {same} different images: {empty_dataset.root}/masks/00.png is ident")

    def test_is_seen_in_files_that_differ(self, empty_dataset):
        found = self.codes(empty_dataset, [self.MASK, np.dstack([self.MASK] * 3), self.MASK])
        assert "one mask for 3 different images" in found["shared_mask"]

    def test_is_no_matter_for_two_of_many(self, empty_dataset):
        masks = [self.MASK] * 2 + [np.roll(self.MASK, i + 1, axis=1) for i in range(9)]
        assert "shared_mask" not in self.codes(empty_dataset, masks)

    @pytest.mark.parametrize("value", [0, 1])
    def test_is_no_matter_for_masks_of_one_class(self, empty_dataset, value):
        masks = [np.full((96, 96), value, np.uint8)] * 5 + [self.MASK]
        assert "shared_mask" not in self.codes(empty_dataset, masks)

    def test_is_right_for_exposures_of_which_only_neighbours_look_alike(self, empty_dataset):
        for i in range(7):
            mixed = blocks(0) * (1 - i / 6) + blocks(1) * (i / 6)
            empty_dataset.image(f"{i}.png", png(mixed.astype(np.uint8)))
            empty_dataset.mask(f"{i}.png", png(self.MASK))
        assert "shared_mask" not in {p.code for p in check_dataset(empty_dataset.root).problems}

    def test_is_right_for_frames_of_a_still_scene(self, empty_dataset):
        noise = np.random.default_rng(0)
        for i in range(5):
            frame = np.clip(blocks(0).astype(int) + noise.integers(-4, 5, (96, 96, 3)) + i, 0, 255)
            empty_dataset.image(f"{i}.png", png(frame.astype(np.uint8)))
            empty_dataset.mask(f"{i}.png", png(self.MASK))
        assert "shared_mask" not in {p.code for p in check_dataset(empty_dataset.root).problems}


class TestOtherNumbersForOneClass:
    def test_are_both_read_as_the_remedy_says(self, empty_dataset):
        discs(empty_dataset, *[(0, 1)] * 3, *[(0, 100)] * 2)
        message = refused(empty_dataset)[0]
        assert "3 masks hold 1 and 2 hold 100 in its place" in message
        empty_dataset.yaml("classes: [background, class_1]\nids: {0: background, 1: class_1, 100: class_1}\n")
        assert "`ids: {0: background, 1: class_1, 100: class_1}`" in message
        assert check_dataset(empty_dataset.root).images_with.tolist() == [5, 5]

    def test_ids_without_the_background_name_it(self, empty_dataset):
        discs(empty_dataset, *[(0, 3)] * 3).yaml("classes: [background, cell]\nids: {3: cell}\n")
        assert refused(empty_dataset)[0].endswith("add 0: background to ids in dataset.yaml")


def test_a_single_class_cannot_be_learnt(empty_dataset):
    discs(empty_dataset, *[(0, 255)] * 3).yaml("classes: [background, cell]\nignore_id: 255\n")
    (message,) = refused(empty_dataset)
    assert "split train — all pixels that count are of class 'background'" in message
    assert "correct ignore_id" in message


@pytest.mark.parametrize(("level", "refused_near"), [(100, "near 1?[09][0-9] "), (255, None)])
def test_a_third_level_in_jpeg_masks_is_no_black(empty_dataset, level, refused_near):
    for i in range(4):
        image_bgr, _ = squares(i)
        mask = np.zeros((32, 32), np.uint8)
        mask[4:14, i : i + 10], mask[18:28, 18:28] = 255, level
        empty_dataset.image(f"{i}.jpg", jpeg(image_bgr))
        empty_dataset.mask(f"{i}.jpg", jpeg(mask))
    problems = check_dataset(empty_dataset.root, allow_lossy_mask=True).problems
    errors = [p.message for p in problems if p.severity == "error"]
    assert len(errors) == (4 if refused_near else 0), errors
    assert all(re.search(refused_near or "", message) for message in errors)
