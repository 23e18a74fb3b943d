"""Build ``model.app.onnx`` for applications without this runtime: a frame of any size in, a mask of the same size out.

The network is wrapped in the steps of ``edge_runtime.segment.preprocess``, written in standard ONNX operators: grey if
the model takes grey, one resize to the model's size, and the resize of the mask back to the frame's size. The resizes
gather pixels and repeat OpenCV's arithmetic, so that the masks equal the runtime's; a ``Resize`` node rounds and breaks
ties differently.

Reference: OpenCV 5.0, ``cv2.resize`` of uint8 (INTER_LINEAR, INTER_NEAREST_EXACT) and ``cv2.cvtColor`` (BGR2GRAY).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix

from edge_runtime.model.contract import METADATA_KEY, Contract
from export.errors import ConvertError

BGR_TO_GREY = np.array([3735, 19235, 9798], np.float32) / 2**15
"""OpenCV's weights. Their products with bytes, and the sums of these products, are exact in float32."""
_NETWORK = "network_"
_ZERO, _ONE = np.array([0]), np.array([1])


def build_app_model(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """Add the resizes before and after a finished network.

    Args:
        model: From ``image``, uint8 (1, H, W, C), to ``mask``, uint8 (1, H, W), and ``logits``, float32 (1, H, W, L);
            opset 13 to 18. It is not changed, and nothing is assumed about the nodes inside.
        contract: Inputs and outputs of the network.

    Returns:
        A model from ``frame``, uint8 (height, width, 3) BGR of any size, to ``mask``, uint8 (height, width) class ids,
        and for a binary model also ``probability``, float32 (height, width), of class 1.

    Raises:
        ConvertError: The network has operators beyond the ONNX standard, or the result is not valid ONNX.
    """
    foreign = sorted({entry.domain for entry in model.opset_import} - {"", "ai.onnx"})
    if foreign:
        raise ConvertError(
            f"model '{contract.name}' — has operators of {', '.join(foreign)} — expected those of the ONNX standard only"
        )
    # The prefix keeps the names inside the network apart from those added around it.
    network = add_prefix(model, _NETWORK).graph
    graph = _Graph()
    height, width, _ = graph.split(graph.add("Shape", "frame"), 1, 1, 1, axis=0)
    _add_image(graph, height, width, contract)
    graph.nodes.extend(network.node)
    _add_mask(graph, height, width, contract)
    outputs = [helper.make_tensor_value_info("mask", TensorProto.UINT8, ["height", "width"])]
    if contract.binary:
        _add_probability(graph, height, width)
        outputs.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["height", "width"]))
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, ["height", "width", 3])
    constants = [*graph.constants.values(), *network.initializer]
    result = helper.make_model(
        helper.make_graph(
            graph.nodes,
            contract.name,
            [frame],
            outputs,
            constants,
            _describe(contract),
            [*network.input, *network.value_info],
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    helper.set_model_props(result, {METADATA_KEY: contract.to_json()})
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as cause:
        raise ConvertError(f"model '{contract.name}' — with its resizes it is not valid ONNX ({cause})") from cause
    return result


def _describe(contract: Contract) -> str:
    probability = "; probability, float32 (height, width), of class 1, 0-1" if contract.binary else ""
    return (
        "Segments one frame of any size. In: frame, uint8 (height, width, 3), BGR, 0-255. "
        f"Out: mask, uint8 (height, width), class ids{probability}. "
        f"Classes: {', '.join(f'{c.id} {c.name}' for c in contract.classes)}. "
        f"The metadata has the whole contract, under {METADATA_KEY}."
    )


class _Graph:
    """Graph under construction. An input is the name of a value, or an array, which becomes a constant."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str | NDArray[np.generic], output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [output or name], name, **attributes))
        return output or name

    def cast(self, value: str, to: int) -> str:
        return self.add("Cast", value, to=to)

    def split(self, value: str, *sizes: int, axis: int) -> list[str]:
        name = f"split_{len(self.nodes)}"
        outputs = [f"{name}_{part}" for part in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [value, self._constant(np.array(sizes))], outputs, name, axis=axis))
        return outputs

    def _constant(self, array: NDArray[np.generic]) -> str:
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"constant_{len(self.constants)}")
        return self.constants[key].name


def _add_image(graph: _Graph, height: str, width: str, contract: Contract) -> None:
    """Add the resize of ``frame``, as INTER_LINEAR does it for uint8.

    Weights have 11 bits. Sums are cut to 1/128 after the columns and to 1/4 after the rows, and rounded at the end.
    """
    h, w, channels = contract.height_px, contract.width_px, contract.channels
    top, bottom, top_weight, bottom_weight = _neighbours(graph, height, h, clip=False)
    left, right, *column_weights = _neighbours(graph, width, w, clip=True)
    rows = graph.add("Gather", "frame", graph.add("Concat", top, bottom, axis=0), axis=0)
    weighted = []
    for columns, weight in zip((left, right), column_weights, strict=True):
        pixels = graph.add("Gather", rows, columns, axis=1)
        planes = graph.cast(graph.add("Transpose", pixels, perm=[2, 0, 1]), TensorProto.FLOAT)
        if channels == 1:
            flat = graph.add("Reshape", planes, np.array([3, -1]))
            grey = graph.add("Add", graph.add("MatMul", BGR_TO_GREY[np.newaxis], flat), np.array([0.5], np.float32))
            planes = graph.add("Reshape", graph.add("Floor", grey), np.array([1, 2 * h, w]))
        # In onnxruntime a product of two equal shapes is many times as fast as one that broadcasts.
        scaled = graph.add("Mul", weight, np.array([1 / 16], np.float32))
        weighted.append(graph.add("Mul", planes, graph.add("Expand", scaled, np.array([channels, 2 * h, w]))))
    sums = graph.add("Floor", graph.add("Add", *weighted))
    quarters = []
    for part, weight in zip(graph.split(sums, h, h, axis=1), (top_weight, bottom_weight), strict=True):
        # Exact only in float64: the product has up to 27 bits.
        scaled = graph.add("Mul", graph.cast(weight, TensorProto.DOUBLE), np.array([1 / 65536]))
        product = graph.add("Mul", graph.cast(part, TensorProto.DOUBLE), graph.add("Unsqueeze", scaled, _ONE))
        quarters.append(graph.add("Floor", product))
    whole = graph.add("Mul", graph.add("Add", *quarters), np.array([0.25]))
    image = graph.cast(graph.add("Add", whole, np.array([0.5])), TensorProto.UINT8)
    graph.add("Unsqueeze", graph.add("Transpose", image, perm=[1, 2, 0]), _ZERO, output=f"{_NETWORK}image")


def _neighbours(graph: _Graph, frame_px: str, model_px: int, *, clip: bool) -> tuple[str, str, str, str]:
    """Return, per row or column of the image, its two neighbours in the frame and their weights in 2048ths."""
    last = graph.add("Sub", frame_px, _ONE)
    step = graph.add("Div", graph.cast(frame_px, TensorProto.DOUBLE), np.array([float(model_px)]))
    centre = graph.add("Mul", np.arange(model_px) + 0.5, step)
    place = graph.cast(graph.add("Sub", centre, np.array([0.5])), TensorProto.FLOAT)
    if clip:  # OpenCV clips columns only; beyond the first and the last row it weights that row twice
        place = graph.add(
            "Min", graph.add("Max", place, np.array([0], np.float32)), graph.cast(last, TensorProto.FLOAT)
        )
    floor = graph.add("Floor", place)
    fraction = graph.add("Sub", place, floor)
    before = graph.cast(floor, TensorProto.INT64)
    indices = [
        graph.add("Min", graph.add("Max", index, _ZERO), last) for index in (before, graph.add("Add", before, _ONE))
    ]
    weights = [
        graph.add("Round", graph.add("Mul", share, np.array([2048], np.float32)))
        for share in (graph.add("Sub", np.array([1], np.float32), fraction), fraction)
    ]
    return indices[0], indices[1], weights[0], weights[1]


def _add_mask(graph: _Graph, height: str, width: str, contract: Contract) -> None:
    """Add the resize of the network's mask, as INTER_NEAREST_EXACT does it."""
    rows, columns = _nearest(graph, height, contract.height_px), _nearest(graph, width, contract.width_px)
    mask = graph.add("Squeeze", f"{_NETWORK}mask", _ZERO)
    # Whole rows are gathered at once, so two transposes of bytes cost less than a gather of single columns.
    widened = graph.add("Gather", graph.add("Transpose", mask, perm=[1, 0]), columns, axis=0)
    graph.add("Gather", graph.add("Transpose", widened, perm=[1, 0]), rows, axis=0, output="mask")


def _nearest(graph: _Graph, frame_px: str, model_px: int) -> str:
    """Return, per row or column of the frame, the index of the row or column of the mask that it copies."""
    step = graph.add("Div", np.array([float(model_px)]), graph.cast(frame_px, TensorProto.DOUBLE))
    steps = graph.add("Expand", step, graph.add("Sub", frame_px, _ONE))
    half = graph.add("Mul", step, np.array([0.5]))
    # A running sum, as in OpenCV, because its rounding decides where a centre falls on a border between two pixels.
    centres = graph.add("CumSum", graph.add("Concat", half, steps, axis=0), np.array(0))
    return graph.add("Min", graph.cast(centres, TensorProto.INT64), np.array([model_px - 1]))


def _add_probability(graph: _Graph, height: str, width: str) -> None:
    """Add the bilinear resize of the probability of class 1."""
    planes = graph.add("Transpose", graph.add("Sigmoid", f"{_NETWORK}logits"), perm=[0, 3, 1, 2])
    size = graph.add("Concat", _ONE, _ONE, height, width, axis=0)
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    graph.add("Squeeze", graph.add("Resize", planes, "", "", size, **how), np.array([0, 1]), output="probability")
