"""Results of ``doctor``: checks, golden self-test, overall verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_runtime.device.golden import MIN_AGREEMENT, Golden
from edge_runtime.errors import EdgeUnetError, GateError, UsageError

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of one check: ``cause`` is what was found, ``fix`` is the remedy, or None if nothing is wrong."""

    name: str
    status: Status
    cause: str
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of all checks, and of the self-test if there was a package that could be run."""

    checks: tuple[Check, ...]
    golden: Golden | None = None
    refusal: EdgeUnetError | None = None

    @property
    def ok(self) -> bool:
        """Whether no check failed and the self-test, if there was one, passed; warnings are allowed."""
        return all(c.status != "error" for c in self.checks) and (self.golden is None or self.golden.ok)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        golden = None if self.golden is None else asdict(self.golden)
        return {"ok": self.ok, "checks": [asdict(c) for c in self.checks], "golden": golden}

    def raise_if_bad(self) -> None:
        """Raise an error if a check failed: first for the package, then the self-test, then the machine.

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
