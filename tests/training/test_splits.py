"""Held-out images: whole groups, near the fraction, the same everywhere."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.dataset.pairs import Pair
from training.data.dataset import Dataset
from training.data.splits import FRAMES, find_groups, hold_out_by_seed, hold_out_groups, leaking_groups, suggest_groups
from training.errors import DataError

ROOT = Path("data")
PINNED = ("img_4", "img_5", "img_6")
"""What seed 7 holds out of img_0 … img_9: another answer means that resumed runs would see other images."""


def dataset_of(root=ROOT, **splits):
    def at(stem, split):
        folder = root / split
        return Pair(stem=stem, image=folder / "images" / f"{stem}.jpg", mask=folder / "masks" / f"{stem}.png")

    return Dataset(root=root, splits={s: tuple(at(n, s) for n in stems) for s, stems in splits.items()}, problems=())


def videos(**frames):
    """Return a dataset of so many frames a video, and their groups."""
    dataset = dataset_of(train=[f"{name}_{i:04d}" for name, count in frames.items() for i in range(count)])
    return dataset, find_groups(dataset, r"^(.+)_\d+$")


def stems(dataset, split):
    return [p.stem for p in dataset.splits[split]]


SIZES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 12), min_size=2, max_size=8)


class TestValidationSplit:
    @given(count=st.integers(2, 60), fraction=st.floats(0.01, 0.6), seed=st.integers(0, 2**31))
    def test_is_disjoint_complete_and_stable(self, count, fraction, seed):
        whole = dataset_of(train=[f"{i:03d}" for i in range(count)])
        held_out = hold_out_by_seed(whole, fraction, seed)
        train, val = held_out.splits["train"], held_out.splits["val"]
        assert sorted([*train, *val], key=lambda p: p.stem) == list(whole.splits["train"])
        assert len(val) == max(1, round(count * fraction))
        assert held_out == hold_out_by_seed(whole, fraction, seed)

    def test_depends_on_the_seed(self):
        whole = dataset_of(train=[str(i) for i in range(40)])
        assert len({hold_out_by_seed(whole, 0.2, seed).splits["val"] for seed in range(5)}) == 5

    def test_is_the_same_on_every_machine_and_for_every_order_of_the_files(self):
        names = [f"img_{i}" for i in range(10)]
        found = {
            tuple(sorted(stems(hold_out_by_seed(dataset_of(train=order), 0.3, 7), "val")))
            for order in (names, names[::-1])
        }
        assert found == {PINNED}

    @pytest.mark.parametrize("names", [[], ["a"]])
    def test_needs_two_pairs(self, names):
        with pytest.raises(DataError, match=f"— {len(names)} pairs to train on — expected at least 2, to hold one out"):
            hold_out_by_seed(dataset_of(train=names), 0.1, 0)

    def test_leaves_the_other_splits_and_problems(self):
        whole = dataset_of(train=["a", "b", "c"], test=["t"])
        assert stems(hold_out_by_seed(whole, 0.3, 0), "test") == ["t"]


class TestGroupedSplit:
    @given(sizes=SIZES, fraction=st.floats(0.05, 0.9), seed=st.integers(0, 1000), labelled=st.booleans())
    def test_keeps_groups_whole_and_is_as_near_as_they_allow(self, sizes, fraction, seed, labelled):
        dataset, groups = videos(**sizes)
        classes_in = {p: frozenset({0, 1}) for p in dataset.pairs()} if labelled else None
        split = hold_out_by_seed(dataset, fraction, seed, groups=groups, classes_in=classes_in)
        held, kept = ({groups[p] for p in split.splits[s]} for s in ("val", "train"))
        assert held and kept and held.isdisjoint(kept)
        total = sum(sizes.values())
        possible = {0}
        for size in sizes.values():
            possible |= {s + size for s in possible}
        target = min(max(1, round(total * fraction)), total - 1)
        nearest = min(abs(s - target) for s in possible - {0, total})
        assert abs(len(split.splits["val"]) - target) == nearest

    def test_has_each_class_on_both_sides(self):
        names = [f"{i:03d}" for i in range(100)]
        dataset = dataset_of(train=names)
        rare = {1: {3, 77}, 2: {10, 11, 12}, 3: {50}}
        classes_in = {
            p: frozenset({0, *(c for c, where in rare.items() if int(p.stem) in where)}) for p in dataset.pairs()
        }
        for seed in range(20):
            split = hold_out_by_seed(dataset, 0.1, seed, classes_in=classes_in)
            held, kept = (Counter(c for p in split.splits[s] for c in classes_in[p]) for s in ("val", "train"))
            assert len(split.splits["val"]) == 10
            assert held.keys() == {0, 1, 2}
            assert kept.keys() == {0, 1, 2, 3}, "what only one image has is to train on"

    @given(sizes=SIZES, fraction=st.floats(0.05, 0.9), seed=st.integers(0, 1000))
    def test_with_classes_still_has_both_sides(self, sizes, fraction, seed):
        dataset, groups = videos(**sizes)
        random = Random(seed)
        classes_in = {p: frozenset(c for c in range(4) if random.random() < 0.3) for p in dataset.pairs()}
        split = hold_out_by_seed(dataset, fraction, seed, groups=groups, classes_in=classes_in)
        held, kept = ({groups[p] for p in split.splits[s]} for s in ("val", "train"))
        assert held and kept and held.isdisjoint(kept)
        assert len(split.pairs()) == len(dataset.pairs())

    @pytest.mark.parametrize("labelled", [False, True])
    def test_leaves_a_group_to_train_on_even_where_all_would_be_nearer(self, labelled):
        dataset, groups = videos(a=5, b=5)
        # Class 0 is in one frame of each group: a class that fits on both sides, at any fraction.
        classes_in = (
            {p: frozenset({0} if p.stem.endswith("0000") else ()) for p in dataset.pairs()} if labelled else None
        )
        for seed in range(5):
            split = hold_out_by_seed(dataset, 0.9, seed, groups=groups, classes_in=classes_in)
            assert [len(split.splits[s]) for s in ("train", "val")] == [5, 5]

    def test_fills_up_with_groups_that_have_no_class(self):
        names = ("a", "b", "c", "d")
        for sizes in ((9, 9, 1, 1), (1, 1, 9, 9)):
            dataset, groups = videos(**dict(zip(names, sizes, strict=True)))
            only = {"a": {0}, "b": {1}}
            classes_in = {p: frozenset(only.get(groups[p], ())) for p in dataset.pairs()}
            split = hold_out_by_seed(dataset, 0.9, 0, groups=groups, classes_in=classes_in)
            assert {groups[p] for p in split.splits["val"]} == {"c", "d"}, "the only ones of a class are to train on"

    def test_of_one_group_is_refused(self):
        dataset, groups = videos(a=5)
        with pytest.raises(DataError, match="all 5 pairs are of group 'a' — expected at least 2 groups"):
            hold_out_by_seed(dataset, 0.2, 0, groups=groups)

    def test_of_many_images_is_quick(self):
        dataset = dataset_of(train=[f"{i}" for i in range(5000)])
        assert len(hold_out_by_seed(dataset, 0.1, 0).splits["val"]) == 500


class TestGroupsToHoldOut:
    def test_become_validation_and_the_folder_is_left_aside(self):
        dataset = dataset_of(train=["a_1", "a_2", "b_1", "c_1"], val=["a_9"], test=["z_1"])
        split = hold_out_groups(dataset, ["a", "c"], find_groups(dataset, "^(.)_"))
        assert (stems(split, "train"), stems(split, "val"), stems(split, "test")) == (
            ["b_1"],
            ["a_1", "a_2", "c_1"],
            ["z_1"],
        )

    def test_must_be_in_train_and_leave_something(self):
        dataset, groups = videos(morning=2, evening=2)
        with pytest.raises(DataError, match="group 'evenin' — not in train — did you mean 'evening'"):
            hold_out_groups(dataset, ["evenin"], groups)
        with pytest.raises(DataError, match="group 'x' — not in train — expected of evening, morning"):
            hold_out_groups(dataset, ["x"], groups)
        with pytest.raises(DataError, match="groups morning, evening — are all of train — expected one to train on"):
            hold_out_groups(dataset, ["morning", "evening"], groups)


class TestGroups:
    def test_are_none_unless_somebody_says_so(self, tmp_path):
        assert find_groups(dataset_of(tmp_path, train=["a_1"])) is None

    def test_come_from_a_pattern_on_the_stem(self):
        dataset = dataset_of(train=["a_1", "b_2"], val=["a_3"])
        assert {p.stem: g for p, g in find_groups(dataset, "^(.+)_").items()} == {"a_1": "a", "b_2": "b", "a_3": "a"}

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("^(.+", r"groups pattern '\^\(\.\+' — .* — expected a regular expression"),
            ("^.+_", "0 groups in brackets — expected one"),
            ("^(a)(b)", "2 groups in brackets — expected one"),
            ("^(a)_", r"groups from pattern '\^\(a\)_' — none for b_2\.jpg — expected one for each image"),
            ("^(b?)", r"none for a_1\.jpg"),
        ],
    )
    def test_by_a_wrong_pattern_are_refused(self, pattern, message):
        with pytest.raises(DataError, match=message):
            find_groups(dataset_of(train=["a_1", "b_2"]), pattern)

    @pytest.mark.parametrize(
        "text",
        [
            "file,group\na_1,x\nb_2,y\n",
            "\ufefffile,group\r\na_1.jpg,x\r\n\r\nb_2.jpg,y\r\n",
            'file, group\n"train/images/a_1.jpg", "x"\nb_2,y\nlong_gone,z\n'.replace('"', ""),
        ],
    )
    def test_come_from_a_file_by_path_name_or_stem(self, tmp_path, text):
        (tmp_path / "groups.csv").write_bytes(text.encode())
        found = find_groups(dataset_of(tmp_path, train=["a_1", "b_2"]))
        assert {p.stem: g for p, g in found.items()} == {"a_1": "x", "b_2": "y"}

    @pytest.mark.parametrize("start", ["images\\", "./images/", ".\\images\\", "./", ".\\"])
    def test_come_from_a_file_by_a_path_as_other_systems_write_it(self, tmp_path, start):
        (tmp_path / "groups.csv").write_text(f"file,group\n{start}a.png,x\n{start}B.PNG,y\n")
        pairs = [Pair(stem=s, image=tmp_path / f"images/{s}.png", mask=None) for s in "ab"]
        dataset = Dataset(root=tmp_path, splits={"train": tuple(pairs)}, problems=())
        assert find_groups(dataset) == {pairs[0]: "x", pairs[1]: "y"}

    def test_by_a_pattern_go_before_the_file(self, tmp_path):
        (tmp_path / "groups.csv").write_text("nonsense")
        assert set(find_groups(dataset_of(tmp_path, train=["a_1"]), "^(.)").values()) == {"a"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", r"groups\.csv — its first line is '' — expected 'file,group'"),
            ("name,group\na_1,x", "its first line is 'name,group' — expected 'file,group'"),
            ("file,group\na_1", "line 2 is 'a_1' — expected a file and its group"),
            ("file,group\na_1,", "line 2 is 'a_1,' — expected a file and its group"),
            ("file,group\na_1,x\na_1,y", "line 3: 'a_1' is of 'x' and of 'y' — expected one group"),
            ("file,group\na_1,x", r"groups from .*groups\.csv — none for b_2\.jpg — expected one for each image"),
            (b"file,group\n\xff\xfe,x", "not a CSV file in UTF-8"),
        ],
    )
    def test_by_a_wrong_file_are_refused(self, tmp_path, text, message):
        (tmp_path / "groups.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(DataError, match=message):
            find_groups(dataset_of(tmp_path, train=["a_1", "b_2"]))

    def test_in_two_splits_are_found(self):
        dataset = dataset_of(train=["a_1", "b_2"], val=["a_3"], test=["a_4", "c_1"])
        assert leaking_groups(dataset, find_groups(dataset, "^(.)_")) == {"a": ("train", "val", "test")}


class TestSuggestedGroups:
    @pytest.mark.parametrize(
        "names",
        [
            [f"{v}_{30 * i:06d}" for v in ("0001TP", "0006R0") for i in range(9)],
            [f"{v}_{f}{30 * i:05d}" for v, f in (("Seq05VD", "f"), ("0016E5", "")) for i in range(9)],
            [f"clip-{v}-frame{i:03d}" for v in "abc" for i in range(5)],
        ],
    )
    def test_are_the_videos_of_frames(self, names):
        assert suggest_groups(names) == FRAMES
        dataset = dataset_of(train=names)
        assert len(set(find_groups(dataset, FRAMES).values())) in (2, 3)

    @pytest.mark.parametrize(
        "names",
        [
            [],
            ["a", "b", "c"],
            [f"{i:06d}" for i in range(50)],
            [f"frame_{i:04d}" for i in range(50)],
            [f"{breed}_{i}" for breed in ("beagle", "pug") for i in range(1, 120)],
            [f"{year}_{i * i * i % 9973:06d}" for year in (2007, 2008, 2009) for i in range(1, 60)],
            [f"part{i}_{e}" for i in range(30) for e in (1, 2)],
        ],
    )
    def test_are_none_for_other_names(self, names):
        assert suggest_groups(names) is None
