"""Compute the geometry of the report's charts: SVG paths, bars and ticks, which the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 48, 14, 12, 24
HOVERED = 400
"""Maximum number of points with a tooltip in a chart, because each is an element of the page."""
BARS = 60
"""Maximum number of bars in a chart; more epochs are averaged in groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Line to draw: one value per epoch, None for a missing value, and a CSS colour."""

    name: str
    values: Sequence[float | None]
    color: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Point of a chart, in pixels, and its text."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Tick of an axis: its position in pixels and its number."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Drawn series: an SVG path and the points on it that have a tooltip."""

    name: str
    color: str
    path: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines over epochs with their axes; ``mark`` is a highlighted point."""

    width: int
    height: int
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    mark: Point | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Rectangle of a chart, in pixels, its CSS colour and its tooltip."""

    x: float
    y: float
    width: float
    height: float
    color: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Bars side by side or stacked, with their axes."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def line_chart(
    series: Sequence[Series], *, width: int = 520, height: int = 210, best_epoch: int | None = None
) -> LineChart:
    """Lay out lines over epochs 1, 2, … .

    Args:
        series: Lines to draw, each with one value per epoch.
        width: Width of the chart in pixels.
        height: Height of the chart in pixels.
        best_epoch: Epoch whose value of the first line is marked.
    """
    epochs = max(len(s.values) for s in series)
    present = [v for s in series for v in s.values if v is not None]
    ticks = nice_ticks(min(present, default=0.0), max(present, default=1.0))
    low, high = ticks[0], ticks[-1]

    def x(epoch: float) -> float:
        share = 0.5 if epochs == 1 else (epoch - 1) / (epochs - 1)
        return round(LEFT_PX + share * (width - LEFT_PX - RIGHT_PX), 1)

    def y(value: float) -> float:
        return round(TOP_PX + (high - value) / (high - low) * (height - TOP_PX - BOTTOM_PX), 1)

    lines = []
    for s in series:
        places = [None if v is None else (x(epoch), y(v)) for epoch, v in enumerate(s.values, start=1)]
        points = tuple(
            Point(x=place[0], y=place[1], text=f"{s.name}, epoch {epoch}: {value:.4g}")
            for epoch, (place, value) in enumerate(zip(places, s.values, strict=True), start=1)
            if place is not None and (len(present) <= HOVERED or epochs == 1)
        )
        lines.append(Line(name=s.name, color=s.color, path=_path(places), points=points))
    best = None if best_epoch is None else series[0].values[best_epoch - 1]
    mark = None
    if best_epoch is not None and best is not None:
        mark = Point(x=x(best_epoch), y=y(best), text=f"{best:.4f} in epoch {best_epoch}")
    return LineChart(
        width=width,
        height=height,
        lines=tuple(lines),
        x_ticks=tuple(Tick(at=x(epoch), text=str(epoch)) for epoch in epoch_ticks(epochs)),
        y_ticks=tuple(Tick(at=y(v), text=f"{v:g}") for v in ticks),
        mark=mark,
    )


def sparkline(values: Sequence[float | None], *, width: int = 110, height: int = 22) -> str:
    """Return the SVG path of a small line from 0 to 1, without axes."""
    last = max(1, len(values) - 1)
    return _path(
        [
            None if v is None else (round(1 + i / last * (width - 2), 1), round(1 + (1 - v) * (height - 2), 1))
            for i, v in enumerate(values)
        ]
    )


def stacked_bars(
    parts: Sequence[tuple[str, str, Sequence[float]]], *, unit: str, width: int = 520, height: int = 210
) -> BarChart:
    """Lay out one stacked bar per epoch.

    Args:
        parts: Name, CSS colour and values of each part, from the bottom up.
        unit: Unit of the values, for tooltips.
        width: Width of the chart in pixels.
        height: Height of the chart in pixels.
    """
    epochs = len(parts[0][2])
    per_bar = math.ceil(epochs / BARS)
    groups = [range(first, min(first + per_bar, epochs)) for first in range(0, epochs, per_bar)]
    stacks = [[sum(values[i] for i in group) / len(group) for _, _, values in parts] for group in groups]
    ticks = nice_ticks(0.0, max(sum(stack) for stack in stacks))
    room = (height - TOP_PX - BOTTOM_PX) / ticks[-1]
    slot = (width - LEFT_PX - RIGHT_PX) / len(groups)
    bars = []
    for place, (group, stack) in enumerate(zip(groups, stacks, strict=True)):
        top = float(height - BOTTOM_PX)
        of = f"epoch {group[0] + 1}" if len(group) == 1 else f"epochs {group[0] + 1}–{group[-1] + 1}"
        thickness = min(0.8 * slot, 48.0)
        for (name, color, _), value in zip(parts, stack, strict=True):
            top -= value * room
            left = LEFT_PX + place * slot + (slot - thickness) / 2
            bars.append(
                Bar(
                    x=round(left, 1),
                    y=round(top, 1),
                    width=round(thickness, 1),
                    height=round(value * room, 1),
                    color=color,
                    text=f"{of}: {value:.3g} {unit} {name}",
                )
            )
    return BarChart(
        width=width,
        height=height,
        bars=tuple(bars),
        x_ticks=tuple(
            Tick(at=round(LEFT_PX + (epoch - 0.5) / per_bar * slot, 1), text=str(epoch))
            for epoch in epoch_ticks(epochs)
        ),
        y_ticks=tuple(Tick(at=round(height - BOTTOM_PX - v * room, 1), text=f"{v:g}") for v in ticks),
    )


def histogram(values: Sequence[float], *, color: str, width: int = 520, height: int = 190) -> BarChart:
    """Lay out a histogram of values in 0–1 with 20 bins."""
    counts = [0] * 20
    for value in values:
        counts[min(19, int(value * 20))] += 1
    ticks = [t for t in nice_ticks(0.0, max(counts)) if t == int(t)]
    room = (height - TOP_PX - BOTTOM_PX) / ticks[-1]
    slot = (width - LEFT_PX - RIGHT_PX) / 20
    bars = tuple(
        Bar(
            x=round(LEFT_PX + i * slot + 1, 1),
            y=round(height - BOTTOM_PX - count * room, 1),
            width=round(slot - 2, 1),
            height=round(count * room, 1),
            color=color,
            text=f"{count} images from {i / 20:.2f} to {(i + 1) / 20:.2f}",
        )
        for i, count in enumerate(counts)
        if count
    )
    return BarChart(
        width=width,
        height=height,
        bars=bars,
        x_ticks=tuple(Tick(at=round(LEFT_PX + i * 4 * slot, 1), text=f"{i / 5:g}") for i in range(6)),
        y_ticks=tuple(Tick(at=round(height - BOTTOM_PX - v * room, 1), text=f"{v:g}") for v in ticks),
    )


def nice_ticks(low: float, high: float, intervals: int = 4) -> list[float]:
    """Return round numbers at equal distances whose first and last enclose a range; at least two."""
    if high - low < 1e-4 * max(abs(low), abs(high), 1e-6):  # six digits of a tick could not tell such values apart
        pad = abs(high) / 2 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / intervals
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.6g}") for i in range(first, last + 1)]


def epoch_ticks(epochs: int) -> list[int]:
    """Return the epochs that are labelled on an axis: 1, round numbers, and the last epoch if there is room."""
    if epochs <= 8:
        return list(range(1, epochs + 1))
    step = next(m * 10**p for p in range(9) for m in (1, 2, 5) if m * 10**p >= epochs / 7)
    ticks = [1, *range(step, epochs + 1, step)]
    if epochs - ticks[-1] >= 0.6 * step:
        ticks.append(epochs)
    return ticks


def _path(places: Sequence[tuple[float, float] | None]) -> str:
    """Return an SVG path through the points, interrupted at None."""
    parts, pen_down = [], False
    for place in places:
        if place is not None:
            parts.append(f"{'L' if pen_down else 'M'}{place[0]:g} {place[1]:g}")
        pen_down = place is not None
    return "".join(parts)
