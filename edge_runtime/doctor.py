"""Check the machine, and a model package on it: what is wrong, why, and what to do.

Imports of the three dependencies are tried in a child process: one that lacks a system library raises, and one built
for another processor dies of a signal, which no ``except`` would survive.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

from edge_runtime.errors import EdgeUnetError, GateError, ModelError, UsageError
from edge_runtime.package import Package
from edge_runtime.storage import printable

Status = Literal["ok", "warning", "error"]

MIN_PYTHON = (3, 11)
MIN_VERSIONS = {"numpy": "2.0", "onnxruntime": "1.30.1", "cv2": "4.10"}
"""By module; the same floors as in pyproject.toml, which a device that got only this folder does not have."""
MIN_AGREEMENT = 0.999
MIN_FREE_MB = 200
_PIP_NAMES = {"numpy": "numpy", "onnxruntime": "onnxruntime", "cv2": "opencv-python"}
_TWINS = (
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
)
# What an import error says, and what to do about it; the first match counts.
_IMPORT_REMEDIES = (
    (r"libGL|libgthread|libglib|libSM|libX", "apt-get install libgl1 libglib2.0-0, or use opencv-python-headless"),
    (r"GLIBC|manylinux|musl", "this wheel is for a newer system: update it, or install an older wheel that pip finds"),
    (r"DLL load failed", "install the Microsoft Visual C++ Redistributable, then pip install --force-reinstall {pip}"),
    (r"died of", "this wheel is for another processor: install one built for this machine"),
    (r"No module named", "pip install '{pip}>={floor}'"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at: ``cause`` is what was found, ``fix`` what to do unless all is well."""

    name: str
    status: Status
    cause: str
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The self-test: share of the golden frames' pixels that come out as on the exporting machine, 0–1.

    Each variant is compared with its own masks: integer arithmetic can go wrong on a processor where float does not.
    ``pixel_agreement`` is the lowest of them, which decides.
    """

    ok: bool
    pixel_agreement: float
    frames: int
    variants: dict[str, float]

    @property
    def worst(self) -> str:
        """The variant that agrees least."""
        return min(self.variants, key=lambda name: self.variants[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All checks, and the self-test where there was a package that could be run."""

    checks: tuple[Check, ...]
    golden: Golden | None = None
    refusal: EdgeUnetError | None = None

    @property
    def ok(self) -> bool:
        """No error, and the self-test passed if there was one; warnings are allowed."""
        return all(c.status != "error" for c in self.checks) and (self.golden is None or self.golden.ok)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        golden = None if self.golden is None else asdict(self.golden)
        return {"ok": self.ok, "checks": [asdict(c) for c in self.checks], "golden": golden}

    def raise_if_bad(self) -> None:
        """Raise what the report amounts to; the package comes first, then the self-test, then the machine.

        Raises:
            ModelError: The package is refused.
            GateError: The golden self-test failed.
            UsageError: The installation is broken.
        """
        if self.refusal is not None:
            raise self.refusal
        if self.golden is not None and not self.golden.ok:
            raise GateError(
                f"golden self-test — {self.golden.pixel_agreement:.4%} of the pixels of variant '{self.golden.worst}' agree — "
                f"expected at least {MIN_AGREEMENT:.1%} — this machine computes something else than the exporting one: compare onnxruntime's versions"
            )
        bad = [c.name for c in self.checks if c.status == "error"]
        if bad:
            raise UsageError(f"installation — errors in {', '.join(bad)} — expected none — follow the fixes above")


def examine(package: Path | None, folder: Path) -> Report:
    """Check the machine, and with a package verify it and run its self-test.

    Args:
        package: Model package folder, or None.
        folder: Where results would be written, for the disk check.
    """
    checks = [check_python(sys.version_info[:3], struct.calcsize("P") * 8)]
    checks += [check_module(module, *import_in_child(module)) for module in MIN_VERSIONS]
    importable = all(c.status != "error" for c in checks)
    installed = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}
    checks += check_twins(installed)
    if importable:
        from edge_runtime.session import usable_cores

        checks.append(check_cores(usable_cores(), os.cpu_count() or 1))
    checks.append(check_display(os.environ, sys.platform, headless_wheel="opencv-python-headless" in installed))
    checks.append(check_disk(folder))
    checks.append(check_cameras(Path("/dev"), sys.platform))
    if package is None:
        return Report(checks=tuple(checks))
    return _with_package(package, checks, importable=importable)


def check_python(version: tuple[int, ...], bits: int) -> Check:
    """Check Python's version and word size: onnxruntime has no 32-bit wheels."""
    found = f"Python {'.'.join(map(str, version))}, {bits}-bit"
    if bits != 64:
        fix = "install a 64-bit operating system and Python: onnxruntime has no 32-bit wheels"
        return Check(name="python", status="error", cause=found, fix=fix)
    if version < MIN_PYTHON:
        fix = f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer"
        return Check(name="python", status="error", cause=found, fix=fix)
    return Check(name="python", status="ok", cause=found)


def import_in_child(module: str) -> tuple[str | None, str]:
    """Import a module in a child process.

    Returns:
        Its version, or None if it does not import; and the last line of the error.
    """
    code = f"import sys, {module}; sys.stdout.write({module}.__version__)"
    # -P keeps a numpy.py in the working folder from being taken for the real one.
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


def check_module(module: str, version: str | None, error: str) -> Check:
    """Judge what ``import_in_child`` found: does it import, and is it new enough?"""
    floor, pip_name = MIN_VERSIONS[module], _PIP_NAMES[module]
    if version is None:
        remedies = (fix for pattern, fix in _IMPORT_REMEDIES if re.search(pattern, error))
        fix = next(remedies, "pip install --force-reinstall '{pip}>={floor}'").format(pip=pip_name, floor=floor)
        return Check(name=module, status="error", cause=f"import {module} fails — {error}", fix=fix)
    if _numbers(version) < _numbers(floor):
        fix = f"pip install -U '{pip_name}>={floor}'"
        return Check(name=module, status="error", cause=f"{module} {version}, older than {floor}", fix=fix)
    return Check(name=module, status="ok", cause=f"{module} {version}")


def check_twins(installed: Iterable[str]) -> list[Check]:
    """Warn of wheels that hold the same module: pip lets them overwrite each other's files."""
    checks, names = [], set(installed)
    for family in _TWINS:
        present = [name for name in family if name in names]
        if len(present) > 1:
            cause = f"{' and '.join(present)} are installed together and overwrite each other's files"
            fix = f"pip uninstall -y {' '.join(present)} && pip install {present[0]}"
            checks.append(Check(name=f"{family[0]} twins", status="warning", cause=cause, fix=fix))
    return checks


def check_cores(usable: int, machine: int) -> Check:
    """Tell how many cores this process may use of those that the machine has."""
    if usable < machine:
        cause = f"{usable} of {machine} cores usable (CPU affinity or a container's quota)"
        fix = "give the process more cores if it is meant to be faster (taskset, docker --cpus, CPUQuota=)"
        return Check(name="cores", status="warning", cause=cause, fix=fix)
    return Check(name="cores", status="ok", cause=f"{usable} cores, all usable")


def check_display(environment: Mapping[str, str], platform: str, *, headless_wheel: bool) -> Check:
    """Tell whether ``edge-unet run --show`` could open a window."""
    if platform == "linux" and not environment.get("DISPLAY") and not environment.get("WAYLAND_DISPLAY"):
        cause, fix = "neither DISPLAY nor WAYLAND_DISPLAY is set", "use run --save, or a desktop session (ssh -X)"
    elif headless_wheel:
        cause, fix = "opencv-python-headless has no windows", "use run --save, or install opencv-python instead"
    else:
        return Check(name="display", status="ok", cause="a window can be opened")
    return Check(name="display", status="warning", cause=f"{cause}: run --show cannot work", fix=fix)


def check_disk(folder: Path) -> Check:
    """Check that results can be written in a folder: permission and free space."""
    try:
        free_mb = shutil.disk_usage(folder).free // 10**6
    except OSError as error:
        cause, fix = f"{printable(folder)} cannot be examined ({error.strerror})", "change to another folder"
        return Check(name="disk", status="warning", cause=cause, fix=fix)
    if not os.access(folder, os.W_OK):
        return Check(
            name="disk",
            status="warning",
            cause=f"{printable(folder)} is not writable",
            fix="write results elsewhere (--save DIR)",
        )
    cause = f"{free_mb} MB free in {printable(folder)}"
    if free_mb < MIN_FREE_MB:
        return Check(name="disk", status="warning", cause=cause, fix="free some space before saving results")
    return Check(name="disk", status="ok", cause=cause)


def check_cameras(devices: Path, platform: str) -> Check:
    """Tell which cameras Linux shows, and whether this user may open them."""
    if platform != "linux":
        return Check(name="cameras", status="ok", cause="not listed on this system: try run --source 0")
    found = sorted(devices.glob("video*"))
    closed = [str(device) for device in found if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        cause, fix = f"no permission for {', '.join(closed)}", "sudo usermod -aG video $USER, then log in again"
        return Check(name="cameras", status="warning", cause=cause, fix=fix)
    if not found:
        fix = "plug one in, or pass it to the container (--device /dev/video0), if you need one"
        return Check(name="cameras", status="warning", cause="no /dev/video* device", fix=fix)
    return Check(name="cameras", status="ok", cause=", ".join(map(str, found)))


def golden_test(package: Package) -> Golden | None:
    """Run every variant on the golden frames and count the pixels that agree with the stored masks.

    Returns:
        The result, or None if the package holds no golden frames.

    Raises:
        ModelError: A variant does not load, or a golden frame and its mask do not fit together.
    """
    from edge_runtime.image import read_image
    from edge_runtime.labels import read_raw_mask
    from edge_runtime.segmenter import Segmenter

    manifest, agreement = package.manifest, {}
    for variant in manifest.variants if manifest.golden else ():
        segmenter, equal, total = Segmenter.load(package.root, variant=variant), 0, 0
        for frame in manifest.golden:
            path = package.root / frame.masks[variant]
            expected, _ = read_raw_mask(path)
            found = segmenter(read_image(package.root / frame.image)).mask
            if found.shape != expected.shape:
                raise ModelError(
                    f"{printable(path)} — shape {expected.shape} — expected {found.shape}, as its "
                    "frame — export the package again"
                )
            equal += int((found == expected).sum())
            total += expected.size
        agreement[variant] = equal / total
    if not agreement:
        return None
    share = min(agreement.values())
    return Golden(ok=share >= MIN_AGREEMENT, pixel_agreement=share, frames=len(manifest.golden), variants=agreement)


def _with_package(root: Path, checks: list[Check], *, importable: bool) -> Report:
    """Add the checks of a package to those of the machine."""
    try:
        package = Package.open(root)
        golden = golden_test(package) if importable else None
    except EdgeUnetError as error:
        fix = "copy or export the package again"
        checks.append(Check(name="package", status="error", cause=str(error), fix=fix))
        return Report(checks=tuple(checks), refusal=error if isinstance(error, ModelError) else ModelError(str(error)))
    files = len(package.manifest.digests())
    checks.append(Check(name="package", status="ok", cause=f"{printable(root)}: {files} files verified"))
    if not importable:
        cause, fix = "the self-test was not run: an import fails", "follow the fixes above"
        checks.append(Check(name="golden", status="error", cause=cause, fix=fix))
    elif golden is None:
        cause, fix = "the package holds no golden frames: no self-test", "export it again"
        checks.append(Check(name="golden", status="warning", cause=cause, fix=fix))
    return Report(checks=tuple(checks), golden=golden)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, for comparing: "1.30.1rc1" is (1, 30, 1)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
