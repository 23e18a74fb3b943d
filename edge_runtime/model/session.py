"""Create an onnxruntime session safely, check it against its contract, and run it; no other module uses onnxruntime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge_runtime.errors import ModelError, UsageError
from edge_runtime.model.contract import METADATA_KEY, VARIANT_KEY, Contract
from edge_runtime.resources import usable_cores

MAX_THREADS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """Threads, spinning and execution provider of a session.

    Attributes:
        threads: Threads per inference; 0 uses as many as this process may use cores.
        spinning: Whether idle threads spin. This is slightly faster in a tight loop, but between the frames of a camera
            each thread occupies a core, so it is off by default.
        provider: Execution provider of onnxruntime, such as "CPUExecutionProvider".

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
        """Check the number of threads, because onnxruntime accepts any."""
        if not 0 <= self.threads <= MAX_THREADS:
            raise UsageError(f"threads is {self.threads} — expected 0 (all usable cores) to {MAX_THREADS}")


class Session:
    """Session of onnxruntime whose signature fits its contract.

    Several threads may run it at once. A forked process must not use it. Each result has its own memory. Binding inputs
    and outputs beforehand (``run_with_iobinding``) is not faster on a CPU: `tests/benchmarks/bench_frame.py` measures
    both.

    Attributes:
        contract: Inputs and outputs of the model.
        variant: Variant that the metadata names; "fp32" if they name none.
        threads: Threads per inference.
    """

    def __init__(
        self, model: bytes, where: str, contract: Contract | None = None, options: SessionOptions | None = None
    ) -> None:
        """Create the session and check names, shapes, types and metadata.

        Args:
            model: Bytes of the ONNX file. Loading from bytes makes onnxruntime refuse external data, on purpose.
            where: Name of the file in error messages.
            contract: Contract of the manifest, which must equal that in the file's metadata; None: only the latter.
            options: Threads, spinning and provider.

        Raises:
            ModelError: The file does not load, has no contract, or does not fit it.
            UsageError: This onnxruntime does not have the execution provider.
        """
        options = options or SessionOptions()
        if options.provider not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise UsageError(f"execution provider is {options.provider} — this onnxruntime has {available}")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads or usable_cores()
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4  # its errors are raised as exceptions; on stderr they would appear twice
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spinning else "0")
        try:
            self._session = ort.InferenceSession(model, settings, providers=[options.provider])
        except Exception as cause:  # onnxruntime's errors have no other common base class
            raise ModelError(_load_message(where, str(cause))) from cause
        if options.provider not in self._session.get_providers():
            raise ModelError(  # onnxruntime would use the CPU instead and only log it
                f"{where} — {options.provider} does not start on this machine — check its driver and libraries, or "
                "use CPUExecutionProvider"
            )
        metadata = self._session.get_modelmeta().custom_metadata_map
        embedded = metadata.get(METADATA_KEY)
        if embedded is None:
            raise ModelError(
                f"{where} — no '{METADATA_KEY}' in its metadata — expected a model that `edge-unet export` wrote"
            )
        self.contract = Contract.from_json(embedded, f"{where}: {METADATA_KEY}")
        if contract is not None and contract != self.contract:
            raise ModelError(f"{where} — its contract differs from the manifest's — export the package again")
        self.variant: str = metadata.get(VARIANT_KEY, "fp32")
        self.threads: int = settings.intra_op_num_threads
        self._check_signature(where)
        # Compute only the requested output: a mask needs neither softmax nor the transposed logits.
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self._process = os.getpid()

    def mask(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the class ids of one image, (height_px, width_px) uint8, from (height_px, width_px, channels) uint8.

        Raises:
            ModelError: The model failed on the image.
            UsageError: This process was forked after the session was made.
        """
        return self._run("mask", image).astype(np.uint8, copy=False)

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of one image, (height_px, width_px, L) float32, from (height_px, width_px, channels) uint8.

        Raises:
            ModelError: The model failed on the image.
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
        except Exception as cause:  # onnxruntime's errors have no other common base class
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
