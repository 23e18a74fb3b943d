"""Send pictures to a virtual camera, which other programs can use like a real one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceError, UsageError
from edge_runtime.sinks.canvas import Canvas
from edge_runtime.sources.frame import Frame

_TRIAL_SIZE = (480, 640)


class Device(Protocol):
    """Interface of the used part of ``pyvirtualcam.Camera``."""

    @property
    def device(self) -> str:
        """Name of the device, such as "/dev/video2"."""

    def send(self, frame: NDArray[np.uint8]) -> None:
        """Send a picture, (H, W, 3) uint8 BGR."""

    def close(self) -> None:
        """Close the device."""


OpenDevice = Callable[[int, int, float], Device]
"""``(height, width, fps) -> device``; raises ``RuntimeError`` with the reason if there is no device."""


class VirtualCamera:
    """Sender of pictures to a virtual camera, which opens at the size of the first; others are scaled to it."""

    def __init__(self, fps: float, open_device: OpenDevice | None = None) -> None:
        """Prepare the camera; ``fps`` is the rate that it reports to other programs."""
        self._fps = fps
        self._open_device = open_device or _pyvirtualcam
        self._canvas = Canvas(even=True)
        self._device: Device | None = None
        self.written = 0

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Send a picture, (H, W, 3) BGR or (H, W, 4) BGRA uint8; BGRA is blended with black.

        Raises:
            UsageError: There is no virtual camera; see ``check_virtual_camera``.
            SourceError: The device no longer exists.
        """
        picture_bgr = self._canvas.paint(picture)
        if self._device is None:
            self._device = _opened(self._open_device, self._canvas.size, self._fps)
        try:
            self._device.send(picture_bgr)
        except (RuntimeError, OSError) as cause:
            raise SourceError(f"virtual camera {self._device.device} — takes no pictures — found {cause}") from cause
        self.written += 1

    def close(self) -> list[str]:
        """Close the device."""
        if self._device is None:
            return []
        device, self._device = self._device, None
        device.close()
        return [f"virtual camera {device.device} ({self.written} frames)"]


def check_virtual_camera(open_device: OpenDevice | None = None) -> None:
    """Check that there is a virtual camera, before the first frame.

    Raises:
        UsageError: The package or the kernel module is missing, or the device is in use.
    """
    _opened(open_device or _pyvirtualcam, _TRIAL_SIZE, 30.0).close()


def _opened(open_device: OpenDevice, size: tuple[int, int], fps: float) -> Device:
    try:
        return open_device(*size, fps)
    except (RuntimeError, OSError) as cause:
        remedy = {
            "linux": "load the kernel module: sudo modprobe v4l2loopback",
            "darwin": "install OBS and start its virtual camera once",
            "win32": "install OBS, which brings one",
        }.get(sys.platform, "install one")
        raise UsageError(f"--virtual-camera — no virtual camera ({' '.join(str(cause).split())}) — {remedy}") from cause


def _pyvirtualcam(height: int, width: int, fps: float) -> Device:
    try:
        import pyvirtualcam
    except ImportError as cause:
        raise UsageError(
            "--virtual-camera — pyvirtualcam not installed — it needs the extra 'camera' — pip install pyvirtualcam"
        ) from cause
    return pyvirtualcam.Camera(width, height, fps, fmt=pyvirtualcam.PixelFormat.BGR)
