"""Print the results of the benchmark as a table, and return them as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_machine import cpu_name, engine_versions
from bench_variants import OUR_ROWS, RAW_ROW, Variant

FOOTER = """\
median over all rounds; one process per engine, in turns; {threads} threads; batch 1; bench.json has every file of a row
our rows: uint8 pixels in, class ids out ("logits": logits out); so OpenVINO and OpenCV with clean graph or our file
other rows: float pixels in, probabilities out; LiteRT INT8: uint8 in and out; converting pixels is not timed
clean graph: ours before the phases pass; NNCF: OpenVINO's own quantisation; all INT8 is calibrated on {frames} frames
to raw: time relative to the raw tf2onnx graph in onnxruntime
GFLOP/s: operations of the original network per second, so an engine that saves operations can exceed the peak
of peak: share of the best matrix product of its type on {threads} threads in this run ({peaks} GFLOP/s, INT8: GOP/s)
same class: share of pixels with TensorFlow's class on {checked} other frames; lower with random weights"""
LEVEL = 1.02
"""Largest factor between the times of two engines that count as level."""
COLUMNS = ("engine", "file", "median ms", "to raw", "GFLOP/s", "of peak", "same class", "note")


@dataclass(slots=True, kw_only=True)
class Result:
    """Results of one variant."""

    variant: Variant
    precision: str = ""
    difference: float = float("nan")
    same_class: float = float("nan")
    failure: str = ""
    times_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return statistics.median(self.times_ms)

    @property
    def shortest_ms(self) -> float:
        return min(self.times_ms)

    @property
    def arithmetic(self) -> str:
        """Type of the convolutions; if the engine chose it, the type that it reports."""
        if self.variant.arithmetic != "auto":
            return self.variant.arithmetic
        return {"f32": "fp32"}.get(self.precision, self.precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Conditions of the measurement: ``load`` is the load average before, ``peaks`` the best GFLOP/s per type."""

    threads: int
    rounds: int
    load: float
    peaks: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Network with the facts from ``bench_models`` and the results by variant key."""

    facts: dict[str, Any]
    results: dict[str, Result]

    @property
    def title(self) -> str:
        height, width, channels = self.facts["input"]
        return f"{self.facts['preset']}, {height}x{width}x{channels}, {self.facts['classes']} classes"

    @property
    def raw_ms(self) -> float:
        return fastest_of_rows(self.results.values())[RAW_ROW].median_ms

    def rate(self, result: Result) -> float:
        """Return billions of the original network's operations per second."""
        return float(self.facts["gflops"]["raw"] / result.median_ms * 1e3)

    def operations(self, result: Result) -> float:
        """Return billions of operations in the convolutions of a variant's file."""
        gflops: dict[str, float] = self.facts["gflops"]
        return gflops.get(Path(result.variant.file).stem, gflops["raw"])


def fastest_of_rows(results: Iterable[Result]) -> dict[str, Result]:
    """Return the fastest result of each row; a row without a working variant is missing."""
    found: dict[str, Result] = {}
    for result in results:
        row = result.variant.row
        if result.times_ms and (row not in found or result.median_ms < found[row].median_ms):
            found[row] = result
    return found


def text(networks: Sequence[Network], how: Conditions) -> str:
    """Return the tables, the verdicts and the conditions."""
    parts = []
    for network in networks:
        lines = _table([COLUMNS, *_rows(network, how.peaks)])
        gflops = network.facts["gflops"]["raw"]
        title = f"{network.title}, weights {network.facts['weights']}, {gflops:.2f} GFLOPs per frame"
        parts.append("\n".join(["", title, *lines, *verdicts(network)]))
    if in_short := summary(networks):
        parts.append("\n".join(["", *in_short]))
    facts = networks[0].facts
    shown_peaks = ", ".join(f"{name} {gflops:.0f}" for name, gflops in sorted(how.peaks.items()))
    footer = FOOTER.format(
        threads=how.threads, frames=facts["calibration_frames"], checked=facts["check_frames"], peaks=shown_peaks
    )
    versions = ", ".join(f"{name} {version}" for name, version in engine_versions().items())
    return "\n".join(
        [
            *parts,
            "",
            footer,
            f"{how.rounds} rounds on {cpu_name()}, load average before {how.load:.1f}",
            versions,
        ]
    )


def summary(networks: Sequence[Network]) -> list[str]:
    """Return one line per arithmetic: on how many networks ours takes no longer than the fastest other engine."""
    lines = []
    for arithmetic, row in OUR_ROWS.items():
        pairs = [pair for network in networks if (pair := ours_and_fastest(network, arithmetic)) is not None]
        ratios = sorted(ours.median_ms / peer.median_ms for ours, peer in pairs)
        if len(ratios) > 1:
            lines.append(
                f"{arithmetic}: {row} takes at most as long as the fastest other engine on "
                f"{sum(ratio <= 1 for ratio in ratios)} of {len(ratios)} networks, {statistics.median(ratios):.2f} times as "
                f"long in the median, {ratios[0]:.2f} to {ratios[-1]:.2f}"
            )
    return lines


def ours_and_fastest(network: Network, arithmetic: str) -> tuple[Result, Result] | None:
    """Return our result and that of the fastest other engine; None if one is missing."""
    shown = fastest_of_rows(network.results.values())
    peers = [r for r in shown.values() if not r.variant.ours and r.arithmetic == arithmetic]
    ours = shown.get(OUR_ROWS[arithmetic])
    return None if ours is None or not peers else (ours, min(peers, key=lambda result: result.median_ms))


def verdicts(network: Network) -> list[str]:
    """Return one line per arithmetic that compares ours with the fastest other engine, in operations and in rate."""
    lines = []
    for arithmetic, row in OUR_ROWS.items():
        pair = ours_and_fastest(network, arithmetic)
        if pair is None:
            continue
        ours, peer = pair
        gain = peer.median_ms / ours.median_ms
        operations = network.operations(ours) / network.operations(peer)
        outcome = "wins" if gain > LEVEL else "loses" if gain < 1 / LEVEL else "is level"
        lines.append(
            f"{arithmetic}: {row} {outcome} — {ours.median_ms:.2f} ms against "
            f"{peer.median_ms:.2f} of {peer.variant.row} ({peer.variant.graph}), {gain:.2f} times as fast: "
            f"{operations:.2f} times the operations, done at {gain * operations:.2f} times its rate"
        )
    return lines


def as_json(networks: Sequence[Network], how: Conditions) -> dict[str, Any]:
    """Return all measurements except the single times."""
    return {
        "cpu": cpu_name(),
        "threads": how.threads,
        "rounds": how.rounds,
        "load_average_before": round(how.load, 2),
        "versions": engine_versions(),
        "peak_gflops": {name: round(gflops, 1) for name, gflops in how.peaks.items()},
        "summary": summary(networks),
        "networks": [
            {
                **network.facts,
                "verdicts": verdicts(network),
                "results": [_record(network, result, how.peaks) for result in network.results.values()],
            }
            for network in networks
        ],
    }


def _rows(network: Network, peaks: Mapping[str, float]) -> list[tuple[str, ...]]:
    shown = fastest_of_rows(network.results.values())
    rows: list[tuple[str, ...]] = []
    for row in dict.fromkeys(result.variant.row for result in network.results.values()):
        if row not in shown:
            failed = next(result for result in network.results.values() if result.variant.row == row)
            rows.append((row, failed.variant.graph, "–", "–", "–", "–", "–", failed.failure))
            continue
        record = _record(network, shown[row], peaks)
        share = record["share_of_peak"]
        rows.append(
            (
                row,
                record["file"],
                f"{shown[row].median_ms:.2f}",
                f"{record['to_raw']:.2f}",
                f"{record['gflops_per_s']:.0f}",
                "–" if share is None else f"{share:.0%}",
                f"{record['same_class']:.4f}",
                _note(shown[row]),
            )
        )
    return rows


def _note(result: Result) -> str:
    if result.variant.arithmetic == "auto":
        return f"computes in {result.precision}"
    if result.variant.arithmetic == "int8" and result.precision:
        return f"the rest in {result.precision}"
    return ""


def _record(network: Network, result: Result, peaks: Mapping[str, float]) -> dict[str, Any]:
    record: dict[str, Any] = {"engine": result.variant.row, "file": result.variant.graph}
    if not result.times_ms:
        return {**record, "failure": result.failure}
    peak = peaks.get(result.arithmetic)
    low, high = np.percentile(result.times_ms, [10, 90])
    return {
        **record,
        "arithmetic": result.arithmetic,
        "shown": fastest_of_rows(network.results.values())[result.variant.row] is result,
        "median_ms": round(result.median_ms, 3),
        "p10_ms": round(float(low), 3),
        "p90_ms": round(float(high), 3),
        "runs": len(result.times_ms),
        "to_raw": round(result.median_ms / network.raw_ms, 4),
        "gflops_per_s": round(network.rate(result), 1),
        "share_of_peak": None if peak is None else round(network.rate(result) / peak, 4),
        "same_class": result.same_class,
        "max_abs_diff": result.difference,
        "engine_precision": result.precision or None,
    }


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(2, 7)
    return [
        "  ".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
