"""Open cameras and streams with OpenCV, with time limits that take effect."""

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

URL_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "rtp", "srt", "tcp")
# Endings of video files; .ts and .m3u8 are not among them because they are often live streams.
_VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mkv",
        ".mov",
        ".avi",
        ".webm",
        ".wmv",
        ".mpg",
        ".mpeg",
        ".3gp",
        ".flv",
        ".ogv",
        ".mjpeg",
        ".mjpg",
    }
)
_MAX_FPS = 240.0


def redacted(url: str) -> str:
    """Return an address for printing: scheme, host and path, without user, password and parameters.

    Some cameras take credentials as parameters, even inside the path (``/user=admin_password=x``), so everything from
    the first ``?``, ``=``, ``;`` or ``#`` is left out. A password may contain "/", so the host begins after the last
    "@".
    """
    scheme, _, rest = url.partition("://")
    shown = re.split(r"[?=;#]", rest.rpartition("@")[2], maxsplit=1)
    return printable(f"{scheme}://{shown[0]}{'…' if len(shown) > 1 else ''}")


def is_address(source: int | str | Path) -> TypeGuard[str]:
    """Tell whether a source is an address, whether its scheme is known or not."""
    return isinstance(source, str) and "://" in source


def is_video_name(name: str) -> bool:
    """Tell whether the name of a file is that of a video."""
    return Path(name).suffix.lower() in _VIDEO_SUFFIXES


def is_remote_video(url: str) -> bool:
    """Tell whether an address names a video file, which has an end, rather than a stream."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as a bracket in the host; opening the address reports it
        return False
    return parts.scheme.lower() in ("http", "https") and is_video_name(parts.path)


def is_camera(path: Path) -> bool:
    """Tell whether a path names a camera, whether it is plugged in or not."""
    return path.match("/dev/video*") or path.match("/dev/v4l/*/*") or path.is_char_device()


def open_url(url: str, patience: Patience, read_s: float) -> cv2.VideoCapture:
    """Open a stream or video at a network address.

    Args:
        url: Address with its credentials.
        patience: Time limits, of which ``open_s`` is used.
        read_s: Seconds after which a read fails; cannot be changed later.

    Raises:
        SourceError: The address cannot be opened, or not in time. Neither the error nor its cause names the address,
            because it may contain a password.
    """
    # The limits take effect only here: set() after opening is refused, and other backends ignore them.
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
        target: Index of the camera or path of its device.
        size: (height, width) in pixels to request; the frames have the size that the camera grants.

    Raises:
        SourceError: The camera cannot be opened; the error lists the existing devices, but does not name this one.
    """
    # Do not ask OpenCV to open a missing device, because it would try every backend and log each attempt.
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
    """Return the path of a camera's device on Linux."""
    return Path(f"/dev/video{target}") if isinstance(target, int) else Path(target)


def lasting_name(device: Path, folders: tuple[str, ...] = ("/dev/v4l/by-id", "/dev/v4l/by-path")) -> Path | None:
    """Return the name of a camera that does not change when it is plugged in again; None if the system has none.

    The number in /dev/video0 may change, or may then belong to another camera.
    """
    for folder in folders:
        for name in sorted(Path(folder).glob("*")):
            if name.resolve() == device.resolve():
                return name
    return None


def plausible_fps(capture: cv2.VideoCapture) -> float | None:
    """Return the nominal frames per second; None for 0, NaN or the rate of a container's clock, as 1000 or 90000."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= _MAX_FPS else None
