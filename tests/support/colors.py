"""A small real model package, made in milliseconds without Keras: it finds red and blue things."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.model.contract import METADATA_KEY, ClassInfo, Contract
from edge_runtime.model.package import MANIFEST, GoldenFrame, Manifest, Variant
from edge_runtime.segment.segmenter import Segmenter
from edge_runtime.storage import write_json

COLOR_CLASSES = (
    ClassInfo(id=0, name="background", color=(0, 0, 0)),
    ClassInfo(id=1, name="red", color=(255, 0, 0)),
    ClassInfo(id=2, name="blue", color=(0, 0, 255)),
)


def color_contract(height_px: int = 24, width_px: int = 32, *, binary: bool = False) -> Contract:
    classes = COLOR_CLASSES[:2] if binary else COLOR_CLASSES
    return Contract(name="colors", height_px=height_px, width_px=width_px, channels=3, binary=binary, classes=classes)


def color_model(contract: Contract) -> bytes:
    """Build an ONNX model that answers "red" and "blue" where these channels of a BGR image are bright.

    The logit of the background is 127.5 / 255, those of the others their channel / 255: a class needs more than half.
    """
    h, w, logits = contract.height_px, contract.width_px, contract.logit_channels
    if contract.binary:
        kernel, bias = np.array([[0, 0, 1]], np.float32), np.array([-127.5], np.float32)
    else:
        kernel = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0]], np.float32)  # inputs are B, G, R
        bias = np.array([127.5, 0, 0], np.float32)
    weights = [
        numpy_helper.from_array(kernel.reshape(logits, 3, 1, 1) / 255, "kernel"),
        numpy_helper.from_array(bias / 255, "bias"),
        numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image_float"], ["image_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["image_nchw", "kernel", "bias"], ["logits_nchw"], kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["logits_nchw"], ["logits"], perm=[0, 2, 3, 1]),
    ]
    if contract.binary:
        nodes += [
            helper.make_node("Greater", ["logits_nchw", "zero"], ["above"]),
            helper.make_node("Squeeze", ["above", "axis"], ["ids"]),
        ]
    else:
        nodes.append(helper.make_node("ArgMax", ["logits_nchw"], ["ids"], axis=1, keepdims=0))
    nodes.append(helper.make_node("Cast", ["ids"], ["mask"], to=TensorProto.UINT8))
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, h, w, 3])],
        [
            helper.make_tensor_value_info("mask", TensorProto.UINT8, [1, h, w]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, h, w, logits]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def color_scene(height_px: int = 48, width_px: int = 64) -> np.ndarray:
    """Return a grey (H, W, 3) BGR picture with a red rectangle on the left and a blue one on the right."""
    image = np.full((height_px, width_px, 3), 60, np.uint8)
    image[height_px // 4 : height_px // 2, width_px // 8 : width_px // 2 - 4] = (20, 20, 230)
    image[height_px // 3 : -height_px // 6, width_px // 2 + 4 : -width_px // 8] = (230, 20, 20)
    return image


def color_truth(image: np.ndarray) -> np.ndarray:
    """Return the (H, W) class ids of a ``color_scene``."""
    return np.where(image[:, :, 2] > 127, 1, np.where(image[:, :, 0] > 127, 2, 0)).astype(np.uint8)


def write_color_package(root: Path, contract: Contract) -> Path:
    """Write a complete package around ``color_model``, with one golden frame."""
    (root / "golden").mkdir(parents=True)
    model = color_model(contract)
    (root / "model.onnx").write_bytes(model)
    digest = hashlib.sha256(model).hexdigest()
    frame = color_scene()
    (root / "golden" / "0.png").write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    mask = Segmenter.load(root / "model.onnx")(frame).mask
    (root / "golden" / "0.mask.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    others = {
        f"golden/{n}": hashlib.sha256((root / "golden" / n).read_bytes()).hexdigest() for n in ("0.png", "0.mask.png")
    }
    manifest = Manifest(
        contract=contract,
        variants={"fp32": Variant(file="model.onnx", sha256=digest, bytes=len(model))},
        files=others,
        golden=(GoldenFrame(image="golden/0.png", masks={"fp32": "golden/0.mask.png"}),),
        parameters=12,
        gflops=0.001,
        parity={"max_abs_diff": 0.0, "class_agreement": 1.0},
    )
    write_json(root / MANIFEST, manifest.to_dict())
    return root
