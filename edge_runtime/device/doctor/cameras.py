"""Check cameras on Linux: which exist, who may open them, which processes use them, and which need libcamera."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.device.doctor.findings import Check
from edge_runtime.storage import printable, system_text

# Devices of a Raspberry Pi that are not cameras for V4L2: sensors whose raw data only libcamera can use, …
_RAW_SENSOR = re.compile(r"unicam|rp1-cfe", re.IGNORECASE)
# … and codecs and image processors, which exist without a camera.
_NO_CAMERA = re.compile(r"bcm2835-(isp|codec)|pispbe|rpi-?hevc|rpivid", re.IGNORECASE)
_RPICAM = "rpicam-vid -t 0 --codec mjpeg -o - | edge-unet run PACKAGE --source - --live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Video device of Linux: its path and the name from its driver; the name is empty if /sys does not have it."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path} ({printable(self.name)})" if self.name else str(self.path)


def check_cameras(root: Path, platform: str, *, may_open: Callable[[Path], bool] | None = None) -> list[Check]:
    """Check which cameras exist and what prevents opening them.

    Args:
        root: Root of the file system, with dev, sys and proc.
        platform: Platform as in ``sys.platform``.
        may_open: Tells whether this user may read and write a device; None: asks the system.
    """
    if platform != "linux":
        return [Check(name="cameras", status="ok", cause="not listed on this system: try run --source 0")]
    nodes = video_nodes(root)
    cameras = [node for node in nodes if not _RAW_SENSOR.search(node.name) and not _NO_CAMERA.search(node.name)]
    if not cameras:
        return [_no_camera(root, nodes)]
    allowed = may_open or (lambda path: os.access(path, os.R_OK | os.W_OK))
    closed = [node for node in cameras if not allowed(node.path)]
    checks = []
    if closed:
        cause, fix = f"no permission for {_listed(closed)}", "sudo usermod -aG video $USER, then log in again"
        checks.append(Check(name="camera permission", status="warning", cause=cause, fix=fix))
    for path, holders in holders_of(root, cameras).items():
        cause = f"{path} is in use by {', '.join(f'{name} (pid {pid})' for pid, name in holders)}"
        fix = f"end it if it is not needed: kill {' '.join(str(pid) for pid, _ in holders)}"
        checks.append(Check(name="camera busy", status="warning", cause=cause, fix=fix))
    return checks or [Check(name="cameras", status="ok", cause=_listed(cameras))]


def video_nodes(root: Path) -> list[Node]:
    """Return the video devices in the order of their numbers, without the metadata devices of cameras."""
    found = []
    for path in (root / "dev").glob("video*"):
        if number := re.fullmatch(r"video(\d+)", path.name):
            about = root / "sys/class/video4linux" / path.name
            if system_text(about / "index") in ("", "0") or _RAW_SENSOR.search(system_text(about / "name")):
                found.append((int(number[1]), Node(path=path, name=system_text(about / "name"))))
    return [node for _, node in sorted(found, key=lambda item: item[0])]


def holders_of(root: Path, nodes: list[Node]) -> dict[Path, list[tuple[int, str]]]:
    """Return the processes that have each device open, as (pid, name); only root sees those of other users.

    Software devices (v4l2loopback) are left out, because a program always writes to them.
    """
    wanted = {str(node.path): node.path for node in nodes if not _is_virtual(root, node)}
    holders: dict[Path, list[tuple[int, str]]] = {}
    processes = [p for p in (root / "proc").glob("[0-9]*") if p.name.isdigit() and int(p.name) != os.getpid()]
    for process in sorted(processes, key=lambda p: int(p.name)):
        for target in sorted(_open_files(process) & wanted.keys()):
            name = printable(system_text(process / "comm")) or "a process"
            holders.setdefault(wanted[target], []).append((int(process.name), name))
    return holders


def _no_camera(root: Path, nodes: list[Node]) -> Check:
    """Return the check that explains why OpenCV cannot open a camera."""
    sensors = [node for node in nodes if _RAW_SENSOR.search(node.name)]
    board = system_text(root / "proc/device-tree/model")
    if sensors:
        cause = f"{_listed(sensors)} is a camera for libcamera only, which OpenCV cannot open"
        return Check(name="cameras", status="warning", cause=cause, fix=_RPICAM)
    if "Raspberry Pi" in board:
        rest = f"; {_listed(nodes)} are codecs" if nodes else ""
        cause = f"no camera on this {printable(board)}{rest}"
        fix = (
            f"plug one in; one on the ribbon cable is listed by `rpicam-hello --list-cameras` and used with `{_RPICAM}`"
        )
        return Check(name="cameras", status="warning", cause=cause, fix=fix)
    fix = "plug one in, or pass it to the container (--device /dev/video0), if you need one"
    return Check(name="cameras", status="warning", cause="no /dev/video* device", fix=fix)


def _listed(nodes: list[Node]) -> str:
    return ", ".join(map(str, nodes))


def _is_virtual(root: Path, node: Node) -> bool:
    return "virtual" in (root / "sys/class/video4linux" / node.path.name).resolve().parts


def _open_files(process: Path) -> set[str]:
    """Return the targets of a process's file descriptors; empty without the permission to read them."""
    found = set()
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed in the meantime
                found.add(str(descriptor.readlink()))
    return found
