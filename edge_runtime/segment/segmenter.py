"""Array in, masks out: the class that applications use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.device_profile import DeviceProfile, usable_profile
from edge_runtime.model.package import Package
from edge_runtime.model.session import Session, SessionOptions
from edge_runtime.segment.postprocess import probabilities_of
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.stream import FrameResult, stream
from edge_runtime.segment.timing import StageTimes
from edge_runtime.storage import printable, read_bytes


class Segmenter:
    """A loaded model. Calling it is safe from several threads; make it before forking, not across a fork."""

    def __init__(self, session: Session, variant: str, profile: DeviceProfile | None = None) -> None:
        """Wrap a session; ``Segmenter.load`` is the usual way to make one. ``profile`` is where its options came from."""
        self._session = session
        self._buffers = threading.local()
        self.variant = variant
        self.profile = profile

    @classmethod
    def load(cls, path: str | Path, *, variant: str | None = None, options: SessionOptions | None = None) -> Segmenter:
        """Load a model package, or a bare ``.onnx`` file that `edge-unet export` wrote.

        Args:
            path: Package folder or ONNX file. A package's files are checked against their SHA-256 first; a bare file
                has nothing to be checked against.
            variant: "fp32", …; by default the fastest that the package holds.
            options: Threads, spinning and execution provider. Where neither these nor a variant are given, the device
                profile that `edge-unet tune` wrote decides, if there is one for this machine.

        Raises:
            ModelError: The package or file is missing, damaged, or not one of ours, or its answers are not finite.
        """
        path = Path(path)
        if path.suffix == ".onnx" and not path.is_dir():
            session = Session(read_bytes(path, ModelError), printable(path), options=options)
            segmenter = cls(session, variant or "fp32")
        else:
            package = Package.open(path)
            profile = usable_profile(package) if variant is None and options is None else None
            if profile is not None:
                variant, options = profile.variant, profile.options
            chosen = variant or ("int8" if "int8" in package.manifest.variants else "fp32")
            model = package.model_bytes(chosen)
            where = printable(path / package.manifest.variants[chosen].file)
            segmenter = cls(Session(model, where, package.manifest.contract, options), chosen, profile)
        segmenter._warm_up(printable(path))
        return segmenter

    @property
    def contract(self) -> Contract:
        """What the model takes and gives."""
        return self._session.contract

    @property
    def session(self) -> Session:
        """The onnxruntime session underneath, for measuring it alone."""
        return self._session

    @property
    def threads(self) -> int:
        """Threads that one inference uses."""
        return self._session.threads

    def __call__(self, image_bgr: NDArray[np.uint8], times: StageTimes | None = None) -> Segmentation:
        """Segment one frame.

        Args:
            image_bgr: (H, W, 3) uint8 BGR of any size; (H, W) and (H, W, 1) grey and (H, W, 4) BGRA are taken too.
            times: Collects the times of the stages "resize", "inference" and "mask".

        Returns:
            The mask at the frame's size.

        Raises:
            InputError: Anything else.
            UsageError: This process was forked after the segmenter was made.
        """
        times = StageTimes() if times is None else times
        with times.stage("resize"):
            frame = checked_frame(image_bgr)
            image = self._input(frame)
        with times.stage("inference"):
            small = self._session.mask(image)
        with times.stage("mask"):
            mask = resize_mask(small, frame.shape[0], frame.shape[1])
        return Segmentation(mask=mask, classes=self.contract.classes)

    def probabilities(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (height_px, width_px, L) float32 probabilities at the model's size; L = 1 for a binary model.

        Raises:
            InputError: As for a call.
        """
        return probabilities_of(self.logits(image_bgr), binary=self.contract.binary)

    def logits(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (height_px, width_px, L) float32 logits at the model's size.

        Raises:
            InputError: As for a call.
        """
        return self._session.logits(self._input(checked_frame(image_bgr)))

    def stream(self, source: int | str | Path) -> Iterator[FrameResult]:
        """Segment a source frame by frame: camera index, url, video, image, folder or glob.

        A live source gives its newest frame and drops those it has no time for; files lose none.

        Raises:
            SourceError: The camera or stream is not available.
            InputError: A file cannot be read.
        """
        return stream(self, source)

    def _input(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the model's input in this thread's own memory, which the caller of the segmenter cannot change."""
        c = self.contract
        buffer: NDArray[np.uint8] | None = getattr(self._buffers, "image", None)
        if buffer is None:
            buffer = self._buffers.image = np.empty((c.height_px, c.width_px, c.channels), np.uint8)
        return model_input(frame, c.height_px, c.width_px, c.channels, out=buffer)

    def _warm_up(self, where: str) -> None:
        """Run once, so that the first frame is not the slow one and a model that answers NaN is refused at the start."""
        c = self.contract
        grey = np.full((c.height_px, c.width_px, 3), 128, np.uint8)
        if not np.isfinite(self.logits(grey)).all():
            raise ModelError(f"{where} — answers NaN or infinity to a grey frame — train and export the model again")
        self(grey)
