"""``edge-unet eval`` reads masks as training did, knows the images that the model was trained on, and tolerates what it did."""

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest
from colors import COLOR_CLASSES, color_scene, color_truth

from edge_runtime import cli
from edge_runtime.dataset.label_key import IGNORE, LabelKey
from edge_runtime.dataset.provenance import TRAINING_IMAGES, TrainingData
from edge_runtime.errors import InputError, ModelError
from edge_runtime.model.package import MANIFEST, Package
from edge_runtime.models import located
from edge_runtime.segment.evaluation import evaluate_dataset
from edge_runtime.segment.segmenter import Segmenter

RGB = np.array([c.color for c in COLOR_CLASSES], np.uint8)
STORED = np.array([0, 127, 255], np.uint8)
IDS = LabelKey.of("index", COLOR_CLASSES, ids={0: 0, 127: 1, 255: 2})
OTHER = (9, 8, 7)


def with_provenance(package, labels=None, images=None):
    """Return the package as export writes it, with the label key of its training masks and its training images."""
    manifest = json.loads((package / MANIFEST).read_text())
    if labels is not None:
        manifest["provenance"]["labels"] = labels if isinstance(labels, dict) else labels.to_dict()
    if images is not None:
        data = b"".join(sorted(hashlib.sha256(path.read_bytes()).digest()[:8] for path in images))
        (package / TRAINING_IMAGES).write_bytes(data)
        manifest["files"][TRAINING_IMAGES] = hashlib.sha256(data).hexdigest()
    (package / MANIFEST).write_text(json.dumps(manifest))
    return package


def scene(shift=0):
    image = np.roll(color_scene(), shift, axis=1)
    return image, color_truth(image)


def write(root, encode, count=3, split="", suffix=".png"):
    """Write scenes with masks as ``encode(ids)`` stores them."""
    for kind in ("images", "masks"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, ids = scene(8 * i + 2 * len(split))
        cv2.imwrite(str(root / split / "images" / f"{i}.png"), image)
        cv2.imwrite(str(root / split / "masks" / f"{i}{suffix}"), encode(ids))
    return root


def as_colors(ids):
    return RGB[ids][..., ::-1]


def images_of(root, split=""):
    return sorted((root / split / "images").iterdir())


def score(package, root, *arguments, **options):
    return evaluate_dataset(Segmenter.load(package), root, *arguments, **options)


class TestDatasetYaml:
    NAMES = tuple(c.name for c in COLOR_CLASSES)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("classes: [{0}, {1}, {2}]", None),
            ("classes: ['{0}', \"{1}\", {2}]  # three\n", None),
            ("# mine\nclasses:\n  - {0}\n\n  - '{1}' # the first\n- {2}\nignore_id: 255\n", None),
            ("classes: [{0}, {2}, {1}]", "classes are {0}, {2}, {1} — the model has {0}, {1}, {2} —"),
            ("classes:\r\n- {1}\r\n- {0}\r\n- {2}\r\n", "classes are {1}, {0}, {2} — the model has"),
            ("classes: [{0}, {1}]", "classes are {0}, {1} — the model has"),
            ("classes: [{0},\n  {1}, {2}]", None),
            ("classes: [{0}, {1}\n  {2}, {2}]", "is there and not read"),
            ("classes: [{0}, {1}, {2}]\nignore_id: 2\n", "ignore_id is 2 — the model has a class of this id"),
            ("classes: [{0}, 'it''s', {2}]", "is there and not read"),
            ("classes:\n- name: {0}\n- name: {1}\n", "is there and not read"),
            ("classes: &names [{0}, {1}, {2}]", "is there and not read"),
            ("classes: [a: b]", "is there and not read"),
            ("ignore_id: 255", "is there and not read"),
            ("\x00\xff", "is there and not read"),
        ],
    )
    def test_with_other_classes_or_unclear_ones_is_named(self, color_package, tmp_path, capsys, text, said):
        root = write(tmp_path / "data", lambda ids: ids)
        (root / "Dataset.YAML").write_text(text.format(*self.NAMES), newline="")
        assert cli.main(["eval", str(color_package), str(root)]) == 0
        notes = [line for line in capsys.readouterr().err.splitlines() if "Dataset.YAML" in line]
        assert len(notes) == (said is not None)
        assert said is None or said.format(*self.NAMES) in notes[0]
        assert said is None or "masks are read as in training" in notes[0]


class TestMasks:
    @pytest.mark.parametrize(
        ("labels", "encode"),
        [
            (IDS, lambda ids: STORED[ids]),
            (IDS, lambda ids: as_colors(ids)),  # in another encoding, the colours of the classes say it
            (LabelKey.of("index", COLOR_CLASSES, ids={1: 0, 2: 1, 3: 2}), lambda ids: ids + np.uint8(1)),
            (LabelKey.of("index", COLOR_CLASSES, ids={0: 0, 1000: 1, 2000: 2}), lambda ids: np.uint16(1000) * ids),
            (LabelKey.of("index", COLOR_CLASSES, ignore_id=255), lambda ids: ids),
            (LabelKey.of("color", COLOR_CLASSES), as_colors),
            (LabelKey.of("color", COLOR_CLASSES), lambda ids: ids),
            (None, lambda ids: ids),
            (None, as_colors),
        ],
    )
    def test_are_read_as_training_read_them(self, color_package, tmp_path, labels, encode):
        root = write(tmp_path / "data", encode)
        assert score(with_provenance(color_package, labels), root).mean_iou == 1.0

    @pytest.mark.parametrize(
        ("labels", "encode"),
        [
            (
                LabelKey.of("index", COLOR_CLASSES, ids={0: 0, 127: 1, 255: 2, 4: IGNORE}),
                lambda ids: np.where(np.arange(48)[:, None] < 8, 4, STORED[ids]).astype(np.uint8),
            ),
            (
                LabelKey.of("index", COLOR_CLASSES, ignore_id=77),
                lambda ids: np.where(np.arange(48)[:, None] < 8, 77, ids).astype(np.uint8),
            ),
            (
                LabelKey.of("color", COLOR_CLASSES, ignore_colors=[OTHER]),
                lambda ids: np.where(np.arange(48)[:, None, None] < 8, OTHER[::-1], as_colors(ids)).astype(np.uint8),
            ),
        ],
    )
    def test_ignore_what_training_ignored(self, color_package, tmp_path, labels, encode):
        root = write(tmp_path / "data", encode, count=1)
        assert int(score(with_provenance(color_package, labels), root).matrix.sum()) == 40 * 64

    @pytest.mark.parametrize("values", [(0, 1), (0, 255)])
    @pytest.mark.parametrize("encoding", ["index", "binary", "soft"])
    def test_of_two_classes_may_hold_ids_or_black_and_white(self, make_color_package, tmp_path, encoding, values):
        package = make_color_package(binary=True)
        with_provenance(package, LabelKey.of(encoding, COLOR_CLASSES[:2]))
        root = write(tmp_path / "data", lambda ids: np.array(values, np.uint8)[(ids == 1).astype(int)])
        assert score(package, root).mean_iou == 1.0

    def test_that_contradict_training_are_refused_with_what_it_read(self, color_package, tmp_path, capsys):
        root = write(tmp_path / "data", lambda ids: ids)  # 1 and 2, where training read 127 and 255
        assert cli.main(["eval", str(with_provenance(color_package, IDS)), str(root)]) == 3
        err = capsys.readouterr().err
        assert "unknown label id 1 (" in err
        assert "trained on masks of 0 background, 127 red, 255 blue: store the masks so" in err
        assert "dataset.yaml" not in err

    @pytest.mark.parametrize(("bare", "way"), [(True, "evaluate its package"), (False, "export it again")])
    def test_of_a_model_that_does_not_say_have_a_remedy(self, color_package, tmp_path, capsys, bare, way):
        root = write(tmp_path / "data", lambda ids: STORED[ids])
        model = color_package / "model.onnx" if bare else color_package
        assert cli.main(["eval", str(model), str(root)]) == 3
        err = capsys.readouterr().err
        assert f"or {way}: a package that says how training read the masks" in err
        assert "dataset.yaml" not in err

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({**IDS.to_dict(), "encoding": "colour"}, r"provenance.labels: encoding is 'colour'"),
            (LabelKey.of("index", COLOR_CLASSES[:2]), "provenance.labels is of 2 classes — expected 3"),
        ],
    )
    def test_cannot_be_read_by_a_key_that_is_none(self, color_package, tmp_path, labels, message):
        with pytest.raises(ModelError, match=message):
            score(with_provenance(color_package, labels), write(tmp_path / "data", lambda ids: ids))


class TestBlackAndWhiteMasks:
    """Of the person model, whose own masks are ids and ignore 255."""

    @pytest.fixture
    def package(self):
        return located("person-small")

    @staticmethod
    def halves(root, white):
        return write(
            root, lambda ids: np.where(np.arange(len(ids))[:, np.newaxis] < 20, white, 0 * ids).astype(np.uint8)
        )

    def test_white_is_the_class_and_not_ignored(self, package, tmp_path, capsys):
        ids, white = (self.halves(tmp_path / str(value), value) for value in (1, 255))
        assert score(package, white).to_dict() == score(package, ids).to_dict()
        assert cli.main(["eval", str(package), str(white)]) == 0
        assert "masks hold 0 and 255 alone: 255 is read as 'person' and not ignored" in capsys.readouterr().err

    def test_white_beside_the_class_is_ignored(self, package, tmp_path):
        root = self.halves(tmp_path, 255)
        mask = cv2.imread(str(root / "masks" / "0.png"), cv2.IMREAD_GRAYSCALE)
        mask[-1] = 1
        cv2.imwrite(str(root / "masks" / "0.png"), mask)
        evaluation = evaluate_dataset(Segmenter.load(package), root)
        assert evaluation.matrix.sum() == 3 * mask.size - 3 * 20 * mask.shape[1]
        assert evaluation.white_class is None


class TestTrainingImages:
    @pytest.fixture
    def flat(self, tmp_path):
        return write(tmp_path / "data", lambda ids: ids, count=5)

    def run(self, capsys, package, root, *options):
        code = cli.main(["eval", str(package), str(root), "--json", *options])
        out, err = capsys.readouterr()
        assert code == 0, err
        value = json.loads(out)
        return (value["images"], value["trained_on"], value["left_out"]), err

    def test_are_left_out_where_training_held_out_others(self, color_package, flat, capsys):
        package = with_provenance(color_package, images=images_of(flat)[:4])
        assert self.run(capsys, package, flat) == (
            (1, 0, {"trained_on": 4}),
            "4 images were trained on and left out: 1 held out are measured (--split all: every image)\n",
        )

    def test_are_measured_and_counted_if_all_are_asked_for(self, color_package, flat, capsys):
        package = with_provenance(color_package, images=images_of(flat)[:4])
        assert self.run(capsys, package, flat, "--split", "all") == (
            (5, 4, {}),
            "4 of 5 images were trained on: the figures flatter the model\n",
        )

    def test_are_measured_and_counted_if_there_are_no_others(self, color_package, flat, capsys):
        package = with_provenance(color_package, images=images_of(flat))
        facts, err = self.run(capsys, package, flat)
        assert (facts, err[:6]) == ((5, 5, {}), "5 of 5")
        assert cli.main(["eval", str(package), str(flat)]) == 0
        assert "\ntrained on           5\n" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("split", "facts"),
        [
            ((), (2, 1, {})),
            (("--split", "val"), (2, 1, {})),
            (("--split", "train"), (3, 3, {})),
            (("--split", "all"), (5, 4, {})),
        ],
    )
    def test_in_a_named_split_are_counted(self, color_package, tmp_path, capsys, split, facts):
        root = write(write(tmp_path / "data", lambda ids: ids, split="train"), lambda ids: ids, count=2, split="val")
        package = with_provenance(color_package, images=[*images_of(root, "train"), images_of(root, "val")[0]])
        assert self.run(capsys, package, root, *split)[0] == facts

    def test_alone_in_train_are_left_out_as_in_a_flat_dataset(self, color_package, tmp_path, capsys):
        root = write(tmp_path / "data", lambda ids: ids, count=4, split="train")
        package = with_provenance(color_package, images=images_of(root, "train")[1:])
        assert self.run(capsys, package, root)[0] == (1, 0, {"trained_on": 3})

    def test_are_known_by_their_bytes_under_another_name(self, color_package, flat, capsys):
        package = with_provenance(color_package, images=images_of(flat)[:4])
        for kind in ("images", "masks"):
            for path in sorted((flat / kind).iterdir()):
                path.rename(path.with_stem(f"x{path.stem}"))
        moved = shutil.move(flat, flat.with_name("elsewhere"))
        assert self.run(capsys, package, moved)[0] == (1, 0, {"trained_on": 4})

    def test_are_unknown_without_the_file(self, color_package, flat, capsys):
        assert self.run(capsys, color_package, flat) == ((5, None, {}), "")
        assert self.run(capsys, color_package / "model.onnx", flat) == ((5, None, {}), "")

    def test_are_whole_digests(self, color_package, flat):
        with_provenance(color_package, images=images_of(flat))
        data = (color_package / TRAINING_IMAGES).read_bytes()[:-1]
        (color_package / TRAINING_IMAGES).write_bytes(data)
        manifest = json.loads((color_package / MANIFEST).read_text())
        manifest["files"][TRAINING_IMAGES] = hashlib.sha256(data).hexdigest()
        (color_package / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ModelError, match=r"training-images\.bin — 39 bytes — expected a multiple of 8"):
            TrainingData.of(Package.open(color_package))


class TestImagesWithoutAMask:
    @pytest.mark.parametrize(
        ("stated", "arguments", "code"),
        [(True, (), 0), (False, (), 3), (None, (), 3), ("true", (), 3), (None, ("--empty-without-mask",), 0)],
    )
    def test_are_background_if_they_were_in_training(self, color_package, tmp_path, capsys, stated, arguments, code):
        root = write(tmp_path / "data", lambda ids: ids)
        (root / "masks" / "0.png").unlink()
        manifest = json.loads((color_package / MANIFEST).read_text())
        if stated is not None:
            manifest["provenance"]["empty_without_mask"] = stated
        (color_package / MANIFEST).write_text(json.dumps(manifest))
        assert cli.main(["eval", str(color_package), str(root), *arguments]) == code
        assert ("1 of 3 images have no mask: all background" in capsys.readouterr().err) == (code == 0)


def test_pages_that_are_not_measured_are_counted(color_package, tmp_path, capsys):
    root = write(tmp_path / "data", lambda ids: ids)
    image = cv2.imread(str(root / "images" / "0.png"))
    (root / "images" / "0.png").unlink()
    cv2.imwritemulti(str(root / "images" / "0.tiff"), [image, image[::-1]])
    assert cli.main(["eval", str(color_package), str(root)]) == 0
    assert "1 of 3 images have several pages or frames: the first one counts" in capsys.readouterr().err
    assert evaluate_dataset(Segmenter.load(color_package), root).several_pages == 1


class TestTolerance:
    def test_of_jpeg_masks(self, make_color_package, tmp_path, capsys):
        package = make_color_package(binary=True)
        root = write(tmp_path / "data", lambda ids: np.uint8(255) * (ids == 1), suffix=".jpg")
        assert cli.main(["eval", str(package), str(root)]) == 3
        assert "a JPEG mask" in capsys.readouterr().err
        assert cli.main(["eval", str(package), str(root), "--allow-lossy-mask", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mean_iou"] > 0.95

    @pytest.mark.parametrize("encoding", ["binary", "soft"])
    def test_of_jpeg_masks_is_that_of_training(self, make_color_package, tmp_path, encoding):
        package = make_color_package(binary=True)
        with_provenance(package, LabelKey.of(encoding, COLOR_CLASSES[:2], lossy=True))
        root = write(tmp_path / "data", lambda ids: np.uint8(255) * (ids == 1), suffix=".jpg")
        assert score(package, root).mean_iou > 0.95

    def test_of_jpeg_masks_in_colours(self, color_package, tmp_path):
        root = write(tmp_path / "data", as_colors, suffix=".jpg")
        assert score(color_package, root, allow_lossy_mask=True).mean_iou > 0.9

    def test_of_what_does_not_pair(self, color_package, tmp_path, capsys):
        root = write(tmp_path / "data", lambda ids: ids)
        (root / "masks" / "0.png").unlink()
        (root / "images" / "1.png").unlink()
        assert cli.main(["eval", str(color_package), str(root)]) == 3
        assert "2 problems" in capsys.readouterr().err
        assert cli.main(["eval", str(color_package), str(root), "--allow-unpaired", "--json"]) == 0
        out, err = capsys.readouterr()
        assert (json.loads(out)["images"], json.loads(out)["left_out"]) == (1, {"unpaired": 2})
        assert err.startswith(f"left out: no mask for image {root / 'images' / '0.png'} — ")
        assert err.endswith(" (and 1 more)\n")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda root: (root / "images" / "0.png").write_bytes(b""), "0.png"),
            (lambda root: (root / "masks" / "0.png").write_bytes(b"x" * 99), "0.png"),
            (lambda root: cv2.imwrite(str(root / "masks" / "0.png"), np.zeros((5, 5), np.uint8)), "5x5 pixels"),
            (lambda root: cv2.imwrite(str(root / "masks" / "0.png"), np.full((48, 64), 9, np.uint8)), "label id 9"),
        ],
    )
    def test_of_bad_pairs(self, color_package, tmp_path, spoil, message):
        root = write(tmp_path / "data", lambda ids: ids)
        spoil(root)
        with pytest.raises(InputError, match=message):
            score(color_package, root)
        done = []
        evaluation = score(color_package, root, skip_bad=True, on_progress=lambda *step: done.append(step))
        assert (evaluation.images, evaluation.mean_iou, len(evaluation.left_out["bad"])) == (2, 1.0, 1)
        assert message in evaluation.left_out["bad"][0]
        assert done[-1][1] == done[-1][2]

    def test_leaves_something_to_measure(self, color_package, tmp_path):
        root = write(tmp_path / "data", lambda ids: ids, count=1)
        (root / "images" / "0.png").write_bytes(b"")
        with pytest.raises(InputError, match="evaluation — "):
            score(color_package, root, skip_bad=True)

    def test_has_the_words_of_train(self, capsys):
        helps = []
        for command in ("eval", "train"):
            with pytest.raises(SystemExit):
                cli.main([command, "--help"])
            helps.append(" ".join(capsys.readouterr().out.split()))
        for text in (
            "--skip-bad leave out pairs with an error, such as a damaged file or a mask of another size",
            "--allow-unpaired leave out images without a mask and masks without an image",
            "--allow-lossy-mask accept JPEG masks; each pixel is read as the nearest known value",
        ):
            assert all(text in help_text for help_text in helps)
