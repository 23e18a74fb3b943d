"""Read and write the device profile: the best configuration of one package on one machine, found by ``edge-unet tune``.

It is stored beside the package, as ``models/person.device.json`` beside ``models/person``, because a package contains
only the files in its manifest. ``Segmenter.load`` uses it. A profile that does not fit is ignored; it is not an error.
"""

from __future__ import annotations

import logging
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edge_runtime.errors import EdgeUnetError, ModelError, UsageError
from edge_runtime.model.contract import Fields, check_version, parse_json, text
from edge_runtime.model.package import Package
from edge_runtime.model.session import SessionOptions
from edge_runtime.resources import usable_cores
from edge_runtime.storage import printable, read_bytes, system_text, temporary_name, translated, write_json

FORMAT_VERSION = 1
_LOGGER = logging.getLogger("edge_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Machine and onnxruntime that a measurement depends on.

    Attributes:
        cpu: Model of the CPU, or of the board if the CPU does not report a model.
        architecture: Architecture as in ``platform.machine()``: "x86_64", "aarch64", …
        cores: Number of cores that this process may use.
        onnxruntime: Version of onnxruntime.
    """

    cpu: str
    architecture: str
    cores: int
    onnxruntime: str

    @classmethod
    def here(cls) -> Machine:
        """Return the machine on which this process runs."""
        return cls(cpu=cpu_model(), architecture=platform.machine(), cores=usable_cores(), onnxruntime=ort.__version__)

    @classmethod
    def from_dict(cls, value: object, where: str) -> Machine:
        """Read a machine strictly; see ``DeviceProfile.from_dict``."""
        fields = Fields(value, where)
        machine = cls(
            cpu=fields.take("cpu", str),
            architecture=fields.take("architecture", str),
            cores=fields.take("cores", int),
            onnxruntime=fields.take("onnxruntime", str),
        )
        fields.finish()
        return machine


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """Configuration for one package on one machine, with the figures measured there.

    Attributes:
        models: SHA-256 of every variant's ONNX file, by variant.
        machine: Machine of the measurement.
        variant: Variant to load.
        options: Threads, spinning and execution provider.
        goal_ms: Latency goal in milliseconds.
        p50_ms: Median latency in milliseconds from a 640×480 frame to its mask, at the rate of a camera.
        p95_ms: 95th percentile of that latency in milliseconds.
        cpu_ms: CPU time per frame in milliseconds, over all threads including idle ones.
        date: Time of the measurement, ISO 8601, UTC.
    """

    models: dict[str, str]
    machine: Machine
    variant: str
    options: SessionOptions
    goal_ms: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    date: str

    def describe(self) -> str:
        """Return the configuration as text: "int8, 2 threads, no spinning"."""
        return describe(self.variant, self.options)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as a JSON object."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, value: object, where: str) -> DeviceProfile:
        """Read a profile strictly.

        Args:
            value: A parsed JSON value.
            where: Name of its file in error messages.

        Raises:
            ModelError: A key is missing, unknown or of the wrong type, or the version is not supported.
            UsageError: The number of threads is out of range.
        """
        fields = Fields(value, where)
        check_version(fields, FORMAT_VERSION)
        profile = cls(
            models=fields.take_map("models", text),
            machine=Machine.from_dict(fields.take("machine", dict), f"{where}: machine"),
            variant=fields.take("variant", str),
            options=_options(fields.take("options", dict), f"{where}: options"),
            **{key: fields.take(key, float) for key in ("goal_ms", "p50_ms", "p95_ms", "cpu_ms")},
            date=fields.take("date", str),
        )
        fields.finish()
        return profile


def describe(variant: str, options: SessionOptions) -> str:
    """Return a configuration as text; the default provider, the CPU, is left out."""
    threads = f"{options.threads} thread{'s' * (options.threads != 1)}" if options.threads else "all cores"
    spinning = "spinning" if options.spinning else "no spinning"
    provider = provider_name(options.provider)
    return ", ".join([printable(variant), threads, spinning, *([provider] if provider != "CPU" else [])])


def provider_name(provider: str) -> str:
    """Return the short name of an execution provider, such as "CPU" or "XNNPACK"."""
    return printable(provider.removesuffix("ExecutionProvider")).replace("Xnnpack", "XNNPACK")


def cpu_model(root: Path = Path("/")) -> str:
    """Return the model of the CPU; on ARM, where Linux does not report it, that of the board.

    Args:
        root: Root of the file system.
    """
    cpuinfo = system_text(root / "proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    board = system_text(root / "proc/device-tree/model")
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(\w+)$", cpuinfo, re.MULTILINE)))
    found = [named[1].strip() if named else "", board, f"CPU part {' '.join(parts)}" if parts else ""]
    return ", ".join(filter(None, found)) or platform.processor() or "unknown"


def notice(profile: DeviceProfile, root: Path) -> str:
    """Return the line that reports the device profile of a package folder in use."""
    return f"device profile {printable(profile_path(root))}: {profile.describe()}"


def profile_path(root: Path) -> Path:
    """Return the path of a package folder's profile: beside the folder, with its name."""
    folder = root if root.name not in ("", "..") else root.resolve()
    return folder.parent / f"{folder.name}.device.json"


def write_profile(profile: DeviceProfile, root: Path) -> Path:
    """Write the profile beside a package folder, atomically, and return its path.

    Raises:
        StorageError: The folder is read-only, or the disk is full.
    """
    path = profile_path(root)
    _refuse_notes(path)
    write_json(Path(os.path.realpath(path)), profile.to_dict())  # a link stays
    return path


def _refuse_notes(path: Path) -> None:
    """Refuse to replace a file of the user's that has the name of the profile."""
    text = system_text(path)
    if text and not (text.startswith("{") and '"format_version"' in text):
        raise UsageError(f"{printable(path)} — holds something else than a device profile — move it away")


def check_writable(root: Path) -> None:
    """Check that a profile can be written beside a package folder.

    Raises:
        StorageError: The folder is read-only, or this user may not write to it.
    """
    path = profile_path(root)
    _refuse_notes(path)
    with translated("write", path):
        probe = temporary_name(path)
        probe.touch(exist_ok=False)
        probe.unlink()


def find_profile(package: Package) -> DeviceProfile | None:
    """Return the profile beside a package, or None if it has no profile.

    Raises:
        ModelError: The profile cannot be read, or was made on another machine or for other models.
    """
    path = profile_path(package.root)
    if not path.exists():
        return None
    where = printable(path)
    try:
        profile = DeviceProfile.from_dict(parse_json(read_bytes(path, ModelError), where), where)
    except EdgeUnetError as cause:
        # The remedy in the reader's message, to export again, does not help here.
        what = str(cause).partition(" — ")[0]
        raise ModelError(f"{what} — the device profile is damaged — {_remedy(package)}") from cause
    difference = _difference(profile, package)
    if difference is not None:
        raise ModelError(f"{where} — {difference} — {_remedy(package)}")
    return profile


def usable_profile(package: Package) -> DeviceProfile | None:
    """Return the profile beside a package if it fits; one that does not fit is reported in the log "edge_runtime"."""
    try:
        return find_profile(package)
    except ModelError as error:
        _LOGGER.warning("device profile ignored: %s", error)
        return None


def models_of(package: Package) -> dict[str, str]:
    """Return the SHA-256 of every variant's ONNX file, by variant."""
    return {name: variant.sha256 for name, variant in package.manifest.variants.items()}


def _difference(profile: DeviceProfile, package: Package) -> str | None:
    """Return the difference between a profile and this package and machine as text; None if it fits."""
    if profile.models != models_of(package) or profile.variant not in profile.models:
        return "was measured with another model"
    here = Machine.here()
    for field, found in asdict(profile.machine).items():
        if found != (expected := getattr(here, field)):
            return f"was measured with {field} {printable(str(found))}, and here it is {printable(str(expected))}"
    if profile.options.provider not in ort.get_available_providers():
        return f"is for {provider_name(profile.options.provider)}, which this onnxruntime does not have"
    return None


def _remedy(package: Package) -> str:
    return f"run `edge-unet tune {printable(package.root)}` again"


def _options(value: object, where: str) -> SessionOptions:
    fields = Fields(value, where)
    options = SessionOptions(
        threads=fields.take("threads", int),
        spinning=fields.take("spinning", bool),
        provider=fields.take("provider", str),
    )
    fields.finish()
    return options
