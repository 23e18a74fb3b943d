import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from colors import color_contract, color_model, color_scene, color_truth
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import METADATA_KEY
from edge_runtime.model.package import MANIFEST, Manifest, Package
from edge_runtime.model.session import Session
from edge_runtime.segment.segmenter import Segmenter


def edit_manifest(root: Path, change) -> None:
    value = json.loads((root / MANIFEST).read_text())
    change(value)
    (root / MANIFEST).write_text(json.dumps(value))


def set_model(root: Path, data: bytes) -> None:
    """Replace the model and sign it, so that only what is inside is wrong."""
    (root / "model.onnx").write_bytes(data)
    edit_manifest(
        root, lambda m: m["variants"]["fp32"].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    )


def flip_bit(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def changed_model(change) -> bytes:
    model = onnx.load_from_string(color_model(color_contract()))
    change(model)
    return model.SerializeToString()


def test_a_whole_package_opens_and_its_manifest_round_trips(color_package):
    manifest = Package.open(color_package).manifest
    assert manifest.variants.keys() == {"fp32"}
    assert Manifest.from_dict(manifest.to_dict(), "m.json") == manifest


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"/none — no such folder — expected what `edge-unet export` writes"):
        Package.open(tmp_path / "none")


def test_a_missing_manifest_is_named(color_package):
    (color_package / MANIFEST).unlink()
    with pytest.raises(ModelError, match=r"a folder without manifest\.json"):
        Package.open(color_package)


def test_a_file_is_no_package(color_package):
    with pytest.raises(ModelError, match=r"model\.onnx — a file — expected what"):
        Package.open(color_package / "model.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "golden/0.png", "golden/0.mask.png"])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_found_and_the_file_named(color_package, name, place):
    path = color_package / name
    flip_bit(path, int(path.stat().st_size * place))
    with pytest.raises(ModelError, match=rf"{name} — SHA-256 is \w+… — the manifest says \w+… — the file is damaged"):
        Segmenter.load(color_package)


@pytest.mark.parametrize("name", ["model.onnx", "golden/0.png"])
def test_a_missing_file_is_named(color_package, name):
    (color_package / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} — missing — the package is incomplete"):
        Package.open(color_package)


@pytest.mark.parametrize("name", ["weights.bin", "golden/1.png"])
def test_an_extra_file_is_named(color_package, name):
    (color_package / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=rf"{name} — not in the manifest — remove it"):
        Package.open(color_package)


def test_hidden_files_of_file_managers_are_passed_over(color_package):
    (color_package / ".DS_Store").write_bytes(b"x")
    assert Package.open(color_package).root == color_package


@pytest.mark.parametrize("outside", ["../secret.onnx", "golden/../../secret.onnx", "/etc/passwd"])
def test_a_path_outside_the_package_is_refused(color_package, outside):
    (color_package.parent / "secret.onnx").write_bytes(b"x")
    edit_manifest(color_package, lambda m: m["files"].update({outside: "0" * 64}))
    with pytest.raises(ModelError, match=rf"file '{outside}' lies outside the package — refused"):
        Package.open(color_package)


def test_a_package_of_links_is_whole_if_its_digests_are_right(color_package):
    # As the cache of a model hub keeps it.
    elsewhere = color_package.parent / "elsewhere"
    elsewhere.mkdir()
    for number, path in enumerate(sorted(p for p in color_package.rglob("*") if p.is_file())):
        path.rename(elsewhere / str(number))
        path.symlink_to(elsewhere / str(number))
    assert Package.open(color_package).manifest.contract.name
    (elsewhere / "0").write_bytes(b"changed")
    with pytest.raises(ModelError, match="the file is damaged or was changed"):
        Package.open(color_package)


@pytest.mark.parametrize("name", [".git/HEAD", ".ipynb_checkpoints/a.html", "Thumbs.db", "@eaDir/x", "README.md"])
def test_what_systems_and_hubs_put_beside_the_files_is_passed_over(color_package, name):
    (color_package / name).parent.mkdir(exist_ok=True)
    (color_package / name).write_text("x")
    Package.open(color_package)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a\nb"])
def test_a_name_that_no_file_can_have_is_refused(color_package, name):
    edit_manifest(color_package, lambda m: m["files"].update({name: "0" * 64}))
    with pytest.raises(ModelError, match="lies outside the package — refused"):
        Package.open(color_package)


def test_a_golden_frame_that_nothing_signs_is_refused(color_package):
    edit_manifest(color_package, lambda m: m["golden"][0].update(image="../0.png"))
    with pytest.raises(ModelError, match=r"golden file '\.\./0\.png' is not among 'files'"):
        Package.open(color_package)


def test_the_report_of_the_quantisation_round_trips(color_package):
    report = {"shipped": False, "reason": "INT8 loses", "attempts": [{"float_layers": ["stem"]}], "speedup": None}
    edit_manifest(color_package, lambda m: m.update(quantization=report))
    manifest = Package.open(color_package).manifest
    assert manifest.quantization == report
    assert Manifest.from_dict(manifest.to_dict(), "m.json") == manifest


@pytest.mark.parametrize(
    ("masks", "found"),
    [
        ({}, "no variant"),
        ({"int8": "golden/0.mask.png"}, "int8"),
        ({"fp32": "golden/0.mask.png", "int8": "golden/0.mask.png"}, "fp32, int8"),
    ],
)
def test_golden_masks_of_other_variants_than_there_are_are_refused(color_package, masks, found):
    edit_manifest(color_package, lambda m: m["golden"][0].update(masks=masks))
    with pytest.raises(
        ModelError, match=rf"golden frame 'golden/0\.png' has masks of {found} — expected fp32 — export the model again"
    ):
        Package.open(color_package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("quantization"), "key 'quantization' is missing"),
        (lambda m: m.update(quantization=[]), "key 'quantization' is list — expected dict"),
        (lambda m: m["golden"][0].update(masks={"fp32": 7}), r"golden: masks\.fp32 is int — expected str"),
        (lambda m: m.update(license="MIT"), "unknown key 'license'"),
        (lambda m: m.pop("golden"), "key 'golden' is missing"),
        (lambda m: m.update(gflops="1"), "key 'gflops' is str — expected float"),
        (lambda m: m.update(gflops=10**400), "key 'gflops' is int — expected float"),
        (lambda m: m.update(format_version=9), "format_version is 9 — this edge-unet reads 1"),
        (lambda m: m.update(variants={}), "variants has no 'fp32'"),
        (lambda m: m["variants"]["fp32"].pop("sha256"), r"variants\.fp32: key 'sha256' is missing"),
        (lambda m: m["files"].update(x=1), r"files\.x is int — expected str"),
        (lambda m: m["golden"].append("x"), "golden: found str — expected a JSON object"),
        (lambda m: m["contract"].update(channels=2), "contract: channels is 2"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_key(color_package, change, message):
    edit_manifest(color_package, change)
    with pytest.raises(ModelError, match=message):
        Package.open(color_package)


def test_a_manifest_cut_short_is_refused(color_package):
    text = (color_package / MANIFEST).read_text()
    (color_package / MANIFEST).write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match=r"manifest\.json: not valid JSON .* the file is damaged"):
        Package.open(color_package)


def test_an_unknown_variant_is_refused_with_those_there_are(color_package):
    with pytest.raises(ModelError, match="has no variant 'int8' — it has fp32"):
        Segmenter.load(color_package, variant="int8")


def test_a_bare_onnx_file_runs_from_its_own_metadata(color_package):
    frame = color_scene(24, 32)
    result = Segmenter.load(color_package / "model.onnx")(frame)
    assert np.array_equal(result.mask, color_truth(frame))
    assert [c.name for c in result.classes] == ["background", "red", "blue"]


def test_a_missing_onnx_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read .*none\.onnx — no such file or directory — check the path"):
        Segmenter.load(tmp_path / "none.onnx")


def test_a_model_of_another_contract_is_refused(color_package):
    set_model(color_package, color_model(color_contract(48, 64)))
    with pytest.raises(ModelError, match=r"model\.onnx — its contract differs from the manifest's"):
        Segmenter.load(color_package)


def test_a_model_without_metadata_is_refused(color_package):
    set_model(color_package, changed_model(lambda m: m.ClearField("metadata_props")))
    with pytest.raises(ModelError, match=rf"no '{METADATA_KEY}' in its metadata"):
        Segmenter.load(color_package)


@pytest.mark.parametrize(
    "data", [b"", b"not a model at all", os.urandom(400), color_model(color_contract())[:-40], b"\x00" * 100]
)
def test_a_file_that_is_no_model_is_refused(color_package, data):
    set_model(color_package, data)
    with pytest.raises(ModelError, match=r"model\.onnx — (onnxruntime cannot load it|no 'edge_unet)"):
        Segmenter.load(color_package)


def poison(value: float):
    def change(model):
        bias = next(t for t in model.graph.initializer if t.name == "bias")
        bias.CopyFrom(numpy_helper.from_array(np.full(3, value, np.float32), "bias"))

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_answers_nan_is_refused_at_load(color_package, value):
    set_model(color_package, changed_model(poison(value)))
    with pytest.raises(ModelError, match="answers NaN or infinity to a grey frame"):
        Segmenter.load(color_package)


def test_weights_in_another_file_are_refused(color_package, tmp_path, monkeypatch):
    model = onnx.load_from_string(color_model(color_contract()))
    onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, tmp_path / "external.onnx")
    monkeypatch.chdir(tmp_path)  # where a relative path would find them
    with pytest.raises(ModelError, match="keeps its weights in another file — expected one self-contained file"):
        Session((tmp_path / "external.onnx").read_bytes(), "external.onnx")


def set_opset(model) -> None:
    model.opset_import[0].version = 999


def set_ir(model) -> None:
    model.ir_version = 999


@pytest.mark.parametrize("change", [set_opset, set_ir])
def test_a_model_from_the_future_asks_for_a_newer_onnxruntime(change):
    with pytest.raises(ModelError, match=r"it needs a newer onnxruntime than [\d.]+: pip install -U onnxruntime"):
        Session(changed_model(change), "model.onnx")


def add_input(model) -> None:
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.UINT8, [1]))


def drop_logits(model) -> None:
    del model.graph.output[1]


def other_size(model) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[1].dim_value = 16


def free_size(model) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def unknown_domain(model) -> None:
    model.graph.node[2].domain = "evil.example"
    model.opset_import.append(helper.make_opsetid("evil.example", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_input, r"tensor 'second' is .* the contract says nothing of it"),
        (drop_logits, r"tensor 'logits' is missing"),
        (other_size, r"tensor 'image' is .*1, 16, 32, 3.* the contract says .*1, 24, 32, 3"),
        (free_size, r"tensor 'image' is .*height"),
        (unknown_domain, r"onnxruntime cannot load it"),
    ],
)
def test_a_model_that_does_not_keep_its_contract_is_refused(change, message):
    with pytest.raises(ModelError, match=message):
        Session(changed_model(change), "model.onnx")
