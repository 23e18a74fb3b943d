"""A virtual camera, so that other programs see the pictures as if a camera had taken them."""

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
    """What of ``pyvirtualcam.Camera`` is used."""

    @property
    def device(self) -> str:
        """Name of the device, as in "/dev/video2"."""

    def send(self, frame: NDArray[np.uint8]) -> None:
        """Send a picture, (H, W, 3) uint8 BGR."""

    def close(self) -> None:
        """Give the device back."""


OpenDevice = Callable[[int, int, float], Device]
"""``(height, width, fps) -> device``, or a ``RuntimeError`` that says why not."""


class VirtualCamera:
    """Pictures to a virtual camera, at the size of the first; another one is scaled to it. Opened with the first."""

    def __init__(self, fps: float, open_device: OpenDevice | None = None) -> None:
        """Prepare the camera; ``fps`` is what programs that read it are told."""
        self._fps = fps
        self._open_device = open_device or _pyvirtualcam
        self._canvas = Canvas(even=True)
        self._device: Device | None = None
        self.written = 0

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Show a picture, (H, W, 3) BGR or (H, W, 4) BGRA uint8, the latter on black.

        Raises:
            UsageError: There is no virtual camera; see ``check_virtual_camera``.
            SourceError: The device has gone.
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
        """Give the device back."""
        if self._device is None:
            return []
        device, self._device = self._device, None
        device.close()
        return [f"virtual camera {device.device} ({self.written} frames)"]


def check_virtual_camera(open_device: OpenDevice | None = None) -> None:
    """Find out whether there is a virtual camera, before the first frame.

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
            "--virtual-camera — pyvirtualcam not installed — it needs the extra 'camera' — "
            'pip install "edge-unet[camera]"'
        ) from cause
    return pyvirtualcam.Camera(width, height, fps, fmt=pyvirtualcam.PixelFormat.BGR)
