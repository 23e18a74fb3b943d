"""The one place that talks to onnxruntime: create a session safely, check it against its contract, run it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import METADATA_KEY, Contract
from edge_runtime.resources import usable_cores

MAX_THREADS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session uses the machine.

    Attributes:
        threads: Threads inside one operator; 0 takes as many as this process may use.
        spinning: Let idle threads spin. A little faster in a tight loop, but between the frames of a camera it burns a
            core a thread, so it is off.
        provider: onnxruntime's execution provider, such as "CPUExecutionProvider".

    Example:
        >>> from edge_runtime import Segmenter, SessionOptions
        >>> segmenter = Segmenter.load(package, options=SessionOptions(threads=2))
        >>> segmenter.threads
        2
    """

    threads: int = 0
    spinning: bool = False
    provider: str = "CPUExecutionProvider"

    def __post_init__(self) -> None:
        """Check the number of threads, which onnxruntime would take at its word."""
        if not 0 <= self.threads <= MAX_THREADS:
            raise UsageError(f"threads is {self.threads} — expected 0 (all usable cores) to {MAX_THREADS}")


class Session:
    """An onnxruntime session that keeps to its contract; several threads may run it at once, a fork of the process may not.

    Results are in memory of their own each time. Binding inputs and outputs beforehand (``run_with_iobinding``) was
    measured and is no faster on a CPU: `tests/benchmarks/bench_frame.py` prints both.
    """

    def __init__(
        self, model: bytes, where: str, contract: Contract | None = None, options: SessionOptions | None = None
    ) -> None:
        """Create the session and check names, shapes, types and metadata.

        Args:
            model: The bytes of the ONNX file. From bytes onnxruntime finds no external data, which is as we want it.
            where: Its name, for messages.
            contract: What a manifest says of it; without one the file's own metadata must hold it.
            options: Threads, spinning and provider.

        Raises:
            ModelError: The file does not load, has no contract, or does not do what the contract says.
            UsageError: This onnxruntime does not have the execution provider.
        """
        options = options or SessionOptions()
        if options.provider not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise UsageError(f"execution provider is {options.provider} — this onnxruntime has {available}")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads or usable_cores()
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # its errors reach us as exceptions; on stderr they would stand twice
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spinning else "0")
        try:
            self._session = ort.InferenceSession(model, settings, providers=[options.provider])
        except Exception as cause:  # onnxruntime's errors share no other base
            raise ModelError(_load_message(where, str(cause))) from cause
        if options.provider not in self._session.get_providers():
            raise ModelError(  # onnxruntime takes the CPU instead and only logs it
                f"{where} — {options.provider} does not start on this machine — check its driver and libraries, or "
                "use CPUExecutionProvider"
            )
        embedded = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if embedded is None:
            raise ModelError(
                f"{where} — no '{METADATA_KEY}' in its metadata — expected a model that `edge-unet export` wrote"
            )
        self.contract = Contract.from_json(embedded, f"{where}: {METADATA_KEY}")
        if contract is not None and contract != self.contract:
            raise ModelError(f"{where} — its contract differs from the manifest's — export the package again")
        self.threads: int = settings.intra_op_num_threads
        self._check_signature(where)
        # Only what is asked for is computed: a mask needs no softmax and no transpose of the logits.
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self._process = os.getpid()

    def mask(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run one image, (height_px, width_px, channels) uint8, to class ids, (height_px, width_px) uint8.

        Raises:
            ModelError: The model failed on it.
            UsageError: This process was forked after the session was made.
        """
        return self._run("mask", image).astype(np.uint8, copy=False)

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one image, (height_px, width_px, channels) uint8, to logits, (height_px, width_px, L) float32.

        Raises:
            ModelError: The model failed on it.
            UsageError: This process was forked after the session was made.
        """
        return self._run("logits", image).astype(np.float32, copy=False)

    def _run(self, output: str, image: NDArray[np.uint8]) -> NDArray[Any]:
        if os.getpid() != self._process:
            raise UsageError(
                f"model '{self.contract.name}' — was loaded before this process was forked, without the threads that it "
                "waits for — load it in the process that uses it"
            )
        try:
            result: NDArray[Any] = self._session.run([output], {"image": image[np.newaxis]}, self._run_options)[0]
        except Exception as cause:  # as above
            raise ModelError(f"model '{self.contract.name}' failed on a frame — {_first_line(str(cause))}") from cause
        return result[0]

    def _check_signature(self, where: str) -> None:
        c = self.contract
        found = {
            **{node.name: (node.type, tuple(node.shape)) for node in self._session.get_inputs()},
            **{node.name: (node.type, tuple(node.shape)) for node in self._session.get_outputs()},
        }
        if "frame" in found:
            raise ModelError(
                f"{where} — is for applications without this runtime: it takes frames of any size — load the package's "
                "folder or its model.onnx"
            )
        expected = {
            "image": ("tensor(uint8)", (1, c.height_px, c.width_px, c.channels)),
            "mask": ("tensor(uint8)", (1, c.height_px, c.width_px)),
            "logits": ("tensor(float)", (1, c.height_px, c.width_px, c.logit_channels)),
        }
        for name in sorted(expected.keys() | found.keys()):
            if found.get(name) != expected.get(name):
                raise ModelError(
                    f"{where}: tensor '{name}' is {found.get(name, 'missing')} — the contract says "
                    f"{expected.get(name, 'nothing of it')} — export the model again"
                )


def _load_message(where: str, reason: str) -> str:
    if "model_path must not be empty" in reason or "external" in reason.lower():
        return (
            f"{where} — keeps its weights in another file — expected one self-contained file — export the model again"
        )
    if "opset" in reason.lower() or "ir version" in reason.lower():
        return f"{where} — {_first_line(reason)} — it needs a newer onnxruntime than {ort.__version__}: pip install -U onnxruntime"
    return f"{where} — onnxruntime cannot load it ({_first_line(reason)}) — copy or export the model again"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:200] if text.strip() else "no reason given"
