"""Draw the results of the benchmark as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_report import Network, Result, fastest_of_rows, ours_and_fastest
from bench_variants import OUR_ROWS
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

MOST_PANELS = 6
"""Networks above which one panel compares all of them."""


def write_chart(networks: Sequence[Network], threads: int, path: Path) -> None:
    """Draw the times of all engines, or of ours relative to the fastest other engine if there are many networks."""
    figure = _times(networks, threads) if len(networks) <= MOST_PANELS else _ratios(networks, threads)
    figure.savefig(path, dpi=150)


def _ratios(networks: Sequence[Network], threads: int) -> Figure:
    """Draw a row per network: our time relative to the fastest other engine, in float and in INT8."""
    figure = Figure(figsize=(9, 1.4 + 0.27 * len(networks)), layout="constrained")
    axes = figure.subplots()
    names = [network.facts["preset"].removesuffix(".keras") for network in networks]
    for arithmetic, color in (("fp32", "#0b7a75"), ("int8", "#d9822b")):
        pairs = [ours_and_fastest(network, arithmetic) for network in networks]
        places = [place for place, pair in enumerate(pairs) if pair is not None]
        ratios = [pair[0].median_ms / pair[1].median_ms for pair in pairs if pair is not None]
        axes.scatter(ratios, places, color=color, label=arithmetic, zorder=2)
    axes.axvline(1, color="#c3c8cd", zorder=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(y=0.02)
    axes.set_xlabel(
        f"our time relative to the fastest other engine of the same precision; threads: {threads}; less is better"
    )
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _times(networks: Sequence[Network], threads: int) -> Figure:
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
    return figure


def _name(result: Result) -> str:
    return f"{result.variant.row}, {result.precision}" if result.variant.arithmetic == "auto" else result.variant.row


def _charted(network: Network) -> list[Result]:
    """Return the results to draw, without the rows that repeat ours with another output."""
    shown = fastest_of_rows(network.results.values())
    return [r for r in shown.values() if not r.variant.ours or r.variant.row in OUR_ROWS.values()]
