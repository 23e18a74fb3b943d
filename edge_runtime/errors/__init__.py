"""Error classes of the project, as one tree.

    EdgeUnetError                 (base class, not raised)
    ├── UsageError            2   wrong option, setting or missing extra
    ├── InputError            3   an image, array, mask or dataset that cannot be used
    ├── ModelError            4   a model package or model file that is refused
    ├── GateError             5   parity, quantisation or self-test outside its budget
    ├── StorageError          6   disk full, read-only, no permission, output in use
    ├── SourceError           7   camera or stream not available
    └── WedgedError          70   native code hangs on a frame

The number is the exit code of the command line. The library raises these errors and never exits the process.
A message is one line: what and where — what was found, what was expected — what to do. ``training.errors`` and
``export.errors`` derive their own classes from these.
"""

from __future__ import annotations


class EdgeUnetError(Exception):
    """Base class of all errors of this project.

    Attributes:
        exit_code: Exit code of the command line for this error.

    Example:
        >>> from edge_runtime import EdgeUnetError, Segmenter
        >>> try:
        ...     Segmenter.load("models/persn")
        ... except EdgeUnetError as error:
        ...     print(f"exit code {error.exit_code}: {error}")
        exit code 4: model package models/persn — no such folder — expected what `edge-unet export` writes
    """

    exit_code = 70


class UsageError(EdgeUnetError):
    """An option, a setting or the installation is not what the call needs.

    Example:
        >>> from edge_runtime import parse_effect
        >>> parse_effect("blurr")
        Traceback (most recent call last):
        edge_runtime.errors.UsageError: --effect 'blurr' — no such effect — expected ... — did you mean 'blur'?
    """

    exit_code = 2


class InputError(EdgeUnetError):
    """An image, array, mask or dataset cannot be used.

    Example:
        >>> from edge_runtime import Segmenter
        >>> segmenter = Segmenter.load(package)
        >>> segmenter(image_bgr / 255)
        Traceback (most recent call last):
        edge_runtime.errors.InputError: frame — dtype is float64 — expected uint8 (0–255) — ...
    """

    exit_code = 3


class ModelError(EdgeUnetError):
    """A model package or model file is refused.

    Example:
        >>> from edge_runtime import Segmenter
        >>> Segmenter.load(folder)
        Traceback (most recent call last):
        edge_runtime.errors.ModelError: model package .../images — a folder without manifest.json — expected ...
    """

    exit_code = 4


class GateError(EdgeUnetError):
    """A quality gate failed: parity, quantisation or self-test.

    `edge-unet tune` and `edge-unet doctor` raise it, and ``export_package`` raises the subclasses in ``export``.

    Example:
        >>> from edge_runtime import EdgeUnetError, GateError
        >>> def may_be_repeated(error: EdgeUnetError) -> bool:
        ...     return not isinstance(error, GateError)  # the same model fails the same gate again
        >>> may_be_repeated(GateError("golden self-test — fp32 differs in 2 % of the pixels"))
        False
    """

    exit_code = 5


class StorageError(EdgeUnetError):
    """A file could not be written: disk full, read-only, no permission, in use.

    Example:
        >>> from edge_runtime import RunConfig, execute
        >>> execute(RunConfig(package=package, source=folder, json=str(tmp_path / "missing" / "masks.jsonl")))
        Traceback (most recent call last):
        edge_runtime.errors.StorageError: .../masks.jsonl — ...
    """

    exit_code = 6


class SourceError(EdgeUnetError):
    """A camera or stream cannot be opened or has ended.

    Example:
        >>> from edge_runtime import open_source
        >>> with open_source(97) as camera:
        ...     frame = next(iter(camera))
        Traceback (most recent call last):
        edge_runtime.errors.SourceError: camera 97 — cannot be opened — ...
    """

    exit_code = 7


class WedgedError(EdgeUnetError):
    """The work on a frame does not end because native code hangs; only a new process helps.

    ``execute`` raises it for a service, 30 seconds after the work on a frame began.

    Example:
        >>> from edge_runtime import Observer, RunConfig, WedgedError, execute
        >>> class Watch(Observer):
        ...     def begun(self, source, segmenter):
        ...         raise WedgedError(f"{source.name} — the model hangs")
        >>> try:
        ...     execute(RunConfig(package=package, source=folder), observer=Watch())
        ... except WedgedError as error:
        ...     print(f"start a new process: exit code {error.exit_code}")
        start a new process: exit code 70
    """
