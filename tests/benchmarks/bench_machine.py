"""Measure the machine: CPU name, versions of engines, and their peak throughput in large matrix products.

As a script, it measures one engine in its own process and prints billions of operations per second for each type.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

DISTRIBUTIONS = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "ai-edge-litert",
    "opencv-python",
    "numpy",
)
# What the products of 8-bit integers and of short floats are computed with, as /proc/cpuinfo calls it.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
ENGINES = ("numpy", "onnxruntime", "openvino")
Shape = tuple[int, int, int]
# (rows, inner, columns): square ones, and one as a convolution over a picture has it.
SHAPES: tuple[Shape, ...] = ((1024, 1024, 1024), (2048, 2048, 2048), (16384, 576, 128))
MEASURED_S = 0.4
Product = tuple[str, Callable[[], object]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    products = {"numpy": numpy_products, "onnxruntime": onnxruntime_products, "openvino": openvino_products}
    peaks: dict[str, float] = {}
    for shape in SHAPES:
        for arithmetic, multiply in products[args.engine](shape, args.threads):
            gflops = 2 * float(np.prod(shape)) / 1e9 / fastest_s(multiply)
            peaks[arithmetic] = max(gflops, peaks.get(arithmetic, 0.0))
    print(json.dumps(peaks))


def engine_versions() -> dict[str, str]:
    """Return the versions of the engines that are installed."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def cpu_name() -> str:
    """Return the CPU's name and, on Linux, those of its instructions that matter here."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", facts.get("Features", "")).split()
    return " ".join(
        [facts.get("model name", platform.machine()), *(f"+{name}" for name in INSTRUCTIONS if name in flags)]
    )


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a child that measures numpy, because only the environment sets numpy's threads."""
    return {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}


def fastest_s(multiply: Callable[[], object]) -> float:
    """Return the shortest time, because a peak is the speed of the undisturbed machine."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < MEASURED_S:
        start = time.perf_counter()
        multiply()
        times.append(time.perf_counter() - start)
    return min(times)


def numpy_products(shape: Shape, threads: int) -> Iterator[Product]:
    a, b = _floats(shape)
    out = np.empty((shape[0], shape[2]), np.float32)
    yield "fp32", lambda: np.matmul(a, b, out=out)


def onnxruntime_products(shape: Shape, threads: int) -> Iterator[Product]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    for arithmetic, model, x in _models(shape):
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        yield arithmetic, partial(session.run, None, {"x": x})


def openvino_products(shape: Shape, threads: int) -> Iterator[Product]:
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    for arithmetic, model, x in _models(shape):
        if arithmetic == "int8" and b"MatMulInteger" in model:
            continue  # it has no such operator
        precisions: tuple[str | None, ...] = ("f32", None) if arithmetic == "fp32" else (None,)
        for precision in precisions:
            hint = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
            compiled = core.compile_model(core.read_model(model), "CPU", {**settings, **hint})
            chosen = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            request = compiled.create_infer_request()
            yield (
                arithmetic if arithmetic == "int8" else {"f32": "fp32"}.get(chosen, chosen),
                partial(request.infer, {0: x}, share_inputs=True, share_outputs=True),
            )


def _floats(shape: Shape) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    rows, inner, columns = shape
    return rng.standard_normal((rows, inner), np.float32), rng.standard_normal((inner, columns), np.float32)


def _models(shape: Shape) -> Iterator[tuple[str, bytes, NDArray[Any]]]:
    """Yield type, model and input: products by constant weights in float, in integers, and in QDQ form."""
    a, b = _floats(shape)
    pixels = np.clip(a * 30 + 128, 0, 255).astype(np.uint8)
    weights = np.clip(b * 30, -127, 127).astype(np.int8)
    yield "fp32", _model(shape, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": b}, np.float32, np.float32), a
    integer = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    yield "int8", _model(shape, integer, {"w": weights}, np.uint8, np.int32), pixels
    qdq = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "weight_zero"], ["wf"]),
        helper.make_node("MatMul", ["xf", "wf"], ["yf"]),
        helper.make_node("QuantizeLinear", ["yf", "scale", "zero"], ["y"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "w": weights,
        "scale": np.array(0.05, np.float32),
        "zero": np.array(0, np.uint8),
        "weight_zero": np.array(0, np.int8),
    }
    yield "int8", _model(shape, qdq, constants, np.uint8, np.uint8), pixels


def _model(
    shape: Shape, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], source: type, target: type
) -> bytes:
    kinds: dict[type, int] = {np.float32: TensorProto.FLOAT, np.uint8: TensorProto.UINT8, np.int32: TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", kinds[source], shape[:2])],
        [helper.make_tensor_value_info("y", kinds[target], (shape[0], shape[2]))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
