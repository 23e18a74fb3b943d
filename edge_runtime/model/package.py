"""Read and verify a model package on disk: a manifest and the files that it lists.

Every file is checked against its SHA-256 before anything is loaded, because more than half of randomly damaged ONNX
files load and silently compute other results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import FORMAT_VERSION, Contract, Fields, check_version, parse_json, text
from edge_runtime.resources import usable_cores
from edge_runtime.storage import printable, read_bytes, sha256, translated

MANIFEST = "manifest.json"
_PASSED_OVER = frozenset({"thumbs.db", "desktop.ini", "@eadir", "lost+found", "readme.md"})
"""Files and folders, in lower case, that systems and model hubs put beside the files of a package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """ONNX file of the package: path relative to the package, SHA-256 and size in bytes."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenFrame:
    """Frame and its masks by variant, computed by the exporting machine: PNG files relative to the package."""

    image: str
    masks: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Content of ``manifest.json``.

    Attributes:
        contract: Input, outputs and classes of the model.
        variants: ONNX files by variant: "fp32", and "int8" if it met its budget.
        files: SHA-256 of every other file in the package, by its path relative to the package.
        golden: Frames and masks for the self-test on the device.
        parameters: Number of weights of the Keras model.
        gflops: 10⁹ floating-point operations per frame; a multiply-add counts as two.
        parity: Differences between Keras and onnxruntime, measured at export.
        metrics: Validation metrics of Keras and of each variant.
        quantization: Attempts at an INT8 variant, their losses and gains, and the outcome.
        provenance: Data, versions, seed and times. This and the three above are reports, which may gain keys.

    Example:
        >>> import json
        >>> from export import ExportConfig, Manifest, export_package
        >>> written = export_package(ExportConfig(run=run, out=tmp_path / "model", int8="off"))
        >>> value = json.loads((tmp_path / "model" / "manifest.json").read_text())
        >>> manifest = Manifest.from_dict(value, "manifest.json")
        >>> manifest == written, list(manifest.variants)
        (True, ['fp32'])
    """

    contract: Contract
    variants: dict[str, Variant]
    files: dict[str, str]
    golden: tuple[GoldenFrame, ...]
    parameters: int
    gflops: float
    parity: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as a JSON object."""
        return {
            "format_version": FORMAT_VERSION,
            "contract": self.contract.to_dict(),
            "variants": {name: asdict(variant) for name, variant in self.variants.items()},
            "files": dict(self.files),
            "golden": [asdict(frame) for frame in self.golden],
            "parameters": self.parameters,
            "gflops": self.gflops,
            "parity": self.parity,
            "metrics": self.metrics,
            "quantization": self.quantization,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, value: object, where: str) -> Manifest:
        """Read a manifest strictly; see ``Contract.from_dict``."""
        fields = Fields(value, where)
        check_version(fields)
        manifest = cls(
            contract=Contract.from_dict(fields.take("contract", dict), f"{where}: contract"),
            variants=fields.take_map("variants", _variant),
            files=fields.take_map("files", text),
            golden=tuple(_golden(item, f"{where}: golden") for item in fields.take("golden", list)),
            parameters=fields.take("parameters", int),
            gflops=fields.take("gflops", float),
            parity=fields.take("parity", dict),
            metrics=fields.take("metrics", dict),
            quantization=fields.take("quantization", dict),
            provenance=fields.take("provenance", dict),
        )
        fields.finish()
        if "fp32" not in manifest.variants:
            raise ModelError(f"{where}: variants has no 'fp32' — export the model again")
        named = {name for frame in manifest.golden for name in (frame.image, *frame.masks.values())}
        for frame in manifest.golden:
            if frame.masks.keys() != manifest.variants.keys():
                raise ModelError(
                    f"{where}: golden frame '{printable(frame.image)}' has masks of "
                    f"{printable(', '.join(sorted(frame.masks))) or 'no variant'} — expected "
                    f"{printable(', '.join(sorted(manifest.variants)))} — export the model again"
                )
        if named - manifest.files.keys():
            raise ModelError(
                f"{where}: golden file '{printable(min(named - manifest.files.keys()))}' is not among 'files' — export the model again"
            )
        return manifest

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of every file that the package must hold, by relative path."""
        return {**self.files, **{variant.file: variant.sha256 for variant in self.variants.values()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Package whose files have all been verified."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, root: Path) -> Package:
        """Read and verify a package.

        Raises:
            ModelError: Not a package, a damaged, missing or extra file, or a manifest that this version cannot read.
        """
        where = printable(root / MANIFEST)
        with translated("read", root, ModelError):
            if not (root / MANIFEST).is_file():
                found = (
                    "a folder without manifest.json"
                    if root.is_dir()
                    else "a file"
                    if root.exists()
                    else "no such folder"
                )
                raise ModelError(f"model package {printable(root)} — {found} — expected what `edge-unet export` writes")
            manifest = Manifest.from_dict(parse_json(read_bytes(root / MANIFEST, ModelError), where), where)
            package = cls(root=root, manifest=manifest)
            package._verify()
        return package

    def model_bytes(self, variant: str) -> bytes:
        """Return the bytes of a variant's ONNX file, verified again, so that the bytes that run are those verified."""
        if variant not in self.manifest.variants:
            raise ModelError(
                f"model package {printable(self.root)} — has no variant '{printable(variant)}' — it has "
                f"{printable(', '.join(self.manifest.variants))}"
            )
        entry = self.manifest.variants[variant]
        data = read_bytes(self.root / entry.file, ModelError)
        self._compare(entry.file, hashlib.sha256(data).hexdigest(), entry.sha256)
        return data

    def _verify(self) -> None:
        digests = self.manifest.digests()
        for name in digests:
            path = self.root / name
            # A link may lead elsewhere, as in the cache of a model hub, because the digest decides. A name may not.
            if not name.isprintable() or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ModelError(
                    f"{printable(self.root / MANIFEST)}: file '{printable(name)}' lies outside the package — refused"
                )
            if not path.is_file():
                raise ModelError(f"{printable(path)} — missing — the package is incomplete: copy or export it again")
        for (name, expected), found_digest in zip(digests.items(), self._found(list(digests)), strict=True):
            self._compare(name, found_digest, expected)
        found = {p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file()}
        strange = {path.as_posix() for path in found if not any(_is_passed_over(part) for part in path.parts)}
        extra = sorted(strange - digests.keys() - {MANIFEST})
        if extra:
            raise ModelError(f"{printable(self.root / extra[0])} — not in the manifest — remove it or export again")

    def _found(self, names: Sequence[str]) -> list[str]:
        """Return the SHA-256 of files, hashed in threads, because hashing releases the interpreter lock."""

        def digest(name: str) -> str:
            return sha256(self.root / name, ModelError)

        try:
            with ThreadPoolExecutor(usable_cores()) as threads:
                return list(threads.map(digest, names))
        except RuntimeError:  # no thread can be started, as while the interpreter exits
            return [digest(name) for name in names]

    def _compare(self, name: str, found: str, expected: str) -> None:
        if found != expected:
            raise ModelError(
                f"{printable(self.root / name)} — SHA-256 is {found[:16]}… — the manifest says {expected[:16]}… — "
                "the file is damaged or was changed: copy or export the package again"
            )


def _is_passed_over(part: str) -> bool:
    """Tell whether a part of a path is hidden, or made by a system or a model hub rather than by a person."""
    return part.startswith(".") or part.lower() in _PASSED_OVER


def _variant(value: object, where: str) -> Variant:
    fields = Fields(value, where)
    variant = Variant(file=fields.take("file", str), sha256=fields.take("sha256", str), bytes=fields.take("bytes", int))
    fields.finish()
    return variant


def _golden(value: object, where: str) -> GoldenFrame:
    fields = Fields(value, where)
    frame = GoldenFrame(image=fields.take("image", str), masks=fields.take_map("masks", text))
    fields.finish()
    return frame
