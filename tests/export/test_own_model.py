"""Keras models that were trained elsewhere: how they are read is found out, and what cannot be exported is refused."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from functools import cache
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from edge_runtime import Segmenter
from edge_runtime.cli import main
from edge_runtime.errors import UsageError
from export import ConvertError, ParityBudget, ParityError, export_model
from export.keras_model.archive import read_model
from training import write_dataset

SIDE = 32
CLASSES = ["floor", "red thing"]


@cache
def scenes(count: int = 12) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Blue and red squares on grey; the red ones are the foreground."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 120, (count, SIDE, SIDE, 3)).astype(np.uint8)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        for channel in (0, 2):
            top, left = rng.integers(0, SIDE - 12, 2)
            image[top : top + 10, left : left + 10] = 30
            image[top : top + 10, left : left + 10, channel] = 220
            mask[top : top + 10, left : left + 10] = channel == 0
    return images, masks


def redness(scale: float, offset: float, *, bgr: bool = False, output: str = "sigmoid") -> keras.Model:
    """A model that finds the red things among pixels of ``scale * p + offset``, in either order of the channels."""
    image = keras.Input((SIDE, SIDE, 3), name="input_1")
    layer = layers.Conv2D(1, 1, activation=None if output == "logits" else output)
    model = keras.Model(image, layer(image), name="redness")
    weights = np.array([1.0, -0.5, -0.7])[:: -1 if bgr else 1] / (10 * scale)
    bias = -160 / 10 - offset * weights.sum()
    layer.set_weights([weights.reshape(1, 1, 3, 1), np.array([bias])])
    return model


WAYS = {"0-1": (1 / 255, 0), "0-255": (1, 0), "-1-1": (1 / 127.5, -1)}


def export(model, folder: Path, **options) -> tuple[dict, list[str]]:
    notes: list[str] = []
    images, masks = scenes()
    arrays = () if "data" in options else (images, masks)
    classes = {} if "data" in options else {"classes": CLASSES}
    manifest = export_model(model, *arrays, out=folder / "package", int8="off", note=notes.append, **classes, **options)
    return dict(manifest.provenance["config"]), notes


class TestHowAModelIsRead:
    @pytest.mark.parametrize("bgr", [False, True], ids=["red first", "blue first"])
    @pytest.mark.parametrize("pixels", WAYS)
    def test_the_range_and_the_order_that_give_the_best_masks_are_taken(self, tmp_path, pixels, bgr):
        found, notes = export(redness(*WAYS[pixels], bgr=bgr), tmp_path)
        assert (found["pixels"], found["bgr"]) == (pixels, bgr)
        assert any(f"given to the model in {pixels}" in note for note in notes)
        assert any("blue first" in note for note in notes) == bgr
        images, masks = scenes()
        segmenter = Segmenter.load(tmp_path / "package")
        for image, mask in zip(images, masks, strict=True):
            np.testing.assert_array_equal(segmenter(image[..., ::-1]).mask, mask)

    def test_a_stated_range_that_is_wrong_is_kept_and_the_right_one_named(self, tmp_path):
        found, notes = export(redness(*WAYS["0-1"]), tmp_path, pixels="0-255")
        assert found["pixels"] == "0-255"
        (line,) = notes
        assert re.fullmatch(
            r"--pixels 0-255 — mean IoU 0\.\d+ .*, with --pixels 0-1 1\.000 — .* — export it again with --pixels 0-1",
            line,
        )

    @pytest.mark.parametrize(
        ("pixels", "expected"),
        [
            ("0-255", r"> 0; .* — no package was written — --pixels 0-255 — .* again with --pixels 0-1$"),
            ("0-1", "please report it"),
        ],
    )
    def test_where_numbers_differ_the_wrong_range_is_named_and_not_the_conversion(self, tmp_path, pixels, expected):
        with pytest.raises(ParityError, match=expected):
            export(redness(*WAYS["0-1"]), tmp_path, pixels=pixels, budget=ParityBudget(max_abs_diff=0.0))

    def test_a_stated_order_that_is_wrong_is_kept_and_the_right_one_named(self, tmp_path):
        found, notes = export(redness(*WAYS["0-1"]), tmp_path, bgr=True)
        assert found["bgr"] is True
        assert re.fullmatch(r"--pixels \S+ --bgr — .* — export it again with --pixels 0-1", notes[0])

    @pytest.mark.parametrize("layer", [layers.Rescaling(1 / 255), layers.Normalization(mean=100, variance=2500)])
    def test_in_doubt_the_models_own_first_layer_decides(self, tmp_path, layer):
        image = keras.Input((SIDE, SIDE, 3))
        last = layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="zeros", bias_initializer="ones")
        found, _ = export(keras.Model(image, last(layer(image))), tmp_path)
        assert found["pixels"] == "0-255"

    @pytest.mark.parametrize("output", ["sigmoid", "logits"])
    def test_what_the_model_gives_is_told_by_its_last_layer(self, tmp_path, output):
        assert export(redness(1, 0, output=output), tmp_path)[0]["output"] == output

    def test_what_the_layers_do_not_tell_is_measured(self, tmp_path):
        inner = redness(1, 0)
        model = keras.Model(inner.input, layers.Average()([inner.output, inner.output]))
        found, _ = export(model, tmp_path)
        assert found["output"] == "sigmoid"
        images, masks = scenes()
        np.testing.assert_array_equal(Segmenter.load(tmp_path / "package")(images[0][..., ::-1]).mask, masks[0])

    def test_a_live_model_may_have_layers_of_its_own(self, tmp_path):
        class Halved(layers.Layer):
            def call(self, x):
                return x / 2

        inner = redness(1, 0, output="logits")
        export(keras.Model(inner.input, layers.Activation("sigmoid")(Halved()(inner.output))), tmp_path)
        images, masks = scenes()
        np.testing.assert_array_equal(Segmenter.load(tmp_path / "package")(images[0][..., ::-1]).mask, masks[0])

    def test_the_original_is_left_as_it_was(self, tmp_path):
        model = redness(1, 0)
        before = [model.to_json(), *map(np.copy, model.get_weights())]
        export(model, tmp_path)
        assert model.to_json() == before[0]
        for weight, old in zip(model.get_weights(), before[1:], strict=True):
            np.testing.assert_array_equal(weight, old)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("outputs", "problem"),
        [
            (lambda x: [layers.Conv2D(1, 1)(x), layers.Conv2D(1, 3, padding="same")(x)], r"gives 2 outputs"),
            (lambda x: layers.Dense(2)(layers.GlobalAveragePooling2D()(x)), r"gives \(2,\) — expected a map"),
            (lambda x: layers.Conv2D(5, 1)(x), r"gives 5 channels — the masks have 2 classes"),
            (
                lambda x: layers.Conv2D(1, 1, activation="softmax")(x),
                r"softmax over one channel, which is 1 everywhere",
            ),
            (lambda x: layers.Conv2D(2, 1, kernel_initializer="zeros")(x), r"same probability for two classes at 100%"),
        ],
        ids=["outputs", "classifier", "classes", "softmax of one", "untrained"],
    )
    def test_a_model_that_gives_something_else(self, tmp_path, outputs, problem):
        image = keras.Input((SIDE, SIDE, 3))
        with pytest.raises(ConvertError, match=problem):
            export(keras.Model(image, outputs(image)), tmp_path)
        assert not (tmp_path / "package").exists()

    def test_a_model_that_takes_something_else(self, tmp_path):
        image = keras.Input((SIDE, SIDE, 4))
        with pytest.raises(ConvertError, match=r"takes images of shape \(32, 32, 4\) — expected 1 or 3 channels"):
            export(keras.Model(image, layers.Conv2D(1, 1)(image)), tmp_path)

    def test_a_model_of_any_size_needs_one(self, tmp_path):
        image = keras.Input((None, None, 3))
        with pytest.raises(UsageError, match=r"--input-size is missing — .* any size"):
            export(keras.Model(image, layers.Conv2D(1, 1)(image)), tmp_path)

    def test_a_size_that_the_layers_do_not_take(self, tmp_path):
        image = keras.Input((None, None, 3))
        x = layers.Concatenate()([layers.UpSampling2D()(layers.MaxPooling2D()(image)), image])
        with pytest.raises(UsageError, match=r"--input-size 31x32 — .* does not take it \(.+\) — choose the size"):
            export(keras.Model(image, layers.Conv2D(1, 1)(x)), tmp_path, input_size=(31, 32))

    def test_an_output_that_contradicts_the_layers(self, tmp_path):
        with pytest.raises(UsageError, match="--output softmax — model 'redness' ends in sigmoid"):
            export(redness(1, 0), tmp_path, output="softmax")


def members_of(model: keras.Model, folder: Path) -> dict[str, bytes]:
    model.save(folder / "good.keras")
    with zipfile.ZipFile(folder / "good.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class Canary:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "dead")


class TestFilesThatAreMoreThanAModel:
    """None of them runs: the canary stays absent."""

    def refuse(self, tmp_path: Path, path: Path, problem: str) -> None:
        with pytest.raises(ConvertError, match=problem):
            read_model(path)
        assert not (tmp_path / "canary").exists()

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_a_lambda(self, tmp_path, suffix):
        canary = str(tmp_path / "canary")
        image = keras.Input((8, 8, 3))

        def code(x):
            from pathlib import Path

            Path(canary).write_text("dead")
            return x

        model = keras.Model(image, layers.Lambda(code, name="trap")(image))
        (tmp_path / "canary").unlink()  # building it called it
        model.save(tmp_path / f"model{suffix}")
        (tmp_path / "canary").unlink(missing_ok=True)
        self.refuse(tmp_path, tmp_path / f"model{suffix}", r"holds layer Lambda \('trap'\)")

    @pytest.mark.parametrize("name", ["../canary", "/tmp/canary", "assets/vocabulary.txt", "a/../../canary"])
    def test_a_member_that_leaves_the_folder(self, tmp_path, name):
        members = members_of(redness(1, 0), tmp_path)
        with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
            for member, data in {**members, name: b"dead"}.items():
                archive.writestr(member, data)
        self.refuse(tmp_path, tmp_path / "bad.keras", "holds the file .* — expected only metadata.json")

    def test_a_member_twice(self, tmp_path):
        members = members_of(redness(1, 0), tmp_path)
        with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
            for member, data in [*members.items(), ("config.json", members["config.json"])]:
                archive.writestr(member, data)
        self.refuse(tmp_path, tmp_path / "bad.keras", "holds the file config.json — .* once each")

    def test_a_bomb(self, tmp_path):
        members = members_of(redness(1, 0), tmp_path)
        with zipfile.ZipFile(tmp_path / "bad.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in {**members, "model.weights.h5": bytes(80 * 2**20)}.items():
                archive.writestr(member, data)
        self.refuse(tmp_path, tmp_path / "bad.keras", r"model\.weights\.h5 unpacks [\d,]+ bytes to 83,886,080")

    @pytest.mark.parametrize(
        ("poison", "problem"),
        [
            (lambda file, folder: file.create_dataset("bomb", (10**4, 10**4), chunks=True, compression="gzip"), "unpacks"),
            (lambda file, folder: file.__setitem__("link", h5py.ExternalLink("other.h5", "/x")), "'link' is a link"),
            (lambda file, folder: file.__setitem__("link", h5py.SoftLink("/model_weights")), "'link' is a link"),
            (
                lambda file, folder: file.create_dataset("far", (8,), "u1", external=[(str(folder / "secret"), 0, 8)]),
                "'far' lies in another file",
            ),
            (
                lambda file, folder: file.create_dataset("code", data=np.void(pickle.dumps(Canary(folder / "canary")))),
                r"'code' holds \|V\d+ — expected only numbers",
            ),
        ],
        ids=["bomb", "link to a file", "link inside", "data outside", "pickle"],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", ["h5", "keras"])
    def test_what_hdf5_can_hide(self, tmp_path, poison, problem, kind):
        (tmp_path / "secret").write_bytes(b"password")
        model = redness(1, 0)
        path = tmp_path / f"model.{kind}"
        if kind == "h5":
            model.save(path)
            with h5py.File(path, "r+") as file:
                poison(file, tmp_path)
        else:
            members = members_of(model, tmp_path)
            (tmp_path / "weights.h5").write_bytes(members["model.weights.h5"])
            with h5py.File(tmp_path / "weights.h5", "r+") as file:
                poison(file, tmp_path)
            with zipfile.ZipFile(path, "w") as archive:
                for member, data in {**members, "model.weights.h5": (tmp_path / "weights.h5").read_bytes()}.items():
                    archive.writestr(member, data)
        self.refuse(tmp_path, path, problem)

    def test_groups_that_hold_one_another_are_walked_once(self, tmp_path):
        model = redness(1, 0)
        model.save(tmp_path / "model.h5")
        with h5py.File(tmp_path / "model.h5", "r+") as file:
            group = file.create_group("round")
            for _ in range(40):  # 2 to the 40th paths
                inner = group.create_group("a")
                group["b"] = inner
                group = inner
            group["back"] = file["round"]
        assert read_model(tmp_path / "model.h5").name == "redness"

    def test_weights_alone(self, tmp_path):
        redness(1, 0).save_weights(tmp_path / "model.weights.h5")
        self.refuse(tmp_path, tmp_path / "model.weights.h5", "holds weights alone — expected a whole model")

    def test_an_old_file_names_no_modules_and_its_functions_are_refused_too(self, tmp_path):
        redness(1, 0).save(tmp_path / "model.h5")
        with h5py.File(tmp_path / "model.h5", "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][1]["config"]["activation"] = "tests>boom"
            file.attrs["model_config"] = json.dumps(config)
        self.refuse(tmp_path, tmp_path / "model.h5", "holds activation tests>boom")


class TestTheCommand:
    @pytest.fixture
    def data(self, tmp_path) -> Path:
        return write_dataset(*scenes(), tmp_path / "data", classes=CLASSES)

    def test_a_file_and_a_dataset_become_a_package(self, tmp_path, data, capsys):
        redness(*WAYS["0-1"], bgr=True).save(tmp_path / "unet.keras")
        out = tmp_path / "models" / "mine"
        argv = ["export", str(tmp_path / "unet.keras"), "--data", str(data), "--out", str(out), "--int8", "off"]
        assert main(argv) == 0
        captured = capsys.readouterr()
        assert "mean IoU on the images: Keras 1.0000, package 1.0000" in captured.out
        assert "given to the model in 0-1" in captured.err and "blue first" in captured.err
        assert main(["doctor", str(out)]) == 0
        assert main(["eval", str(out), str(data), "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean_iou"] == 1
        assert "a Keras model of your own" in (out / "report.html").read_text()

    def test_a_model_needs_images(self, tmp_path, capsys):
        assert main(["export", "unet.keras", "--out", str(tmp_path / "package")]) == 2
        assert "export unet.keras — without --data — expected a dataset folder" in capsys.readouterr().err

    def test_options_of_a_model_are_not_for_a_run(self, tmp_path, capsys):
        assert main(["export", "runs/first", "--out", str(tmp_path / "package"), "--pixels", "0-1"]) == 2
        assert "--pixels — is for a Keras model that was trained elsewhere — runs/first" in capsys.readouterr().err

    def test_a_missing_file_is_named(self, tmp_path, data, capsys):
        assert main(["export", "no.keras", "--data", str(data), "--out", str(tmp_path / "package")]) == 4
        assert "no.keras — no such file" in capsys.readouterr().err
