"""Load a file in each engine, feed it and read its results. Engines are imported where they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Model that is loaded in an engine.

    Attributes:
        prepare: Function from an image, (H, W, C) uint8 BGR or grey, to the engine's input; not timed.
        run: Function from the engine's input to its result; this is timed.
        probabilities: Function from the engine's input to (H, W, L) float32 probabilities, for the check.
        precision: Precision in which the engine says it computes; empty if it cannot be asked.
    """

    prepare: Callable[[Image], Any]
    run: Callable[[Any], NDArray[Any]]
    probabilities: Callable[[Any], NDArray[np.float32]]
    precision: str = ""


def class_ids(probabilities: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
    """Return (…, H, W) class ids from probabilities (…, H, W, L)."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] > 0.5).astype(np.uint8)
    return probabilities.argmax(-1)


def to_rgb_float(image: Image) -> NDArray[np.float32]:
    rgb = image[..., ::-1] if image.shape[-1] == 3 else image
    return np.ascontiguousarray(rgb, np.float32)[np.newaxis]


def to_batch(image: Image) -> Image:
    return image[np.newaxis]


def from_logits(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    if logits.shape[-1] == 1:
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def open_tensorflow(path: Path, threads: int) -> Opened:
    import keras
    import tensorflow as tf

    from export.keras_model import convertible

    # Models from elsewhere are written with the layers that replace some of Keras' own.
    replaced = {
        name: kind
        for name, kind in vars(convertible).items()
        if isinstance(kind, type) and issubclass(kind, keras.Layer)
    }

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = keras.saving.load_model(path, compile=False, custom_objects=replaced)
    call = tf.function(lambda x: model(x, training=False))

    def run(x: Any) -> NDArray[np.float32]:
        return call(x).numpy()[0]

    return Opened(prepare=lambda image: tf.constant(to_rgb_float(image)), run=run, probabilities=run)


def open_onnxruntime(path: Path, threads: int) -> Opened:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return session.run(["probabilities"], {"image": x})[0][0]

    return Opened(prepare=to_rgb_float, run=run, probabilities=run)


def open_ours(path: Path, threads: int) -> Opened:
    session = _our_session(path, threads)
    return Opened(prepare=_as_it_is, run=session.mask, probabilities=lambda x: from_logits(session.logits(x)))


def open_our_logits(path: Path, threads: int) -> Opened:
    session = _our_session(path, threads)
    return Opened(prepare=_as_it_is, run=session.logits, probabilities=lambda x: from_logits(session.logits(x)))


def _our_session(path: Path, threads: int) -> Any:
    from edge_runtime.model.session import Session, SessionOptions

    # With spinning, which is onnxruntime's default and so that of the raw session.
    return Session(path.read_bytes(), path.name, options=SessionOptions(threads=threads, spinning=True))


def _as_it_is(image: Image) -> Image:
    return image


def open_openvino(path: Path, threads: int, *, precision: str | None = None) -> Opened:
    import openvino as ov

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    core = ov.Core()

    def compiled(output: str) -> Any:
        model = core.read_model(path)
        return core.compile_model(ov.Model([model.output(output)], model.get_parameters(), output), "CPU", settings)

    # With one output each, so that only the result is computed.
    pixels_in = core.read_model(path).input(0).get_element_type() == ov.Type.u8
    timed = compiled("mask" if pixels_in else "probabilities")
    request = timed.create_infer_request()

    def probabilities(x: NDArray[Any]) -> NDArray[np.float32]:
        return from_logits(checked().infer({0: x})[0][0])

    @cache
    def checked() -> Any:
        return compiled("logits").create_infer_request()

    return Opened(
        prepare=to_batch if pixels_in else to_rgb_float,
        run=lambda x: request.infer({0: x}, share_inputs=True, share_outputs=True)[0][0],
        probabilities=probabilities,
        precision=timed.get_property("INFERENCE_PRECISION_HINT").to_string(),
    )


def open_openvino_f32(path: Path, threads: int) -> Opened:
    return open_openvino(path, threads, precision="f32")


def open_litert(path: Path, threads: int) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def prepare(image: Image) -> NDArray[Any]:
        x = to_rgb_float(image)
        if source["dtype"] == np.float32:
            return x
        scale, zero = source["quantization"]
        return np.clip(np.rint(x / scale + zero), 0, 255).astype(np.uint8)

    def run(x: NDArray[Any]) -> NDArray[Any]:
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])[0]

    def probabilities(x: NDArray[Any]) -> NDArray[np.float32]:
        answer = run(x)
        if target["dtype"] == np.float32:
            return answer
        scale, zero = target["quantization"]
        return (answer.astype(np.float32) - zero) * scale

    return Opened(prepare=prepare, run=run, probabilities=probabilities)


def open_opencv(path: Path, threads: int, *, engine: str = "ENGINE_NEW") -> Opened:
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromONNX(str(path), getattr(cv2.dnn, engine))
    names = net.getUnconnectedOutLayersNames()
    output = "mask" if "mask" in names else "probabilities"

    def answer(x: NDArray[Any], name: str) -> NDArray[Any]:
        net.setInput(x)
        return net.forward(name)[0]

    return Opened(
        prepare=to_batch if output == "mask" else to_rgb_float,
        run=lambda x: answer(x, output),
        probabilities=lambda x: from_logits(answer(x, "logits")),
    )


def open_opencv_classic(path: Path, threads: int) -> Opened:
    return open_opencv(path, threads, engine="ENGINE_CLASSIC")
