"""A model that looks around each pixel, of any input size with the same weights: what tiles must not spoil."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.model.contract import METADATA_KEY, ClassInfo, Contract


def context_contract(height_px: int, width_px: int, *, channels: int = 3, classes: int = 2) -> Contract:
    return Contract(
        name="context",
        height_px=height_px,
        width_px=width_px,
        channels=3 if channels == 3 else 1,
        binary=classes == 2,
        classes=tuple(ClassInfo(id=i, name=f"class {i}", color=(i * 40, 255 - i * 40, 90)) for i in range(classes)),
    )


def context_model(contract: Contract, kernel_px: int = 15, seed: int = 0) -> bytes:
    """Build an ONNX model of one convolution that pads with zeros, as a U-Net does, and so errs along its borders."""
    h, w, channels, logits = contract.height_px, contract.width_px, contract.channels, contract.logit_channels
    rng = np.random.default_rng(seed)
    kernel = rng.uniform(0, 2, (logits, channels, kernel_px, kernel_px)) / (channels * kernel_px**2 * 255)
    bias = -0.5 * kernel.sum((1, 2, 3)) * 255
    weights = [
        numpy_helper.from_array(kernel.astype(np.float32), "kernel"),
        numpy_helper.from_array(bias.astype(np.float32), "bias"),
        numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image_float"], ["image_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["image_nchw", "kernel", "bias"], ["logits_nchw"], pads=[kernel_px // 2] * 4),
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
        "context",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, h, w, channels])],
        [
            helper.make_tensor_value_info("mask", TensorProto.UINT8, [1, h, w]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, h, w, logits]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    return model.SerializeToString()
