"""Keras to ONNX as a whole: the shipped graph gives what Keras gives, and nothing foreign is loaded or converted."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from numpy.typing import NDArray
from runs import contract_of, finished, narrow_shape, random_unet, reloaded, traced
from tried_unet import TriedUNet

from edge_runtime.model.contract import METADATA_KEY, VARIANT_KEY, Contract
from edge_runtime.model.session import Session
from edge_runtime.segment.postprocess import probabilities_of
from export.config import OPSETS
from export.convert import convolution_layers, gflops, trace
from export.errors import ConvertError
from export.keras_model.archive import read_model
from export.optimise import optimise
from training.loop.trainer import archive_of
from training.network.unet import UNetShape

CASES = [
    # preset, channels, logit channels
    ("seed", 1, 1),
    ("seed", 3, 3),
    ("classic", 1, 1),
    ("classic", 3, 3),
    ("edge", 1, 3),
    ("edge", 3, 1),
    ("edge", 3, 3),
]
SMALLEST = TriedUNet(widths=(4, 8), batch_norm=True, stem_stride=2)


def inputs(contract: Contract) -> list[NDArray[np.uint8]]:
    """Noise, black, white and one bright point, as the runtime hands them over: BGR or grey."""
    shape = (contract.height_px, contract.width_px, contract.channels)
    point = np.zeros(shape, np.uint8)
    point[0, -1] = 255
    noise = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    return [noise, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), point]


def assert_parity(model: keras.Model, proto: onnx.ModelProto) -> None:
    contract = contract_of(model)
    session = Session(proto.SerializeToString(), "model.onnx", contract)
    for image in inputs(contract):
        image_rgb = image[..., ::-1].astype(np.float32)
        expected = np.asarray(model.predict_on_batch(image_rgb[np.newaxis]))[0]
        found = probabilities_of(session.logits(image), binary=contract.binary)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        ids = expected[..., 0] > 0.5 if contract.binary else expected.argmax(-1)
        assert np.mean(session.mask(image) == ids) >= 0.9999


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def converted(request: pytest.FixtureRequest) -> tuple[keras.Model, onnx.ModelProto]:
    """A model of a preset, saved and loaded, and the graph that ships."""
    model, raw = traced(*request.param)
    return model, optimise(raw, contract_of(model), convolution_layers(model))[-1].model


@pytest.fixture(scope="module")
def smallest() -> keras.Model:
    return random_unet(SMALLEST)


def test_the_shipped_graph_gives_what_keras_gives(converted):
    assert_parity(*converted)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_gives_what_keras_gives(smallest, opset):
    proto = finished(smallest, opset)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    assert_parity(smallest, proto)


@pytest.mark.parametrize("preset", ["seed", "classic", "edge"])
def test_a_portrait_picture_is_not_turned(preset):
    shape = narrow_shape(preset)
    model = random_unet(shape, (2 * shape.stride, shape.stride), logit_channels=1)
    assert_parity(model, finished(model))


def test_the_graph_holds_only_what_a_frame_needs(converted):
    _, proto = converted
    found = {node.op_type for node in proto.graph.node}
    assert "BatchNormalization" not in found
    assert not found & {"Tile", "Unsqueeze", "Sigmoid", "Softmax", "Mul", "Div", "Sub", "Shape", "Gather", "Identity"}
    used = {name for node in proto.graph.node for name in node.input}
    assert {weight.name for weight in proto.graph.initializer} <= used


def test_the_graph_needs_only_standard_operators_and_no_other_file(converted):
    _, proto = converted
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert [o.domain for o in proto.opset_import] == [""]
    assert not proto.functions
    assert all(w.data_location != onnx.TensorProto.EXTERNAL for w in proto.graph.initializer)


def test_the_contract_stands_in_the_metadata(converted):
    model, proto = converted
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata.keys() == {METADATA_KEY, VARIANT_KEY}
    assert Contract.from_json(metadata[METADATA_KEY], "metadata") == contract_of(model)
    assert metadata[VARIANT_KEY] == "fp32"
    assert proto.graph.name == "small"
    assert proto.producer_name == "edge-unet"


def test_the_same_model_gives_the_same_bytes(smallest):
    first, again = (finished(smallest).SerializeToString() for _ in range(2))
    assert first == again


@pytest.mark.parametrize("opset", [17, -1], ids=["converted", "refused"])
def test_the_converter_s_log_level_is_as_before(smallest, opset):
    logger = logging.getLogger("tf2onnx")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        if opset > 0:
            trace(smallest, opset)
        else:
            with pytest.raises(ValueError, match="Opset -1 is not supported"):
                trace(smallest, opset)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)


def test_operations_are_counted_as_by_hand():
    model = random_unet(UNetShape(widths=(2,), batch_norm=False), (4, 6), logit_channels=1)
    proto = finished(model)
    pixels = 4 * 6
    by_hand = 2 * pixels * (2 * 3 * 3 * 3 + 2 * 2 * 3 * 3 + 1 * 2)  # two 3×3 convolutions and a 1×1
    assert gflops(proto) == pytest.approx(by_hand / 1e9, rel=1e-12)


def test_operations_of_the_seed_are_those_of_its_layers():
    model, raw = traced("seed", 3, 3)
    expected = sum(
        2 * np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3])
        for layer in model.layers
        if isinstance(layer, layers.Conv2D)
    )
    assert gflops(raw) == pytest.approx(expected / 1e9, rel=1e-12)


# What cannot be converted


def test_a_model_of_any_size_is_refused_with_its_signature():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(1, 1, name="logits")(image), name="free")
    with pytest.raises(
        ConvertError,
        match=r"model 'free' — is \(None, None, None, 3\) → \(None, None, None, 1\) — expected a fixed height, width",
    ):
        trace(model, 17)


def test_two_inputs_are_refused_with_their_signature():
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 1))
    model = keras.Model([left, right], layers.Concatenate(name="logits")([left, right]), name="two")
    with pytest.raises(
        ConvertError,
        match=r"model 'two' — is \[\(None, 8, 8, 3\), \(None, 8, 8, 1\)\] → \(None, 8, 8, 4\) — expected one image in",
    ):
        trace(model, 17)


def test_a_vector_out_is_refused_with_the_signature():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Flatten(name="logits")(image), name="flat")
    with pytest.raises(ConvertError, match=r"'flat' — is \(None, 8, 8, 3\) → \(None, 192\) — expected one image in"):
        trace(model, 17)


def test_a_model_without_logits_is_refused():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="result")(image), name="other")
    with pytest.raises(ConvertError, match="model 'other' — has no layer 'logits' — expected one of our presets"):
        trace(model, 17)


# What is not loaded


def write_archive(path: Path, model: keras.Model) -> Path:
    path.write_bytes(archive_of(model, path.parent))
    return path


def small_model(layer: layers.Layer) -> keras.Model:
    image = keras.Input((8, 8, 3), name="image")
    return keras.Model(image, layers.Conv2D(1, 1, name="logits")(layer(image)))


def edit_config(path: Path, change) -> None:
    """Rewrite ``config.json`` inside a ``.keras`` archive; the checksums stay right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.fixture
def checkpoint(tmp_path, smallest) -> Path:
    return write_archive(tmp_path / "best.keras", smallest)


def test_a_checkpoint_of_ours_is_loaded(smallest):
    for found, expected in zip(reloaded(smallest).get_weights(), smallest.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def strange_loss(y_true, y_pred):
    return y_true - y_pred


def test_a_compiled_checkpoint_is_loaded_without_what_it_was_compiled_with(tmp_path, smallest):
    model = keras.models.clone_model(smallest)
    model.compile(keras.optimizers.AdamW(), loss=strange_loss)
    assert not read_model(write_archive(tmp_path / "best.keras", model)).compiled


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ConvertError, match=r"/best\.keras — no such file — .* — check the path"):
        read_model(tmp_path / "best.keras")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_damaged(checkpoint, share):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        ConvertError, match=r"best\.keras — damaged \(File is not a zip file\) — expected a \.keras archive"
    ):
        read_model(checkpoint)


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("best.keras", b"not a model\n", r"damaged \(File is not a zip file\)"),
        ("best.keras", b"\x89HDF\r\n\x1a\n" + bytes(88), r"is HDF5 inside — expected the suffix \.h5"),
        ("best.h5", b"not a model\n", r"is no HDF5 inside — expected the suffix \.keras"),
        ("best.h5", b"\x89HDF\r\n\x1a\n" + bytes(88), r"damaged \(.*open file.*\) — expected HDF5"),
    ],
    ids=["text", "HDF5", "text as HDF5", "half of HDF5"],
)
def test_a_file_of_another_kind_is_damaged(tmp_path, name, data, found):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ConvertError, match=found):
        read_model(path)


@pytest.mark.parametrize("member", ["model.weights.h5", "config.json"])
def test_a_flipped_byte_inside_is_found_and_the_part_named(checkpoint, member):
    with zipfile.ZipFile(checkpoint) as archive:
        info = archive.getinfo(member)
    data = bytearray(checkpoint.read_bytes())
    data[info.header_offset + 30 + len(member) + info.file_size // 2] ^= 0xFF
    checkpoint.write_bytes(data)
    with pytest.raises(
        ConvertError, match=rf"best\.keras — damaged \(.*{member}.*\) — .*restore it, or save the model again"
    ):
        read_model(checkpoint)


@pytest.mark.parametrize(
    ("offset", "value", "found"),
    [(8, 1, "is encrypted"), (10, 8, "while decompressing"), (10, 9, "compression method"), (6, 255, "version")],
)
def test_a_flipped_byte_in_the_directory_is_damage_too(checkpoint, offset, value, found):
    data = bytearray(checkpoint.read_bytes())
    data[data.rindex(b"PK\x01\x02") + offset] = value
    checkpoint.write_bytes(data)
    with pytest.raises(ConvertError, match=rf"best\.keras — damaged \(.*{found}.*\)"):
        read_model(checkpoint)


def test_an_archive_that_is_no_model_is_damaged(tmp_path):
    path = tmp_path / "best.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ConvertError, match=r"damaged \(.*no item named 'config\.json'"):
        read_model(path)


@keras.saving.register_keras_serializable(package="tests")
class Strange(layers.Layer):
    """Stands for code that somebody else has registered."""

    def call(self, x):
        return x


@keras.saving.register_keras_serializable(package="tests")
def strange_activation(x):
    return x


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (layers.Lambda(lambda x: x, name="code", output_shape=(8, 8, 3)), r"layer Lambda \('code'\)"),
        (keras.Sequential([layers.Lambda(lambda x: x, name="deep", output_shape=(8, 8, 3))], name="inner"), r"layer Lambda \('deep'\)"),
        (layers.StringLookup(vocabulary=["a"], name="words"), r"layer StringLookup \('words'\)"),
        (Strange(name="mine"), r"Strange from '.*' \('mine'\)"),
        (layers.Conv2D(3, 1, activation=strange_activation, name="own"), r"function from 'builtins' \('own'\)|activation .*strange_activation.* \('own'\)"),
    ],
    ids=["lambda", "nested lambda", "reads a file", "registered class", "registered function"],
)  # fmt: skip
def test_what_is_more_than_computing_is_refused_before_keras_sees_it(tmp_path, layer, found):
    path = tmp_path / "best.keras"
    image = keras.Input((8, 8, 3), dtype="string" if isinstance(layer, layers.StringLookup) else "float32")
    keras.Model(image, layer(image)).save(path)
    with pytest.raises(
        ConvertError,
        match=rf"best\.keras — holds ({found}) — expected only layers of Keras that compute — .*keras\.Model",
    ):
        read_model(path)


def test_what_others_use_and_computes_is_loaded(tmp_path):
    image = keras.Input((8, 8, 3))
    x = keras.Sequential([layers.Conv2D(3, 1, activation="tanh", kernel_regularizer="l2")])(layers.Dropout(0.5)(image))
    path = tmp_path / "unet.keras"
    keras.Model(image, layers.Dense(3)(x) * 2).save(path)
    assert len(read_model(path).layers) == 4


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: c.update(module="os", class_name="Functional"), "a Functional model from 'os'"),
        (lambda c: c.update(registered_name="tests>Strange"), "a Functional model from"),
        (lambda c: c.update(class_name="Wrapper"), "a Wrapper model from"),
        (lambda c: c["config"].update(dtype={"class_name": "__lambda__", "config": {}}), "layer __lambda__"),
        (lambda c: c["config"]["layers"][1].update(class_name={}), r"layer \{\} "),
        (lambda c: c["config"]["layers"][1].update(module="os.path"), "Rescaling from 'os.path'"),
        (lambda c: c["config"]["layers"][1].update(registered_name="tests>Strange"), "Rescaling from 'keras.layers'"),
    ],
    ids=["module", "registered model", "class", "data type", "no name", "module of a layer", "registered layer"],
)
def test_a_configuration_that_was_edited_is_refused(checkpoint, change, found):
    edit_config(checkpoint, change)
    with pytest.raises(ConvertError, match=rf"best\.keras — holds {found}"):
        read_model(checkpoint)


def test_a_configuration_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "best.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[1]")
    with pytest.raises(ConvertError, match=r"holds no model — expected only layers"):
        read_model(path)


def test_what_keras_cannot_put_together_is_refused_in_one_line(checkpoint):
    edit_config(checkpoint, lambda c: c["config"]["layers"][2]["config"].update(filters=7))
    with pytest.raises(
        ConvertError, match=r"best\.keras — Keras cannot load it \(.+\) — restore it, or save the model again"
    ) as caught:
        read_model(checkpoint)
    assert "\n" not in str(caught.value)
