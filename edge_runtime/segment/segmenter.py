"""Load a model and segment frames with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import Contract
from edge_runtime.model.device_profile import DeviceProfile, usable_profile
from edge_runtime.model.package import Package
from edge_runtime.model.session import Session, SessionOptions
from edge_runtime.models import PERSON, located
from edge_runtime.segment.postprocess import probabilities_of
from edge_runtime.segment.preprocess import checked_frame, model_input, resize_mask
from edge_runtime.segment.segmentation import Segmentation
from edge_runtime.segment.stream import FrameResult, stream
from edge_runtime.segment.timing import StageTimes
from edge_runtime.sources import Source
from edge_runtime.storage import printable, read_bytes, translated


class Segmenter:
    """Loaded model that segments frames of any size.

    Several threads may call it at once. A segmenter that was loaded before ``fork`` raises ``UsageError`` in the child
    process: load it after the fork, in the process that uses it.

    Attributes:
        variant: Variant of the model in use: "fp32", "int8".
        profile: Device profile that chose variant and options; None if no profile was used.
        package: The verified package; None for a bare ``.onnx`` file.

    Example:
        >>> from edge_runtime import Segmenter
        >>> segmenter = Segmenter.load(package)
        >>> result = segmenter(image_bgr)
        >>> bool(result.where("red")[14, 12])
        True
        >>> segmenter.probabilities(image_bgr).shape
        (24, 32, 3)
    """

    def __init__(
        self,
        session: Session,
        variant: str,
        profile: DeviceProfile | None = None,
        package: Package | None = None,
    ) -> None:
        """Wrap an open session; to open a package or file, use ``Segmenter.load``.

        Args:
            session: Session with the loaded model.
            variant: Name of the model's variant.
            profile: Device profile that the session's options came from.
            package: Package that the model came from.
        """
        self._session = session
        self._buffers = threading.local()
        self.variant = variant
        self.profile = profile
        self.package = package

    @classmethod
    def load(
        cls, path: str | Path = PERSON, *, variant: str | None = None, options: SessionOptions | None = None
    ) -> Segmenter:
        """Load a model package, or a bare ``.onnx`` file that `edge-unet export` wrote.

        Args:
            path: Package folder or ONNX file, or "person" or "person-small", which come with the runtime. A package's
                files are first checked against their SHA-256; for a bare file there is no checksum.
            variant: Variant to load, such as "fp32"; None: the device profile's, else the fastest in the package. A
                bare file is one variant, and says in its metadata which.
            options: Threads, spinning and execution provider; None: the device profile's, else the defaults. A device
                profile of `edge-unet tune` is used only if neither a variant nor options are given.

        Returns:
            The segmenter, after one warm-up run, so that the first frame is as fast as others.

        Raises:
            ModelError: The package or file is missing, damaged or not a model of ours, or its outputs are not finite.
            UsageError: This onnxruntime does not have the execution provider.
        """
        path = located(path)
        with translated("read", path, ModelError):
            bare = path.suffix == ".onnx" and not path.is_dir()
        if bare:
            session = Session(read_bytes(path, ModelError), printable(path), options=options)
            if variant not in (None, session.variant):
                raise ModelError(f"{printable(path)} — is the variant '{session.variant}' — found --variant {variant}")
            segmenter = cls(session, session.variant)
        else:
            package = Package.open(path)
            profile = usable_profile(package) if variant is None and options is None else None
            if profile is not None:
                variant, options = profile.variant, profile.options
            chosen = variant or ("int8" if "int8" in package.manifest.variants else "fp32")
            model = package.model_bytes(chosen)
            where = printable(path / package.manifest.variants[chosen].file)
            segmenter = cls(Session(model, where, package.manifest.contract, options), chosen, profile, package)
        segmenter._warm_up(printable(path))
        return segmenter

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied, because a session cannot be.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a Segmenter cannot be pickled or copied — call Segmenter.load in the process that uses it")

    @property
    def contract(self) -> Contract:
        """Input size and classes of the model."""
        return self._session.contract

    @property
    def session(self) -> Session:
        """Session of onnxruntime, for measuring the bare run as `edge-unet bench` does.

        To compute results, use ``logits_of`` and ``mask_of``.
        """
        return self._session

    @property
    def threads(self) -> int:
        """Number of threads per inference."""
        return self._session.threads

    def __call__(self, image_bgr: NDArray[np.uint8], times: StageTimes | None = None) -> Segmentation:
        """Segment one frame.

        Args:
            image_bgr: (H, W, 3) uint8 BGR of any size; also (H, W) or (H, W, 1) grey, or (H, W, 4) BGRA.
            times: Collects the times of the stages "resize", "inference" and "mask".

        Returns:
            The mask at the frame's size.

        Raises:
            InputError: The frame has another type, dtype or shape, no pixels, or more than 64 megapixels.
            ModelError: The model failed on the frame.
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
        """Return a frame as input of the model: checked, converted to its channels, resized.

        Args:
            image_bgr: As for a call.

        Returns:
            (height_px, width_px, channels) uint8 in newly allocated memory.

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

    def stream(self, source: int | str | Path | Sequence[str | Path] | Source) -> Iterator[FrameResult]:
        """Segment a source frame by frame.

        Of a live source, the newest frame is taken, and frames that arrive too fast are dropped. Files lose no frame.

        Args:
            source: Source as for ``open_source``, or an open source, which stays open.

        Yields:
            The result of each frame, in order.

        Raises:
            SourceError: The camera or stream is not available.
            InputError: A file cannot be read.
        """
        return stream(self, source)

    def _input(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a checked frame as input of the model, in memory that this thread's next call overwrites.

        The memory is not that of the frame, so the caller cannot change it while the model runs.
        """
        c = self.contract
        buffer: NDArray[np.uint8] | None = getattr(self._buffers, "image", None)
        if buffer is None:
            buffer = self._buffers.image = np.empty((c.height_px, c.width_px, c.channels), np.uint8)
        return model_input(frame, c.height_px, c.width_px, c.channels, out=buffer)

    def _warm_up(self, where: str) -> None:
        """Run once, so that no frame waits for memory, and a model whose outputs are not finite is refused at once."""
        c = self.contract
        grey = np.full((c.height_px, c.width_px, 3), 128, np.uint8)
        if not np.isfinite(self.logits(grey)).all():
            raise ModelError(f"{where} — answers NaN or infinity to a grey frame — train and export the model again")
