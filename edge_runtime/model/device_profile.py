"""The device profile: what ``edge-unet tune`` found to be best for one package on one machine.

It lies beside the package, as ``models/person.device.json`` beside ``models/person``, for a package holds nothing but
what its manifest lists. ``Segmenter.load`` follows it; a profile that does not fit is passed over, never an error.
"""

from __future__ import annotations

import logging
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edge_runtime.errors import EdgeUnetError, ModelError
from edge_runtime.model.contract import Fields, check_version, parse_json, text
from edge_runtime.model.package import Package
from edge_runtime.model.session import SessionOptions
from edge_runtime.resources import usable_cores
from edge_runtime.storage import printable, read_bytes, system_text, temporary_name, translated, write_json

FORMAT_VERSION = 1
_LOGGER = logging.getLogger("edge_runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a measurement depends on, besides the model.

    Attributes:
        cpu: Model of the processor, or of the board where the processor does not tell.
        architecture: As ``platform.machine()`` says: "x86_64", "aarch64", …
        cores: How many of them this process may use.
        onnxruntime: Its version.
    """

    cpu: str
    architecture: str
    cores: int
    onnxruntime: str

    @classmethod
    def here(cls) -> Machine:
        """Describe the machine that this process runs on."""
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
    """The configuration to use, for which models and machine, and what was measured of it.

    Attributes:
        models: SHA-256 of every variant's ONNX file, by variant.
        machine: Where it was measured.
        variant: The variant to load.
        options: Threads, spinning and execution provider.
        goal_ms: Latency that was asked for.
        p50_ms: Median time from a 640×480 frame to its mask, at the rate of a camera.
        p95_ms: 95th percentile of it.
        cpu_ms: CPU time that a frame took, over all threads, idle ones included.
        date: When, in ISO 8601, UTC.
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
        """Return the configuration as a person says it: "int8, 2 threads, no spinning"."""
        return describe(self.variant, self.options)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as a JSON object."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, value: object, where: str) -> DeviceProfile:
        """Read a profile strictly.

        Args:
            value: A parsed JSON value.
            where: The file it came from, for error messages.

        Raises:
            ModelError: A key is missing, unknown or of the wrong type, or the version is not ours.
            UsageError: The threads are none that a session takes.
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
    """Return a configuration as a person says it; the CPU goes without saying."""
    threads = f"{options.threads} thread{'s' * (options.threads != 1)}" if options.threads else "all cores"
    spinning = "spinning" if options.spinning else "no spinning"
    provider = provider_name(options.provider)
    return ", ".join([printable(variant), threads, spinning, *([provider] if provider != "CPU" else [])])


def provider_name(provider: str) -> str:
    """Return the short name of an execution provider, such as "CPU" or "XNNPACK"."""
    return printable(provider.removesuffix("ExecutionProvider")).replace("Xnnpack", "XNNPACK")


def cpu_model(root: Path = Path("/")) -> str:
    """Return the processor's model; on ARM, where Linux does not know it, the board's.

    Args:
        root: The file system that holds proc, for tests.
    """
    cpuinfo = system_text(root / "proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    board = system_text(root / "proc/device-tree/model")
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(\w+)$", cpuinfo, re.MULTILINE)))
    found = [named[1].strip() if named else "", board, f"CPU part {' '.join(parts)}" if parts else ""]
    return ", ".join(filter(None, found)) or platform.processor() or "unknown"


def notice(profile: DeviceProfile, root: Path) -> str:
    """Return the line that tells a person which profile of a package folder is followed, and what it says."""
    return f"device profile {printable(profile_path(root))}: {profile.describe()}"


def profile_path(root: Path) -> Path:
    """Return where the profile of a package folder lies: beside it, with its name."""
    folder = root if root.name not in ("", "..") else root.resolve()
    return folder.parent / f"{folder.name}.device.json"


def write_profile(profile: DeviceProfile, root: Path) -> Path:
    """Write the profile beside a package folder, atomically, and return its path.

    Raises:
        StorageError: The folder is read-only, or the disk is full.
    """
    path = profile_path(root)
    write_json(path, profile.to_dict())
    return path


def check_writable(root: Path) -> None:
    """Find out whether a profile could be written beside a package folder.

    Raises:
        StorageError: It could not: the folder is read-only, or may not be written by this user.
    """
    path = profile_path(root)
    with translated("write", path):
        probe = temporary_name(path)
        probe.touch(exist_ok=False)
        probe.unlink()


def find_profile(package: Package) -> DeviceProfile | None:
    """Return the profile beside a package, or None if there is none.

    Raises:
        ModelError: It cannot be read, or was made on another machine or for other models.
    """
    path = profile_path(package.root)
    if not path.exists():
        return None
    where = printable(path)
    try:
        profile = DeviceProfile.from_dict(parse_json(read_bytes(path, ModelError), where), where)
    except EdgeUnetError as cause:
        # What a reader of model files advises, to export again, does not help here.
        what = str(cause).partition(" — ")[0]
        raise ModelError(f"{what} — the device profile is damaged — {_remedy(package)}") from cause
    difference = _difference(profile, package)
    if difference is not None:
        raise ModelError(f"{where} — {difference} — {_remedy(package)}")
    return profile


def usable_profile(package: Package) -> DeviceProfile | None:
    """Return the profile beside a package if it fits; one that does not is named in the log of "edge_runtime"."""
    try:
        return find_profile(package)
    except ModelError as error:
        _LOGGER.warning("device profile ignored: %s", error)
        return None


def models_of(package: Package) -> dict[str, str]:
    """Return the SHA-256 of every variant's ONNX file, by variant."""
    return {name: variant.sha256 for name, variant in package.manifest.variants.items()}


def _difference(profile: DeviceProfile, package: Package) -> str | None:
    """Return in what a profile does not fit this package and machine; None if it does."""
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
