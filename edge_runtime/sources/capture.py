"""Opening cameras and streams with OpenCV, with time limits that are heard."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TypeGuard
from urllib.parse import urlsplit

import cv2

from edge_runtime.errors import SourceError
from edge_runtime.sources.options import Patience
from edge_runtime.storage import printable

URL_SCHEMES = ("rtsp", "rtsps", "http", "https")
# A file behind an address; .ts and .m3u8 are as often live.
_VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm"})
_MAX_FPS = 240.0


def redacted(url: str) -> str:
    """Return an address that can be printed: scheme, host and path, without user, password and parameters.

    Cameras also take credentials as parameters, some inside the path (``/user=admin_password=x``), so everything from
    the first ``?``, ``=``, ``;`` or ``#`` on is left out. A password may hold a "/", so the host begins after the last
    "@".
    """
    scheme, _, rest = url.partition("://")
    shown = re.split(r"[?=;#]", rest.rpartition("@")[2], maxsplit=1)
    return printable(f"{scheme}://{shown[0]}{'…' if len(shown) > 1 else ''}")


def is_address(source: int | str | Path) -> TypeGuard[str]:
    """Return whether a source is an address, be its scheme known or not."""
    return isinstance(source, str) and "://" in source


def is_remote_video(url: str) -> bool:
    """Return whether an address is that of a video file, which has a beginning and an end, and not of a stream."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as a bracket in the host; opening it will say what is wrong
        return False
    return parts.scheme.lower() in ("http", "https") and Path(parts.path).suffix.lower() in _VIDEO_SUFFIXES


def is_camera(path: Path) -> bool:
    """Return whether a path is that of a camera, be it plugged in or not."""
    return path.match("/dev/video*") or path.match("/dev/v4l/*/*") or path.is_char_device()


def open_url(url: str, patience: Patience, read_s: float) -> cv2.VideoCapture:
    """Open a stream or a video behind an address.

    Args:
        url: With its credentials.
        patience: For ``open_s``.
        read_s: Seconds after which a read gives up; it cannot be changed later.

    Raises:
        SourceError: It cannot be opened, or not in time; the error neither names the address nor has a cause that does.
    """
    # Only here are the limits heard: set() after opening is refused, and other backends ignore them.
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        int(patience.open_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        int(read_s * 1000),
    ]
    try:
        capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
    except (cv2.error, UnicodeError, TypeError):
        raise SourceError("cannot be opened — check the address") from None
    if not capture.isOpened():
        capture.release()
        raise SourceError("cannot be opened — check the address, the network and the password")
    return capture


def open_camera(target: int | str, size: tuple[int, int] | None) -> cv2.VideoCapture:
    """Open a camera.

    Args:
        target: Its index or the path of its device.
        size: (height, width) to ask for; what was granted is the size of its frames.

    Raises:
        SourceError: It cannot be opened; the error lists the devices that are there, but does not name this one.
    """
    # OpenCV is not asked about a device that is not there: it would try every backend and log about each.
    if sys.platform != "linux" or device_path(target).exists():
        capture = cv2.VideoCapture(target, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if capture.isOpened():
            if size is not None:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
            return capture
        capture.release()
    found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "no camera"
    listing = f" — found {found} in /dev" if sys.platform == "linux" else ""
    raise SourceError(
        f"cannot be opened{listing} — connect it, close other programs that use it, and check your permissions (Linux: group 'video')"
    )


def device_path(target: int | str) -> Path:
    """Return the Linux device of a camera."""
    return Path(f"/dev/video{target}") if isinstance(target, int) else Path(target)


def lasting_name(device: Path, folders: tuple[str, ...] = ("/dev/v4l/by-id", "/dev/v4l/by-path")) -> Path | None:
    """Return the name of a camera that stays the same when it is plugged in again, where the system knows one.

    The number of /dev/video0 may be another one then, or that of another camera.
    """
    for folder in folders:
        for name in sorted(Path(folder).glob("*")):
            if name.resolve() == device.resolve():
                return name
    return None


def plausible_fps(capture: cv2.VideoCapture) -> float | None:
    """Return the nominal rate; containers without one say 0, NaN or their clock's rate, such as 1000 or 90000."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= _MAX_FPS else None
