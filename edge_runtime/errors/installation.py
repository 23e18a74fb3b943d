"""Say which version is installed, and in one line why a module cannot be imported and what to install."""

from __future__ import annotations

import re

MIN_VERSIONS = {"numpy": "2.0", "onnxruntime": "1.30.1", "cv2": "4.11"}
"""Lowest version per module, as in pyproject.toml, which a device may not have."""
WHEELS = {"numpy": "numpy", "onnxruntime": "onnxruntime", "cv2": "opencv-python"}
"""Name of the wheel of each module."""

# Pattern of an import error, with its remedy; the first match is used.
_REMEDIES = (
    (r"libGL|libgthread|libglib|libSM|libX", "apt-get install libgl1 libglib2.0-0, or use opencv-python-headless"),
    (r"GLIBC|manylinux|musl", "this wheel is for a newer system: update it, or install an older wheel that pip finds"),
    (r"DLL load failed", "install the Microsoft Visual C++ Redistributable, then pip install --force-reinstall {pip}"),
    (r"died of", "this wheel is for another processor: install one built for this machine"),
    (r"No module named", "pip install '{pip}'"),
)


def installed_version() -> str:
    """Return the version of edge-unet; "(not installed)" for a copy of its folders."""
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, which no other command needs

    try:
        return version("edge-unet")
    except PackageNotFoundError:
        return "(not installed)"


def import_remedy(error: str, wheel: str) -> str:
    """Return what to do about a failed import.

    Args:
        error: Message of the error.
        wheel: Wheel to install, with its lowest version, such as "numpy>=2.0".
    """
    remedies = (fix for pattern, fix in _REMEDIES if re.search(pattern, error))
    return next(remedies, "pip install --force-reinstall '{pip}'").format(pip=wheel)


def import_problem(cause: ImportError) -> str:
    """Return one line for an import that failed: what was found and what to do."""
    text = " ".join(str(cause).split())
    missing = cause.name or next((module for module in WHEELS if module in text), "")
    module = missing.partition(".")[0]
    if re.search(_REMEDIES[0][0], text):
        module = "cv2"  # the error of a missing system library does not name the module that needs it
    if module in WHEELS:
        remedy = import_remedy(text, f"{WHEELS[module]}>={MIN_VERSIONS[module]}")
    else:
        remedy = "in a checkout of the project: pip install ."  # for the workstation's commands, '.[train]'
    return f"installation — {text} — {remedy}; `edge-unet doctor` checks it all"
