"""Small graphs to try a pass on, and how to run and to compare them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime as ort
from numpy.typing import NDArray
from runs import traced

from export.graph import constant

DOUBLE = 'Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">'
"""A nearest 2× upsampling as ``RestoreUpsampling`` writes it; takes ``(value, "", twice)``."""
TWICE = "float[4] twice = {1, 1, 2, 2}"


def graph(header: str, body: str) -> ir.Model:
    """Parse a small graph from ONNX text: ``header`` is its signature and its constants."""
    model = ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : 17]> g {header} {{ {body} }}')
    common.ShapeInferencePass()(model)
    return model


def weighted_graph(inputs: str, outputs: str, body: str, constants: str = "", seed: int = 0) -> ir.Model:
    """Parse a small graph whose inputs after the first become constants of random numbers."""
    model = graph(f"({inputs}) => ({outputs}) <{constants}>", body)
    rng = np.random.default_rng(seed)
    for value in list(model.graph.inputs[1:]):
        model.graph.inputs.remove(value)
        shape = value.shape.numpy()
        weights = rng.normal(0, 1 / np.sqrt(max(1, np.prod(shape[1:]))), shape).astype(np.float32)
        value.const_value = ir.tensor(weights, name=value.name)
        model.graph.register_initializer(value)
    for node in model.graph:
        node.name = f"{node.op_type.lower()}_{node.outputs[0].name}"
    return model


def traced_graph(preset: str, channels: int = 3, logit_channels: int = 3) -> ir.Model:
    model = ir.from_proto(traced(preset, channels, logit_channels)[1])
    common.ShapeInferencePass()(model)
    return model


def clean(model: ir.Model) -> ir.Model:
    """Remove what nothing needs, sort, and infer shapes, as is done between two passes."""
    for graph_pass in (common.RemoveUnusedNodesPass(), common.TopologicalSortPass(), common.ShapeInferencePass()):
        graph_pass(model)
    return model


def run(model: ir.Model | onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def kernels(model: ir.Model) -> list[tuple[int, ...]]:
    """The sizes of the convolutions' kernels in their order."""
    return [constant(node.inputs[1]).shape[2:] for node in model.graph if node.op_type == "Conv"]


def pixels(model: ir.Model, seed: int = 0) -> np.ndarray:
    """Random RGB (or grey) pixels of a graph's input size, (1, …) uint8."""
    return np.random.default_rng(seed).integers(0, 256, model.graph.inputs[0].shape.numpy(), dtype=np.uint8)


def numbers(model: ir.Model, seed: int = 0) -> NDArray[np.float32]:
    """Random numbers of a graph's input size."""
    return np.random.default_rng(seed).normal(size=model.graph.inputs[0].shape.numpy()).astype(np.float32)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=atol, err_msg=name)


def assert_rounding_apart(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Assert that two answers differ by no more than the order of float32 additions makes."""
    largest = max(float(np.abs(value).max()) for value in expected.values())
    assert largest > 0
    assert_same(found, expected, atol=1e-5 * largest)
