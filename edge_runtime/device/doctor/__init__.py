"""Check the machine, and a model package on it; each fault is reported with its cause and fix."""

from __future__ import annotations

import importlib.util
import os
import platform
import struct
import sys
from importlib.metadata import distributions
from pathlib import Path

from edge_runtime.device.doctor.cameras import check_cameras
from edge_runtime.device.doctor.findings import Check, Report
from edge_runtime.device.doctor.machine import (
    busy,
    check_clock,
    check_cores,
    check_disk,
    check_display,
    check_memory,
    check_temperature,
    check_throttling,
)
from edge_runtime.device.doctor.packages import check_libc, check_module, check_python, check_twins, import_in_child
from edge_runtime.device.golden import golden_test
from edge_runtime.errors import EdgeUnetError, ModelError
from edge_runtime.errors.installation import MIN_VERSIONS
from edge_runtime.model.package import Package
from edge_runtime.resources import usable_cores
from edge_runtime.storage import printable

__all__ = ["Check", "Report", "check_profile", "examine"]


def examine(package: Path | None, folder: Path) -> Report:
    """Check the machine, and with a package verify it and run its self-test.

    Args:
        package: Model package folder; None: only the machine is checked.
        folder: Folder whose disk is checked, where results would be written.
    """
    wheels = {(d.metadata["Name"] or "").lower().replace("_", "-"): d.version for d in distributions()}
    checks = _check_packages(wheels)
    importable = all(c.status != "error" for c in checks)
    checks += _check_machine(wheels, folder)
    if package is None:
        return Report(checks=tuple(checks))
    return _with_package(package, checks, importable=importable)


def check_profile(package: Package) -> Check:
    """Check whether the device profile beside the package fits this machine; empty without a profile."""
    from edge_runtime.model.device_profile import find_profile, profile_path

    try:
        profile = find_profile(package)
    except ModelError as error:
        cause, _, fix = str(error).rpartition(" — ")
        return Check(name="profile", status="warning", cause=f"ignored: {cause}", fix=fix)
    if profile is None:
        cause = "no device profile: the defaults are used (edge-unet tune measures what is best here)"
        return Check(name="profile", status="ok", cause=cause)
    return Check(name="profile", status="ok", cause=f"{printable(profile_path(package.root))}: {profile.describe()}")


def _check_packages(wheels: dict[str, str]) -> list[Check]:
    architecture = platform.machine()
    checks = [check_python(sys.version_info[:3], struct.calcsize("P") * 8, architecture)]
    for module in MIN_VERSIONS:
        version, error = import_in_child(module)
        checks.append(check_module(module, version, error, wheels=wheels, architecture=architecture))
    if any(c.status == "error" for c in checks):
        checks += check_libc(sys.platform, *platform.libc_ver())
    return checks + check_twins(wheels)


def _check_machine(wheels: dict[str, str], folder: Path) -> list[Check]:
    root = Path("/")
    checks = [check_cores(usable_cores(), os.cpu_count() or 1)]
    checks += check_memory(root)
    checks += check_clock(root, busy)
    checks += check_temperature(root)
    checks += check_throttling(root)
    checks.append(check_disk(folder))
    checks.append(check_display(os.environ, sys.platform, wheels=wheels, qt_plugins=_qt_plugins(), root=root))
    return checks + check_cameras(root, sys.platform)


def _qt_plugins() -> list[str]:
    """Return the names of the Qt platform plugins in OpenCV's wheel, without importing it."""
    found = importlib.util.find_spec("cv2")
    if found is None or found.origin is None:
        return []
    return [plugin.name for plugin in (Path(found.origin).parent / "qt/plugins/platforms").glob("*")]


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
        cause, fix = "the self-test was not run: the installation is broken", "follow the fixes above"
        checks.append(Check(name="golden", status="error", cause=cause, fix=fix))
        return Report(checks=tuple(checks))
    checks.append(check_profile(package))
    if golden is None:
        cause, fix = "the package holds no golden frames: no self-test", "export it again"
        checks.append(Check(name="golden", status="warning", cause=cause, fix=fix))
    return Report(checks=tuple(checks), golden=golden)
