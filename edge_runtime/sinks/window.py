"""The window on the screen, and whether there can be one."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.sources.frame import Frame


class Window:
    """A window on the screen. Q, Esc or its cross ends the run; of separate images, another key shows the next."""

    _TITLE = "edge-unet: q quits"

    def __init__(self, *, wait_for_key: bool) -> None:
        """``wait_for_key`` holds each picture until a key is pressed; see ``check_display`` first."""
        self._wait_for_key = wait_for_key
        self.wants_more = True
        self._sized = False
        cv2.namedWindow(self._TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)

    def write(self, frame: Frame, picture_bgr: NDArray[np.uint8]) -> None:
        """Show a picture, (H, W, 3) uint8 BGR."""
        if not self._sized:
            height, width = picture_bgr.shape[:2]
            scale = min(1.0, 1280 / width, 720 / height)
            cv2.resizeWindow(self._TITLE, round(width * scale), round(height * scale))
            self._sized = True
        cv2.imshow(self._TITLE, picture_bgr)
        while self.wants_more:
            # Never for ever: Ctrl-C is noticed between two waits only.
            key = cv2.waitKey(50 if self._wait_for_key else 1) & 0xFF
            visible = cv2.getWindowProperty(self._TITLE, cv2.WND_PROP_VISIBLE) >= 1
            self.wants_more = visible and key not in (ord("q"), 27)
            if not self._wait_for_key or key != 0xFF:
                return

    def close(self) -> list[str]:
        """Close the window."""
        cv2.destroyAllWindows()
        return []


def check_display() -> None:
    """Find out whether a window can be opened, without opening one here.

    Raises:
        UsageError: There is no display, or this OpenCV has no windows.
    """
    remedy = "use --save DIR instead, or run it on a desktop"
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise UsageError(
            "--show — opencv-python-headless is installed, which has no windows — install opencv-python in its place"
        )
    if sys.platform != "linux":
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError(f"--show — no display (DISPLAY and WAYLAND_DISPLAY are not set) — {remedy}")
    # Qt ends the whole process when the display refuses it, so a child tries first.
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('edge-unet'); cv2.waitKey(1)"]
    try:
        child = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired as cause:
        raise UsageError(f"--show — the display does not answer — {remedy}") from cause
    if child.returncode != 0:
        raise UsageError(f"--show — the display refuses a window (DISPLAY={os.environ.get('DISPLAY', '')}) — {remedy}")
