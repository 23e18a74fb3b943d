"""Load a model and segment frames with it: the class that applications use."""

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
    """A loaded model that segments frames of any size.

    Several threads may call it at once. A child process cannot use one that was loaded before ``fork`` and gets a
    ``UsageError``: load it after the fork, in the process that uses it.

    Attributes:
        variant: Which model of the package it runs: "fp32", "int8".
        profile: The device profile that chose variant and options, or None.

    Example:
        >>> from edge_runtime import Segmenter
        >>> segmenter = Segmenter.load(package)
        >>> result = segmenter(image_bgr)
        >>> bool(result.where("red")[14, 12])
        True
        >>> segmenter.probabilities(image_bgr).shape
        (24, 32, 3)
    """

    def __init__(self, session: Session, variant: str, profile: DeviceProfile | None = None) -> None:
        """Wrap a session that is open already; ``Segmenter.load`` opens a package or a file.

        Args:
            session: The loaded model.
            variant: Its name.
            profile: The device profile that the session's options came from.
        """
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

        Returns:
            The segmenter, which has run once already: the first frame takes no longer than others.

        Raises:
            ModelError: The package or file is missing, damaged, or not one of ours, or its answers are not finite.
            UsageError: This onnxruntime does not have the execution provider.
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
        """Size of the model's input, and its classes."""
        return self._session.contract

    @property
    def session(self) -> Session:
        """The onnxruntime session underneath, to measure the bare run as `edge-unet bench` does.

        To compute something, use ``logits_of`` and ``mask_of``.
        """
        return self._session

    @property
    def threads(self) -> int:
        """Number of threads that one inference uses."""
        return self._session.threads

    def __call__(self, image_bgr: NDArray[np.uint8], times: StageTimes | None = None) -> Segmentation:
        """Segment one frame.

        Args:
            image_bgr: (H, W, 3) uint8 BGR of any size; (H, W) and (H, W, 1) grey and (H, W, 4) BGRA are taken too.
            times: Collects the times of the stages "resize", "inference" and "mask".

        Returns:
            The mask at the frame's size.

        Raises:
            InputError: The frame has another type, dtype or shape, no pixels, or more than 64 megapixels.
            ModelError: The model failed on it.
            UsageError: This process was forked after the segmenter was loaded.
        """
        times = StageTimes() if times is None else times
        with times.stage("resize"):
            frame = checked_frame(image_bgr)
            image = self._input(frame)
        with times.stage("inference"):
            small = self.mask_of(image)
        with times.stage("mask"):
            mask = resize_mask(small, frame.shape[0], frame.shape[1])
        return Segmentation(mask=mask, classes=self.contract.classes)

    def probabilities(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class for a frame.

        Args:
            image_bgr: As for a call.

        Returns:
            (height_px, width_px, L) float32 in 0–1 at the model's size. L is the number of classes and they sum to 1
            per pixel; a binary model has L = 1, the probability of class 1.

        Raises:
            InputError, ModelError, UsageError: As for a call.
        """
        return probabilities_of(self.logits(image_bgr), binary=self.contract.binary)

    def logits(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a frame.

        Args:
            image_bgr: As for a call.

        Returns:
            (height_px, width_px, L) float32 at the model's size; L as for ``probabilities``.

        Raises:
            InputError, ModelError, UsageError: As for a call.
        """
        return self.logits_of(self._input(checked_frame(image_bgr)))

    def input_of(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a frame as the model takes it: checked, with its number of channels, resized.

        Args:
            image_bgr: As for a call.

        Returns:
            (height_px, width_px, channels) uint8 in memory of its own.

        Raises:
            InputError: As for a call.
        """
        c = self.contract
        memory = np.empty((c.height_px, c.width_px, c.channels), np.uint8)
        return model_input(checked_frame(image_bgr), c.height_px, c.width_px, c.channels, out=memory)

    def logits_of(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model on its input and return the logits.

        Args:
            image: (height_px, width_px, channels) uint8, as ``input_of`` returns it.

        Returns:
            (height_px, width_px, L) float32; L as for ``probabilities``.

        Raises:
            ModelError, UsageError: As for a call.
        """
        return self._session.logits(image)

    def mask_of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Run the model on its input and return the class ids.

        Args:
            image: (height_px, width_px, channels) uint8, as ``input_of`` returns it.

        Returns:
            (height_px, width_px) uint8 class ids.

        Raises:
            ModelError, UsageError: As for a call.
        """
        return self._session.mask(image)

    def stream(self, source: int | str | Path) -> Iterator[FrameResult]:
        """Segment a source frame by frame.

        Of a live source the newest frame is taken, and frames that come too fast are dropped; files lose none.

        Args:
            source: Camera index, URL, video, image, folder or glob.

        Yields:
            The result of each frame, in order.

        Raises:
            SourceError: The camera or stream is not available.
            InputError: A file cannot be read.
        """
        return stream(self, source)

    def _input(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a checked frame as the model's input, in memory that this thread's next call overwrites.

        The caller of the segmenter cannot change it while the model runs.
        """
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
