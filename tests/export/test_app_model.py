"""The model for applications: any frame in, the runtime's own masks out, in standard operators."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from colors import color_contract, color_model, color_scene
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from runs import contract_of, finished, narrow_shape, random_unet

from edge_runtime.model.contract import METADATA_KEY, Contract
from edge_runtime.model.session import Session
from edge_runtime.segment.preprocess import resize_image, resize_mask, to_channels
from edge_runtime.segment.segmenter import Segmenter
from export.app_model import build_app_model
from export.errors import ConvertError

# (height, width): odd, much larger and smaller than the model's 32 x 64, twice it, its own, and the smallest there are.
SIZES = [(48, 64), (97, 131), (481, 641), (720, 1280), (17, 23), (64, 128), (32, 64), (1, 1), (1, 77), (53, 1), (2, 7)]
NETWORKS = {"binary, grey": ("seed", 1, 1), "binary, colour": ("edge", 3, 1), "several classes": ("edge", 3, 3)}

mask_ties_as_in_opencv_5 = pytest.mark.skipif(
    int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 rounds INTER_NEAREST_EXACT at borders in another way"
)


@cache
def network(name: str, opset: int = 17) -> tuple[onnx.ModelProto, Contract]:
    preset, channels, logit_channels = NETWORKS[name]
    model = random_unet(narrow_shape(preset), channels=channels, logit_channels=logit_channels)
    return finished(model, opset), contract_of(model)


def segmenter_of(proto: onnx.ModelProto) -> Segmenter:
    return Segmenter(Session(proto.SerializeToString(), "model.onnx"), "fp32")


def session_of(proto: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def answer(session: ort.InferenceSession, frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frame": frame}), strict=True))


def scene(height_px: int, width_px: int) -> NDArray[np.uint8]:
    """The coloured scene with a shade across it and a little noise, so that no two neighbours are quite the same."""
    image = cv2.resize(color_scene(96, 128), (width_px, height_px), interpolation=cv2.INTER_AREA).astype(np.float32)
    image += np.linspace(-30, 30, width_px)[None, :, None]
    image += np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def echo(height_px: int, width_px: int, channels: int, plane: int = 0) -> tuple[onnx.ModelProto, Contract]:
    """A network whose mask is one plane of its input, so that the application's mask shows the pixels themselves."""
    contract = Contract(
        name="echo", height_px=height_px, width_px=width_px, channels=channels, binary=True,
        classes=color_contract(binary=True).classes,
    )  # fmt: skip
    size = [1, height_px, width_px]
    constants = {"from": [plane], "to": [plane + 1], "axis": [3]}
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", "from", "to", "axis"], ["frame"]),  # named as a value around it
            helper.make_node("Squeeze", ["frame", "axis"], ["mask"]),
            helper.make_node("Cast", ["frame"], ["logits"], to=TensorProto.FLOAT),
        ],
        "echo",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*size, channels])],
        [
            helper.make_tensor_value_info("mask", TensorProto.UINT8, size),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*size, 1]),
        ],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), contract


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_valid_onnx_of_standard_operators_with_a_contract(name, opset):
    proto, contract = network(name, opset)
    app = build_app_model(proto, contract)
    onnx.checker.check_model(app, full_check=True)
    assert [(entry.domain, entry.version) for entry in app.opset_import] == [("", opset)]
    assert {node.domain for node in app.graph.node} == {""}
    assert len({node.name for node in app.graph.node}) == len(app.graph.node)
    session = session_of(app)
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("frame", "tensor(uint8)", ["height", "width", 3])
    ]
    expected = [("mask", "tensor(uint8)", ["height", "width"])]
    if contract.binary:
        expected.append(("probability", "tensor(float)", ["height", "width"]))
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == expected
    assert session.get_modelmeta().custom_metadata_map[METADATA_KEY] == contract.to_json()
    for said in ("uint8 (height, width, 3), BGR", "1 class 1"):
        assert said in app.graph.doc_string
    assert ("probability" in app.graph.doc_string) == contract.binary


@mask_ties_as_in_opencv_5
@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("name", NETWORKS)
def test_masks_are_those_of_the_runtime_at_every_size(name, opset):
    proto, contract = network(name, opset)
    segmenter, session = segmenter_of(proto), session_of(build_app_model(proto, contract))
    seen = set()
    for size in SIZES:
        frame = scene(*size)
        mask = answer(session, frame)["mask"]
        assert mask.shape == size
        np.testing.assert_array_equal(mask, segmenter(frame).mask, err_msg=str(size))
        seen.update(np.unique(mask).tolist())
    assert len(seen) > 1


@pytest.mark.parametrize("name", [name for name, (*_, logits) in NETWORKS.items() if logits == 1])
def test_the_probability_is_that_of_the_runtime_resized(name):
    proto, contract = network(name)
    segmenter, session = segmenter_of(proto), session_of(build_app_model(proto, contract))
    for size in SIZES:
        frame = scene(*size)
        found = answer(session, frame)["probability"]
        expected = cv2.resize(segmenter.probabilities(frame)[..., 0], size[::-1], interpolation=cv2.INTER_LINEAR)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=str(size))


def test_a_frame_of_the_models_size_reaches_the_network_as_it_is():
    contract = color_contract()
    proto = onnx.load_from_string(color_model(contract))
    frame = np.random.default_rng(0).integers(0, 256, (contract.height_px, contract.width_px, 3), np.uint8)
    mask = answer(session_of(build_app_model(proto, contract)), frame)["mask"]
    np.testing.assert_array_equal(mask, segmenter_of(proto)(frame).mask)
    assert len(np.unique(mask)) == 3


@mask_ties_as_in_opencv_5
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model_size", [(1, 1), (7, 5), (48, 64), (61, 33)])
def test_pixels_are_resized_to_the_byte_as_the_runtime_does(model_size, channels):
    rng = np.random.default_rng(0)
    for plane in range(channels):
        proto, contract = echo(*model_size, channels, plane)
        session = session_of(build_app_model(proto, contract))
        for size in [*SIZES, (49, 65), (480, 640), model_size]:
            frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            resized = resize_image(to_channels(frame, contract.channels), *model_size).reshape(*model_size, channels)
            expected = resize_mask(np.ascontiguousarray(resized[..., plane]), *size)
            np.testing.assert_array_equal(answer(session, frame)["mask"], expected, err_msg=str(size))


def test_grey_is_opencvs_for_every_colour_of_a_fine_grid():
    steps = np.unique(np.append(np.arange(0, 256, 3), [1, 2, 127, 128, 254])).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
    proto, contract = echo(*colours.shape[:2], 1)
    mask = answer(session_of(build_app_model(proto, contract)), colours)["mask"]
    np.testing.assert_array_equal(mask, cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY))


def test_the_same_network_gives_the_same_bytes_and_stays_as_it_was():
    proto, contract = network("binary, grey")
    before = proto.SerializeToString(deterministic=True)
    first, second = (build_app_model(proto, contract).SerializeToString() for _ in range(2))
    assert first == second
    assert proto.SerializeToString(deterministic=True) == before


def test_operators_beyond_the_standard_are_refused():
    proto, contract = echo(4, 4, 3)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(
        ConvertError, match=r"model 'echo' — has operators of com\.microsoft — expected those of the ONNX"
    ):
        build_app_model(proto, contract)


def test_a_network_that_is_not_what_the_contract_says_is_refused():
    proto, _ = echo(4, 4, 3)
    other = color_contract(8, 8)
    with pytest.raises(ConvertError, match="model 'colors' — with its resizes it is not valid ONNX"):
        build_app_model(proto, other)
