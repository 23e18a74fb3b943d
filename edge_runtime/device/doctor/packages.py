"""Check Python, the three dependencies, and wheels that conflict with each other.

Imports are tried in a child process, because a wheel built for another CPU ends the process with a signal. A wheel that
lacks a system library raises an exception.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.device.doctor.findings import Check
from edge_runtime.errors.installation import MIN_VERSIONS, import_remedy

MIN_PYTHON = (3, 11)
MIN_GLIBC = "2.28"
"""Lowest glibc version for the wheels of onnxruntime and OpenCV (manylinux_2_28)."""

# Wheels that contain the same module; the first is the one in pyproject.toml.
_FAMILIES = {
    "numpy": ("numpy",),
    "onnxruntime": (
        *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn"),
        *("onnxruntime-training", "ort-nightly", "ort-nightly-gpu"),
    ),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
# Releases of these wheels follow those of the first after months, or not at all.
_LAGGING = ("onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn", "onnxruntime-training")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFault:
    """Fault of a module from version ``first`` until ``fixed``; on all architectures, or only on the named ones."""

    module: str
    first: str
    fixed: str
    what: str
    architectures: tuple[str, ...] = ()

    def hits(self, module: str, version: str, architecture: str) -> bool:
        """Tell whether this version has the fault on this architecture."""
        here = not self.architectures or architecture.lower() in self.architectures
        return module == self.module and here and _numbers(self.first) <= _numbers(version) < _numbers(self.fixed)


_ARM = ("aarch64", "arm64")
KNOWN_FAULTS = (
    # https://github.com/microsoft/onnxruntime/issues/23957
    KnownFault(
        module="onnxruntime",
        first="1.21",
        fixed="1.22",
        architectures=_ARM,
        what="dies of an illegal instruction on the Cortex-A72 of a Raspberry Pi 4",
    ),
    # https://github.com/microsoft/onnxruntime/pull/28363
    KnownFault(
        module="onnxruntime",
        first="1.24",
        fixed="1.27",
        architectures=_ARM,
        what="leaks memory with every new frame (KleidiAI's cache of convolutions)",
    ),
    # https://github.com/k2-fsa/sherpa-onnx/issues/3791
    KnownFault(
        module="onnxruntime",
        first="1.27.0",
        fixed="1.27.1",
        architectures=_ARM,
        what="computes convolutions wrongly, and silently, on processors with SME",
    ),
    KnownFault(module="onnxruntime", first="0", fixed="1.30.1", what="a damaged model file can corrupt its memory"),
    # https://github.com/opencv/opencv/issues/27091
    KnownFault(module="cv2", first="4.11", fixed="4.12", what="cannot open many RTSP cameras: it gives up after 30 s"),
)


def check_python(version: tuple[int, ...], bits: int, architecture: str) -> Check:
    """Check the version of Python and its word size, because onnxruntime has no 32-bit wheels.

    Args:
        version: Version of Python.
        bits: Size of a pointer in bits.
        architecture: Architecture of the kernel as in ``platform.machine()``; may be 64-bit even if Python is not.
    """
    found = f"Python {'.'.join(map(str, version))}, {bits}-bit"
    if bits != 64:
        wide_kernel = architecture.lower() in (*_ARM, "x86_64", "amd64")
        found += f" on a {'64' if wide_kernel else '32'}-bit kernel ({architecture})"
        fix = "install a 64-bit Python" if wide_kernel else "install a 64-bit operating system"
        if wide_kernel and architecture.lower() in _ARM:
            fix = "install the 64-bit image of the system: here only its kernel is 64-bit"
        return Check(name="python", status="error", cause=found, fix=f"{fix} (onnxruntime has no 32-bit wheels)")
    if version < MIN_PYTHON:
        fix = f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer"
        return Check(name="python", status="error", cause=found, fix=fix)
    return Check(name="python", status="ok", cause=found)


def import_in_child(module: str) -> tuple[str | None, str]:
    """Import a module in a child process.

    Returns:
        The module's version, or None if the import fails; and the last line of the error.
    """
    code = f"import sys, {module}; sys.stdout.write({module}.__version__)"
    # -P keeps a numpy.py in the working folder from being imported.
    command = [sys.executable, "-P", "-c", code]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None, "importing it took more than 60 s"
    if child.returncode == 0:
        return child.stdout, ""
    if child.returncode < 0:
        return None, f"the import died of {signal.Signals(-child.returncode).name}"
    lines = child.stderr.strip().splitlines() or [f"the import ended with exit code {child.returncode}"]
    return None, lines[-1]


def check_module(
    module: str, version: str | None, error: str, *, wheels: Mapping[str, str], architecture: str
) -> Check:
    """Check the result of ``import_in_child``: import failed, version too old, or version with a known fault.

    Args:
        module: Import name of the module.
        version: Version of the module; None if the import failed.
        error: Last line of the error if the import failed.
        wheels: Versions of all installed distributions, by name.
        architecture: Architecture as in ``platform.machine()``.
    """
    floor, family = MIN_VERSIONS[module], _FAMILIES[module]
    pip_name = next((name for name in family if name in wheels), family[0])
    upgrade = f"pip install -U '{pip_name}>={floor}'"
    if pip_name in _LAGGING:
        upgrade = f"pip uninstall -y {pip_name} && pip install '{family[0]}>={floor}'"
    on_disk = version or wheels.get(pip_name, "")
    faults = [fault.what for fault in KNOWN_FAULTS if on_disk and fault.hits(module, on_disk, architecture)]
    if version is None:
        fix = import_remedy(error, f"{pip_name}>={floor}")
        cause = f"import {module} fails — {error}"
        if "died of" in error and faults:
            cause, fix = f"{cause} — {pip_name} {on_disk} {faults[0]}", upgrade
        return Check(name=module, status="error", cause=cause, fix=fix)
    if _numbers(version) < _numbers(floor):
        why = f": {'; '.join(faults)}" if faults else ""
        return Check(name=module, status="error", cause=f"{module} {version}, older than {floor}{why}", fix=upgrade)
    if faults:
        fixed = next(fault.fixed for fault in KNOWN_FAULTS if fault.hits(module, version, architecture))
        fix = f"pip install -U '{pip_name}>={fixed}'"
        return Check(name=module, status="warning", cause=f"{module} {version} {'; '.join(faults)}", fix=fix)
    return Check(name=module, status="ok", cause=f"{module} {version}")


def check_twins(wheels: Mapping[str, str]) -> list[Check]:
    """Warn of installed wheels that contain the same module, because they overwrite each other's files."""
    checks = []
    for family in _FAMILIES.values():
        present = [name for name in family if name in wheels]
        if len(present) > 1:
            cause = f"{' and '.join(present)} are installed together and overwrite each other's files"
            fix = f"pip uninstall -y {' '.join(present)} && pip install {present[0]}"
            checks.append(Check(name=f"{family[0]} twins", status="warning", cause=cause, fix=fix))
    return checks


def check_libc(platform: str, libc: str, version: str) -> list[Check]:
    """Check the C library: with musl or a glibc that is too old, pip finds no wheels.

    Args:
        platform: Platform as in ``sys.platform``.
        libc: Name of the C library as in ``platform.libc_ver()``; empty for musl.
        version: Version of the C library.
    """
    if platform != "linux" or (libc == "glibc" and _numbers(version) >= _numbers(MIN_GLIBC)):
        return []
    if libc == "glibc":
        fix = "install a newer release of the system (Debian 10, Ubuntu 20.04 or later)"
        return [Check(name="libc", status="error", cause=f"glibc {version}, older than {MIN_GLIBC}", fix=fix)]
    cause = "no glibc (Alpine Linux?), for which onnxruntime has no wheels"
    return [Check(name="libc", status="error", cause=cause, fix="use a system with glibc, such as python:3.12-slim")]


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparing: "1.30.1rc1" is (1, 30, 1)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
