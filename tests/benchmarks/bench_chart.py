"""Draw the results of the benchmark as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_report import Network, Result, fastest_of_rows
from bench_variants import OUR_ROWS
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


def write_chart(networks: Sequence[Network], threads: int, path: Path) -> None:
    """Draw one panel of bars per network, fastest first, ours in colour."""
    rows = [sorted(_charted(network), key=lambda result: result.median_ms) for network in networks]
    figure = Figure(
        figsize=(10, 0.9 + sum(0.75 + 0.34 * len(results) for results in rows)),
        layout=ConstrainedLayoutEngine(h_pad=0.12),
    )
    panels = figure.subplots(len(networks), 1, squeeze=False, height_ratios=[len(results) for results in rows])[:, 0]
    for axes, network, results in zip(panels, networks, rows, strict=True):
        times = [result.median_ms for result in results]
        names = [f"{_name(result)}  ({result.variant.graph})" for result in results]
        colors = ["#0b7a75" if result.variant.ours else "#c3c8cd" for result in results]
        bars = axes.barh(names, times, color=colors, height=0.72)
        axes.bar_label(bars, [f"{ms:.3g} ms   {network.raw_ms / ms:.1f}×" for ms in times], padding=4, fontsize=9)
        axes.margins(y=0.01)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.18 * max(times))
        axes.set_title(network.title, loc="left", fontsize=11, fontweight="bold")
        axes.tick_params(axis="y", length=0, labelsize=9.5)
        for label, result in zip(axes.get_yticklabels(), results, strict=True):
            label.set_fontweight("bold" if result.variant.ours else "normal")
        axes.xaxis.set_visible(False)
        axes.spines[:].set_visible(False)
    figure.suptitle(
        f"One frame, {threads} threads: median in ms, and speed relative to the raw tf2onnx graph in onnxruntime",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    figure.savefig(path, dpi=150)


def _name(result: Result) -> str:
    return f"{result.variant.row}, {result.precision}" if result.variant.arithmetic == "auto" else result.variant.row


def _charted(network: Network) -> list[Result]:
    """Return the results to draw, without the rows that repeat ours with another output."""
    shown = fastest_of_rows(network.results.values())
    return [r for r in shown.values() if not r.variant.ours or r.variant.row in OUR_ROWS.values()]
