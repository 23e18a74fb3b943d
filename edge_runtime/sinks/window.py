"""Show pictures in a window, and check whether one can be opened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.sinks.display import display_picture, draw_text, window_size
from edge_runtime.sources.frame import Frame, Kind

_KEY_INTERVAL_S = 0.02
_STEP_S = 0.1
_RATE_FRAMES = 30
_ESCAPE = 27
_HELP_S = 6.0
"""Seconds for which the picture names the keys, because few people read the title of a window."""
_MODIFIERS = 0xE0
"""Lowest key code of shift, control and similar keys, which are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    frame: Frame
    picture: NDArray[np.uint8]
    effect: int


class Window:
    """Window to which a working thread passes pictures, and which the main thread shows.

    Window systems require all calls in one thread, which is the main one on macOS. Therefore ``write`` only passes a
    picture, and only ``pump`` and ``close`` touch the window. Keys:

    - q, Esc, or closing the window: ``wants_more`` becomes false.
    - space: pause a video or live source. ``write`` waits during the pause, so that a file waits and a camera drops
      frames.
    - e: switch to the next effect; a frame that waits in ``write`` is drawn again.
    - h: show or hide the text.
    - any other key: show the next of separate images.
    """

    def __init__(self, kind: Kind, effects: Sequence[str], stop: threading.Event) -> None:
        """Prepare a window, which opens with the first picture; call ``check_display`` first.

        Args:
            kind: Kind of the source: each image waits for a key; of videos and live sources, the newest is shown.
            effects: Names of the effects between which "e" switches.
            stop: Set when the run is to end, so that ``write`` stops waiting.
        """
        self._images = kind == "images"
        self._live = kind == "live"
        self._effects = effects
        self._stop = stop
        self._changed = threading.Condition()
        self._latest: _Shown | None = None
        self._on_screen: _Shown | None = None
        self._new = self._answered = False
        self._paused = False
        self._text = True
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._open = False
        self._room = (0, 0)
        keys = ["q quit", "any key: next" if self._images else "space pause", "h text"]
        self._keys = [*keys, *(["e effect"] if len(effects) > 1 else [])]
        self._title = "edge-unet: " + ", ".join(self._keys)
        self._opened_s = 0.0
        self.effect = 0
        self.wants_more = True

    def write(self, frame: Frame, picture: NDArray[np.uint8], effect: int = 0) -> bool:
        """Pass a picture to the window, from one thread at a time; do not change the picture afterwards.

        Args:
            frame: The frame.
            picture: (H, W, 3) BGR or (H, W, 4) BGRA uint8, drawn from the frame.
            effect: Value of ``effect`` with which the picture was drawn.

        Returns:
            True if another effect was chosen in the meantime: draw the frame with it, and call again.
        """
        with self._changed:
            if self._latest is None or self._latest.frame is not frame:
                self._times.append(time.monotonic())
            self._latest = _Shown(frame=frame, picture=picture, effect=effect)
            self._new, self._answered = True, False
            self._changed.notify_all()
            while self._holds(effect):
                self._changed.wait(_STEP_S)  # in steps, because setting ``stop`` notifies no condition
            return self.wants_more and not self._stop.is_set() and effect != self.effect

    def pump(self, timeout_s: float) -> None:
        """Show the newest picture and handle keys for this long; the main thread must call it repeatedly."""
        until = time.monotonic() + timeout_s
        while True:
            with self._changed:
                rest_s = until - time.monotonic()
                if not self._new and rest_s > 0:
                    self._changed.wait(min(rest_s, _KEY_INTERVAL_S) if self._open else rest_s)
                latest = self._latest if self._new else None
                self._new = False
            if self.wants_more:
                if latest is not None:
                    self._show(latest)
                if self._open:
                    self._handle_events()
            if not self.wants_more:
                self.close()  # at once, before the rest of the run is finished
            if time.monotonic() >= until:
                return

    def close(self) -> list[str]:
        """Close the window; call it in the main thread."""
        self.wants_more = False
        if self._open:
            self._open = False
            cv2.destroyAllWindows()
        return []

    def _holds(self, effect: int) -> bool:
        """Tell whether the picture in ``write`` must wait."""
        if not self.wants_more or self._stop.is_set() or effect != self.effect:
            return False
        return not self._answered if self._images else self._paused

    def _show(self, shown: _Shown) -> None:
        height, width = shown.picture.shape[:2]
        if self._open:
            self._room = self._current_room() or self._room
        else:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            self._room = window_size(height, width)
            cv2.resizeWindow(self._title, self._room[1], self._room[0])
            self._open, self._opened_s = True, time.monotonic()
        picture = display_picture(shown.picture, *self._room)
        if self._text:
            draw_text(picture, self._line(shown))
            if time.monotonic() - self._opened_s < _HELP_S:
                draw_text(picture, "   ".join(self._keys), at_bottom=True)
        cv2.imshow(self._title, picture)
        self._on_screen = shown

    def _visible(self) -> bool:
        """Tell whether the window is still open; Qt raises an error once its last window was closed."""
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False

    def _current_room(self) -> tuple[int, int] | None:
        """Return the (height, width) in pixels of the picture area of the window; None if it is unknown."""
        _, _, width, height = cv2.getWindowImageRect(self._title)
        return (height, width) if width > 1 and height > 1 else None

    def _line(self, shown: _Shown) -> str:
        frame = shown.frame
        parts = [self._effects[shown.effect], *frame.flags]
        if self._images:
            parts.insert(0, frame.name.encode("ascii", "replace").decode())
        elif self._paused:
            parts.insert(0, "paused")
        elif len(self._times) > 1:
            rate = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)
            age_ms = (time.monotonic() - frame.captured_at) * 1e3
            parts[:0] = [f"{rate:.1f} fps", *([f"{age_ms:.0f} ms"] if self._live else [])]
        return "  ".join(parts)

    def _handle_events(self) -> None:
        key = cv2.waitKeyEx(1)
        visible = self._visible()
        code, special = key & 0xFF, bool(key & 0xFF00)  # without this check, the low byte of "left" would be "Q"
        letter = chr(code) if key >= 0 and not special else ""
        room = self._current_room() if visible else None
        with self._changed:
            if not visible or (key >= 0 and code == _ESCAPE) or letter == "q":
                self.wants_more = False
            elif letter == "e" and len(self._effects) > 1:
                self.effect = (self.effect + 1) % len(self._effects)
            elif letter == "h":
                self._text, self._new = not self._text, True
            elif letter == " " and not self._images:
                self._paused, self._new = not self._paused, True
            elif letter or (key >= 0 and code < _MODIFIERS):
                self._answered = self._on_screen is self._latest  # ignore keys pressed before the picture was shown
            if room and max(abs(room[0] - self._room[0]), abs(room[1] - self._room[1])) > 2:
                self._new = True  # draw again after the window was resized
            self._changed.notify_all()


def check_display() -> None:
    """Check that a window can be opened, without opening one in this process.

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
    # Qt ends the whole process if it cannot use the display, so a child process tries first.
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('edge-unet'); cv2.waitKey(1)"]
    try:
        child = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired as cause:
        raise UsageError(f"--show — the display does not answer — {remedy}") from cause
    if child.returncode != 0:
        raise UsageError(f"--show — the display refuses a window (DISPLAY={os.environ.get('DISPLAY', '')}) — {remedy}")
