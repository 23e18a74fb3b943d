"""Pictures of one place are told from copies of one picture, and what looks the same stays on one side of a split."""

import cv2
import numpy as np
import pytest
from datasets import DatasetFolder, jpeg, png
from faults import scene, scenes

from edge_runtime.cli import main
from training.config import TrainConfig
from training.data.check import check_dataset, render
from training.data.check.duplicates import turn
from training.data.validation import with_validation
from training.errors import DataError

HEIGHT, WIDTH = 120, 160
PLACE = cv2.resize(scene(1)[0], (WIDTH, HEIGHT))
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
CLOTH = np.repeat((120 + 50 * np.sin(COLUMNS / 2.1) * np.sin(ROWS / 2.7))[..., None], 3, 2).astype(np.uint8)


def photograph(place, seed, gain=1.0):
    """Return another photograph of a place: other noise, and other light."""
    noise = np.random.default_rng(seed).normal(0, 2, place.shape)
    return np.clip(gain * place + noise, 0, 255).astype(np.uint8)


def with_spot(seed, place, contrast=-60, gain=1.0):
    """Return a photograph with a spot of 6 pixels in a place that depends on the seed, and its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(mask, (int(rng.integers(8, WIDTH - 8)), int(rng.integers(8, HEIGHT - 8))), 3, 1, -1)
    return np.clip(photograph(place, seed, gain) + contrast * mask[..., None].astype(float), 0, 255).astype(
        np.uint8
    ), mask


def with_scratch(seed, place):
    """Return a photograph with a scratch of one pixel's width, and its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = int(rng.integers(5, WIDTH - 45)), int(rng.integers(5, HEIGHT - 25))
    cv2.line(mask, (x, y), (x + 40, y + int(rng.integers(-4, 20))), 1, 1)
    image_bgr = photograph(place, seed)
    image_bgr[mask > 0] = 10
    return image_bgr, mask


def without(seed, place):
    return photograph(place, seed), np.zeros((HEIGHT, WIDTH), np.uint8)


def put(dataset, name, pair, split=""):
    image_bgr, mask = pair
    dataset.image(f"{name}.png", png(np.ascontiguousarray(image_bgr)), split)
    dataset.mask(f"{name}.png", png(np.ascontiguousarray(mask)), split)


def found(dataset, **options):
    report = check_dataset(dataset.root, **options)
    return {(p.severity, p.code) for p in report.problems if p.code in ("leak", "near_duplicate", "duplicate")}


def validated(report, recorded=None, **settings):
    """Return the dataset with its validation split, and the phrase for its origin."""
    found = with_validation(TrainConfig.from_preset("edge", **settings), report, recorded)
    return found.dataset, found.split_by


class TestACameraThatDoesNotMove:
    @pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test"), ("",)])
    @pytest.mark.parametrize(
        ("take", "place"),
        [(with_spot, PLACE), (with_spot, CLOTH), (with_scratch, PLACE), (with_scratch, CLOTH)],
        ids=["spots", "spots on cloth", "scratches", "scratches on cloth"],
    )
    def test_takes_no_copies_of_small_defects(self, empty_dataset, splits, take, place):
        for number, split in enumerate(splits):
            for i in range(5):
                put(empty_dataset, f"{split}{i}", take(10 * number + i, place), split)
        assert found(empty_dataset) == set()
        assert check_dataset(empty_dataset.root).copies == ()

    def test_takes_no_copies_with_a_faint_defect_in_other_light(self, empty_dataset):
        for split, gain in (("train", 1.0), ("val", 0.8)):
            for i in range(5):
                put(empty_dataset, f"{split}{i}", with_spot(10 * (split == "val") + i, PLACE, -15, gain), split)
        assert found(empty_dataset) == set()

    def test_is_a_warning_where_nothing_is_to_be_seen(self, empty_dataset):
        for split in ("train", "val"):
            for i in range(3):
                put(empty_dataset, f"{split}{i}", without(10 * (split == "val") + i, PLACE), split)
        report = check_dataset(empty_dataset.root)
        found = [(p.severity, p.message) for p in report.problems if p.code == "near_duplicate"]
        assert [severity for severity, _ in found] == ["warning"] * 3
        assert all("without an object, in train and val: " in message for _, message in found)

    def test_is_known_by_its_defects_where_there_are_some(self, empty_dataset):
        for split in ("train", "val"):
            for i in range(3):
                put(empty_dataset, f"{split}{i}", without(10 * (split == "val") + i, PLACE), split)
                put(empty_dataset, f"{split}x{i}", with_spot(30 * (split == "val") + i, PLACE), split)
        assert found(empty_dataset) == set()

    def test_takes_no_copies_of_a_part_that_moves_a_little(self, empty_dataset):
        for split, offset in (("train", 0), ("val", 2)):
            image_bgr, mask = photograph(PLACE, offset), np.zeros((HEIGHT, WIDTH), np.uint8)
            cv2.circle(mask, (60 + offset, 60), 5, 1, -1)
            image_bgr[mask > 0] = 20
            put(empty_dataset, split, (image_bgr, mask), split)
        assert found(empty_dataset) == set()

    def test_of_a_place_with_a_mask_too_many_is_told_which(self, empty_dataset):
        image_bgr, mask = with_spot(1, PLACE)
        put(empty_dataset, "a", (image_bgr, mask), "train")
        empty_dataset.image("b.jpg", jpeg(image_bgr), "val")
        empty_dataset.mask("b.png", png(np.ascontiguousarray(np.roll(mask, 40, 1))), "val")
        report = check_dataset(empty_dataset.root)
        (problem,) = (p for p in report.problems if p.code != "rare_class")
        assert (problem.severity, problem.code) == ("warning", "near_duplicate")
        assert problem.message.startswith("pictures that look the same, with different masks, in train and val: ")

    def test_is_split_as_if_its_pictures_had_nothing_in_common(self, empty_dataset):
        for i in range(20):
            put(empty_dataset, f"{i:02}", with_spot(i, PLACE), "train")
        report = check_dataset(empty_dataset.root)
        dataset, how = validated(report, validation_fraction=0.25)
        assert (len(dataset.splits["val"]), how) == (5, "held out by seed")


class TestCopies:
    @pytest.mark.parametrize("annotated", ["the same", "a little larger"])
    @pytest.mark.parametrize("variant", range(0, 8, 3))
    @pytest.mark.parametrize("scale", [1.0, 0.6])
    def test_in_two_splits_are_an_error_however_they_were_turned_and_outlined(
        self, empty_dataset, variant, scale, annotated
    ):
        dataset = scenes(empty_dataset.root, train=4, val=2)
        image_bgr, ids = (np.ascontiguousarray(turn(x, variant)) for x in scene(2, 144, 192))
        if annotated == "a little larger":
            ids = cv2.dilate(ids, np.ones((5, 5), np.uint8))
        image_bgr = cv2.resize(image_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        dataset.image("copy.jpg", jpeg(image_bgr), "val")
        dataset.mask("copy.png", png(cv2.resize(ids, image_bgr.shape[1::-1], interpolation=cv2.INTER_NEAREST)), "val")
        report = check_dataset(dataset.root)
        (problem,) = (p for p in report.problems if p.severity == "error")
        assert problem.code == "near_duplicate"
        assert problem.message.endswith(
            "— 1 of 3 val images have a copy in train: the val mean IoU is too good — remove one, or pass --allow-copies"
        )

    @pytest.mark.parametrize("same_bytes", [False, True])
    def test_pass_if_they_are_allowed_and_the_split_says_how_many(self, empty_dataset, same_bytes, capsys):
        dataset = scenes(empty_dataset.root, train=4, val=2)
        image_bgr, ids = scene(2)
        dataset.image("copy.png" if same_bytes else "copy.jpg", (png if same_bytes else jpeg)(image_bgr), "val")
        dataset.mask("copy.png", png(ids), "val")
        code = "leak" if same_bytes else "near_duplicate"
        assert found(dataset) == {("error", code)}
        assert found(dataset, allow_copies=True) == {("warning", code)}
        assert main(["data", "check", str(dataset.root)]) == 3
        assert (
            "1 of 3 val images have a copy in train: the val mean IoU is too good"
            in capsys.readouterr().out.splitlines()
        )
        assert main(["data", "check", str(dataset.root), "--allow-copies"]) == 0
        assert "--allow-copies" not in capsys.readouterr().out
        report = check_dataset(dataset.root, allow_copies=True)
        _, how = validated(report)
        assert how == "the dataset's val folder; 1 of its 3 images have a copy in train: mean IoU is too good"


def exposures(root, plates=12, each=4, **sizes):
    """Write plates that were each photographed several times, in other light, under names that say nothing."""
    dataset = DatasetFolder(root)
    names = iter(np.random.default_rng(5).permutation(1000).tolist())
    plate_of = {}
    for plate in range(plates):
        image_bgr, ids = scene(plate, HEIGHT, WIDTH)
        for exposure in range(sizes.get(f"plate{plate}", each)):
            name = f"n{next(names):04}"
            plate_of[name] = plate
            put(dataset, name, (photograph(image_bgr, 100 * plate + exposure, 0.7 + 0.15 * exposure), ids), "train")
    return dataset, plate_of


class TestSplit:
    @pytest.mark.parametrize("seed", range(3))
    def test_by_seed_has_no_picture_on_both_sides(self, empty_dataset, seed):
        dataset, plate_of = exposures(empty_dataset.root)
        report = check_dataset(dataset.root)
        assert {(p.severity, p.code) for p in report.problems} == {("warning", "near_duplicate")}
        split, how = validated(report, validation_fraction=0.25, seed=seed)
        train, val = ({plate_of[p.stem] for p in split.splits[s]} for s in ("train", "val"))
        assert train.isdisjoint(val)
        assert len(split.splits["val"]) == 12
        assert how == "held out by seed; 48 near copies of 12 scenes are kept together"
        assert "validation: held out of train by seed; 48 near copies of 12 scenes are kept together" in render(report)

    def test_joins_groups_that_share_a_picture(self, empty_dataset):
        dataset, plate_of = exposures(empty_dataset.root, plates=8, each=2)
        first = {plate: name for name, plate in reversed(plate_of.items())}
        rows = [f"{name},{'one' if name == first[plate] else 'two'}_{plate // 2}" for name, plate in plate_of.items()]
        (dataset.root / "groups.csv").write_text("\n".join(["file,group", *rows]))
        split, how = validated(check_dataset(dataset.root), validation_fraction=0.25)
        assert how == "held out by seed, in whole groups; 16 near copies of 8 scenes are kept together"
        assert len({plate_of[p.stem] // 2 for p in split.splits["val"]}) == 1
        assert len(split.splits["val"]) == 4

    def test_falls_back_where_nearly_everything_looks_the_same(self, empty_dataset):
        dataset, plate_of = exposures(empty_dataset.root, plates=3, each=2, plate0=16)
        split, how = validated(check_dataset(dataset.root), validation_fraction=0.3)
        assert how.startswith(
            "held out by seed; 4 near copies of 2 scenes are kept together; 16 images look alike, too many"
        )
        assert len(split.splits["val"]) == 6
        assert {plate_of[p.stem] for p in split.splits["train"]} >= {0}

    def test_of_pictures_without_copies_is_by_their_names_alone(self, tmp_path):
        report = check_dataset(scenes(tmp_path, train=20, val=0).root)
        split, how = validated(report, validation_fraction=0.2, seed=3)
        assert how == "held out by seed"
        assert sorted(p.stem for p in split.splits["val"]) == ["train00", "train12", "train14", "train19"]

    def test_of_a_run_that_is_resumed_is_the_recorded_one(self, tmp_path):
        report = check_dataset(scenes(tmp_path, train=8, val=0).root)
        pairs = report.dataset.splits["train"]
        names = [tuple(str(f.relative_to(tmp_path)) for f in (p.image, p.mask)) for p in pairs]
        split, how = validated(report, {"train": names[1:], "val": names[:1]})
        assert (split.splits["val"], how) == (pairs[:1], "as recorded when the run began")
        afresh, _ = validated(report)
        assert len(afresh.splits["val"]) == 1
        for other in ({"train": names[2:], "val": names[:1]}, {"train": [("gone.png", "gone.png")], "val": names}):
            assert validated(report, other)[0] == afresh, "the dataset has other pairs by now"

    def test_needs_something_to_train_on(self, empty_dataset):
        dataset = scenes(empty_dataset.root, train=0, val=2)
        with pytest.raises(DataError, match="nothing to train on"):
            validated(check_dataset(dataset.root))
