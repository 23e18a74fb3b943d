"""Show the results of the accuracy benchmark: a Markdown table per measure, and a chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Record = dict[str, Any]
MEASURES = {
    "foreground_iou": "Foreground IoU: mean over the classes without the background",
    "boundary_f": "Boundary F",
    "mean_iou": "Mean IoU over all classes",
    "latency_ms": "Time per frame in onnxruntime, ms",
}
CHARTED = ("foreground_iou", "boundary_f")
OURS_COLOR, PEER_COLORS = "#0b7a75", ("#9aa3ab", "#c98b3c", "#7a6fb0", "#b0566f")


def markdown(records: Sequence[Record]) -> str:
    """Return one table per measure: a row per task, a column per engine; the mean over the seeds and half their range."""
    tasks, engines = names(records, "task"), names(records, "engine")
    parts = []
    for measure, title in MEASURES.items():
        # Milliseconds differ by the machine's hour more than by seed, so their range says nothing.
        digits, ranged = (2, False) if measure == "latency_ms" else (3, True)
        lines = [f"| {title} | {' | '.join(engines)} |", f"|---|{'---:|' * len(engines)}"]
        for task in tasks:
            cells = [cell(values(records, task, engine, measure), digits, ranged=ranged) for engine in engines]
            lines.append(f"| {task} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    minutes = ", ".join(f"{task} {next(r['minutes'] for r in records if r['task'] == task):g}" for task in tasks)
    seeds = ", ".join(str(seed) for seed in sorted({record["seed"] for record in records}))
    parts.append(f"Minutes of training: {minutes}. Seeds: {seeds}. Threads: {records[0]['threads']}.")
    return "\n\n".join(parts) + "\n"


def cell(found: Sequence[float], digits: int, *, ranged: bool) -> str:
    """Return "mean ± half range" of several values, the mean alone of one, and a dash of none."""
    if not found:
        return "–"
    mean = f"{sum(found) / len(found):.{digits}f}"
    return f"{mean} ± {(max(found) - min(found)) / 2:.{digits}f}" if ranged and len(found) > 1 else mean


def values(records: Iterable[Record], task: str, engine: str, measure: str) -> list[float]:
    return [record[measure] for record in records if (record["task"], record["engine"]) == (task, engine)]


def names(records: Iterable[Record], key: str) -> list[str]:
    """Return the tasks or engines in the order in which they first occur."""
    return list(dict.fromkeys(record[key] for record in records))


def write_chart(records: Sequence[Record], path: Path) -> None:
    """Draw one panel per measure: a row per task, a point per engine, a line over the range of its seeds."""
    tasks, engines = names(records, "task"), names(records, "engine")
    colors = dict(zip(engines, (OURS_COLOR, *PEER_COLORS), strict=False))
    figure = Figure(figsize=(10, 1.4 + 0.5 * len(tasks)), layout="constrained")
    panels = figure.subplots(1, len(CHARTED), sharey=True)
    for axes, measure in zip(panels, CHARTED, strict=True):
        for number, engine in enumerate(engines):
            for row, task in enumerate(tasks):
                found = values(records, task, engine, measure)
                if found:
                    y = row + 0.13 * (number - (len(engines) - 1) / 2)
                    axes.plot([min(found), max(found)], [y, y], color=colors[engine], linewidth=1.5)
                    label = engine if row == 0 else None
                    axes.plot(sum(found) / len(found), y, "o", markersize=5, color=colors[engine], label=label)
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_xlim(-0.02, 1.02)
        axes.set_title(MEASURES[measure].partition(":")[0], loc="left", fontsize=11)
        axes.grid(axis="x", color="#e6e8ea")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(engines), frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
