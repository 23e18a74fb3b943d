"""Check cores, memory, clock, temperature, disk and display; each check reads only its arguments, such as a root."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from edge_runtime.device.doctor.findings import Check
from edge_runtime.resources import cgroup_memory, system_memory
from edge_runtime.storage import printable, system_text

MIN_FREE_MB = 200
MIN_MEMORY_MB = 200
"""Smallest sufficient memory: the runtime takes about 110 MB with the seed U-Net, plus pictures and a video encoder."""
HOT_CELSIUS = 80.0
"""Temperature at which a Raspberry Pi begins to slow down; most other machines follow soon after."""
SLOW_CLOCK = 0.7
"""Smallest share of its highest clock that a core should reach under load."""
# With these drivers, "powersave" is the default governor, which does raise the clock.
_DYNAMIC_DRIVERS = ("intel_pstate", "amd-pstate-epp")
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled; bits 16 higher: since the start.
_UNDERVOLTAGE, _HOT = 0x1, 0xE
_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


def check_cores(usable: int, machine: int) -> Check:
    """Report how many of the machine's cores this process may use."""
    if usable < machine:
        cause = f"{usable} of {machine} cores usable (CPU affinity or a container's quota)"
        fix = "give the process more cores if it is meant to be faster (taskset, docker --cpus, CPUQuota=)"
        return Check(name="cores", status="warning", cause=cause, fix=fix)
    return Check(name="cores", status="ok", cause=f"{usable} cores, all usable")


def check_memory(root: Path) -> list[Check]:
    """Check Linux's available memory, and how much of it the limit of a container or service leaves."""
    available, left = system_memory(root), cgroup_memory(root)
    if available is None:
        return []
    available_mb = int(min(available, left)) // 10**6
    if left < available:
        cause = f"{available_mb} MB left of what the container or service may use"
        fix = "raise the limit (docker --memory, MemoryMax=)"
    else:
        cause, fix = f"{available_mb} MB of memory available", "end other programs, or add swap (zram)"
    if available_mb < MIN_MEMORY_MB:
        return [Check(name="memory", status="warning", cause=f"{cause}, fewer than {MIN_MEMORY_MB}", fix=fix)]
    return [Check(name="memory", status="ok", cause=cause)]


def check_clock(root: Path, load: Callable[[], None]) -> list[Check]:
    """Check that the CPU raises its clock under load.

    Args:
        root: Root of the file system, with sys.
        load: Function that keeps a core busy for a moment; the clock is read afterwards.
    """
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    if not policies:
        return []  # virtual machines and other systems than Linux do not report it
    for policy in policies:
        saving = system_text(policy / "scaling_governor") == "powersave"
        if saving and system_text(policy / "scaling_driver") not in _DYNAMIC_DRIVERS:
            cause = "the governor 'powersave' keeps the processor at its lowest clock"
            fix = "echo schedutil | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
            return [Check(name="clock", status="warning", cause=cause, fix=fix)]
    load()
    clocks = [(_number(p / "scaling_cur_freq"), _number(p / "cpuinfo_max_freq")) for p in policies]
    known = [(now_khz, most_khz) for now_khz, most_khz in clocks if now_khz > 0 and most_khz > 0]
    if not known:
        return []
    # The core with the highest clock is the one that ran the load.
    now_khz, most_khz = max(known, key=lambda clock: clock[0] / clock[1])
    cause = f"{now_khz // 1000} of {most_khz // 1000} MHz under load"
    if now_khz < SLOW_CLOCK * most_khz:
        fix = "look for heat, a weak power supply or a power saving mode"
        return [Check(name="clock", status="warning", cause=cause, fix=fix)]
    return [Check(name="clock", status="ok", cause=cause)]


def busy() -> None:
    """Keep one core busy for 0.3 seconds, long enough for its clock to rise."""
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass


def check_temperature(root: Path) -> list[Check]:
    """Check the hottest of Linux's thermal zones."""
    found = [(_number(zone / "temp") / 1000, zone) for zone in (root / "sys/class/thermal").glob("thermal_zone*")]
    zones = [(celsius, zone) for celsius, zone in found if 0 < celsius < 200]  # a sleeping sensor gives nonsense
    if not zones:
        return []
    celsius, zone = max(zones)
    cause = f"{celsius:.0f} °C ({printable(system_text(zone / 'type')) or zone.name})"
    if celsius >= HOT_CELSIUS:
        fix = "add a heat sink or a fan, or move it out of the sun: a hot processor slows down"
        return [Check(name="temperature", status="warning", cause=cause, fix=fix)]
    return [Check(name="temperature", status="ok", cause=cause)]


def check_throttling(root: Path) -> list[Check]:
    """Check whether the firmware of a Raspberry Pi reports low voltage or throttling."""
    try:
        bits = int(system_text(root / _THROTTLED), 16)
    except ValueError:
        return []
    checks = []
    remedies = (
        (
            _UNDERVOLTAGE,
            "power",
            "the supply voltage",
            "was too low",
            "use the board's own power supply and a short cable",
        ),
        (
            _HOT,
            "throttling",
            "the processor",
            "was slowed down",
            "add a heat sink or a fan, and check the power supply",
        ),
    )
    for mask, name, what, happened, fix in remedies:
        if bits & mask:
            cause = f"{what} {happened.replace('was', 'is')} (get_throttled 0x{bits:x})"
        elif bits >> 16 & mask:
            cause = f"{what} {happened} since the last start (get_throttled 0x{bits:x})"
        else:
            checks.append(Check(name=name, status="ok", cause=f"{what} never {happened}"))
            continue
        checks.append(Check(name=name, status="warning", cause=cause, fix=fix))
    return checks


def check_disk(folder: Path) -> Check:
    """Check that results can be written in a folder: permission, free space and a writable file system."""
    where = printable(folder)
    try:
        free_mb = shutil.disk_usage(folder).free // 10**6
    except OSError as error:
        cause, fix = f"{where} cannot be examined ({error.strerror})", "change to another folder"
        return Check(name="disk", status="warning", cause=cause, fix=fix)
    if not os.access(folder, os.W_OK):
        cause, fix = f"{where} is not writable", "write results elsewhere (--save DIR)"
        if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
            cause = f"{where} is on a read-only file system"
            fix = "write results elsewhere (--save DIR), or sudo mount -o remount,rw; an SD card may have failed: dmesg"
        return Check(name="disk", status="warning", cause=cause, fix=fix)
    cause = f"{free_mb} MB free in {where}"
    if free_mb < MIN_FREE_MB:
        return Check(name="disk", status="warning", cause=cause, fix="free some space before saving results")
    return Check(name="disk", status="ok", cause=cause)


def check_display(
    environment: Mapping[str, str], platform: str, *, wheels: Collection[str], qt_plugins: Collection[str], root: Path
) -> Check:
    """Check whether ``edge-unet run --show`` can open a window.

    Args:
        environment: Environment variables of the process.
        platform: Platform as in ``sys.platform``.
        wheels: Names of the installed distributions.
        qt_plugins: Names of Qt's platform plugins in OpenCV's wheel ("libqxcb.so"); empty if OpenCV has no Qt.
        root: Root of the file system, with the socket of an X server.
    """
    display, wayland = environment.get("DISPLAY", ""), environment.get("WAYLAND_DISPLAY", "")
    local = re.fullmatch(r":(\d+)(?:\.\d+)?", display)
    headless = {name for name in wheels if name.endswith("-headless") and name.startswith("opencv-")}
    if headless:
        only = min(headless)
        cause, fix = (
            f"{only} has no windows",
            f"pip uninstall -y {only} && pip install {only.removesuffix('-headless')}",
        )
    elif platform != "linux":
        return Check(name="display", status="ok", cause="a window can be opened")
    elif not display and not wayland:
        cause, fix = "neither DISPLAY nor WAYLAND_DISPLAY is set", "use run --save, or a desktop session (ssh -X)"
    elif not display and qt_plugins and not any("wayland" in name for name in qt_plugins):
        cause, fix = "only WAYLAND_DISPLAY is set, and OpenCV's Qt speaks only to X11", "apt-get install xwayland"
    elif local is not None and not (root / f"tmp/.X11-unix/X{local[1]}").exists():
        cause, fix = f"DISPLAY is {display}, where no X server listens", "log in to the desktop, or unset DISPLAY"
    else:
        return Check(name="display", status="ok", cause="a window can be opened")
    return Check(name="display", status="warning", cause=f"{cause}: run --show cannot work", fix=fix)


def _number(path: Path) -> int:
    """Return the integer in a file of /sys; 0 if there is none."""
    text = system_text(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else 0
