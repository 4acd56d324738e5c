"""Small line and area charts as SVG, coloured by the page's style sheet and made interactive by its script.

Static SVG is legible without scripts, in print and in dark mode (all colours are style-sheet variables), at a few kB per
chart. The attribute `data-chart` holds the values, which the page's script shows under the pointer.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 236  # user units, about one pixel each
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 32  # margins around the plot
MAX_POINTS = 400  # longer curves are averaged in this many bins


@dataclass(frozen=True)
class Series:
    """One curve. `values`: one per step of the chart, None where there is none (a task need not occur in every step).
    `colour`: index into the palette."""

    name: str
    values: tuple[float | None, ...]
    colour: int
    peaks: bool = False  # when binned, keep the largest value rather than the mean
    dots: bool = False  # mark every value, where there are few


def line_chart(
    title: str,
    note: str,
    steps: Sequence[float],
    series: Sequence[Series],
    *,
    log: bool = False,
    limits: Sequence[tuple[str, float]] = (),
    span: tuple[float, float] | None = None,
    x_label: str = "step",
    smooth: bool = True,
) -> Markup:
    """Curves over steps: a thin line for the values, a bold one for their moving average (from ten steps on).

    Returns empty markup if there is nothing to draw.

    Args:
        note: One sentence under the title.
        log: Logarithmic y axis; values that are not positive are left out.
        limits: Horizontal dashed lines (name, value).
        span: Ends of the y axis; None: chosen by the data.
    """
    steps, series = _binned(steps, series)
    kept = [s for s in series if any(_drawable(v, log) for v in s.values)]
    if not kept:
        return Markup("")
    drawn = [v for s in kept for v in s.values if _drawable(v, log)] + [v for _, v in limits]
    axis = _log_axis(drawn) if log else _linear_axis(*(span or (min(drawn), max(drawn))))
    x_of, y_of = _x_scale(steps), axis.position
    window = max(1, len(steps) // 20) * 2 + 1 if smooth and len(steps) >= 10 else 1
    parts = [_grid(axis), _x_axis(steps, x_label)]
    for i, s in enumerate(kept):
        points = [
            (x_of(x), y_of(v)) if _drawable(v, log) else None for x, v in zip(steps, s.values, strict=True)
        ]
        lines = _path(points, "raw" if window > 1 else "mean")
        if window > 1:
            average = zip(steps, _moving_average(s.values, window, log), strict=True)
            lines += _path([(x_of(x), y_of(v)) if v is not None else None for x, v in average], "mean")
        if s.dots:
            lines += _dots(points)
        parts.append(Markup('<g class="c{}" data-series="{}">{}</g>').format(s.colour, i, lines))
    parts += [_limit_line(name, y_of(value), left=j % 2 == 1) for j, (name, value) in enumerate(limits)]
    return _figure(title, note, steps, kept, parts, log, x_label)


def _limit_line(name: str, y: float, *, left: bool) -> Markup:
    """Dashed horizontal line with its name at the right end, or further left so that two names do not collide."""
    line = Markup(
        '<g class="limit"><line x1="{}" x2="{}" y1="{y}" y2="{y}"/><text x="{}" y="{}">{}</text></g>'
    )
    right = WIDTH - RIGHT
    return line.format(LEFT, right, LEFT + 150 if left else right - 4, _r(y - 4), name, y=_r(y))


def area_chart(
    title: str, note: str, steps: Sequence[float], series: Sequence[Series], *, x_label: str = "step"
) -> Markup:
    """Stacked areas over steps (None counts as 0), for parts of a whole such as seconds by phase."""
    steps, series = _binned(steps, series)
    kept = [s for s in series if any(s.values)]
    if not kept:
        return Markup("")
    layers = np.cumsum([[v or 0.0 for v in s.values] for s in kept], axis=0)
    # One slow step (such as a first batch that compiles) would flatten all others, so the axis is cut above the bulk.
    top = float(layers[-1].max())
    bulk = float(np.quantile(layers[-1], 0.95)) * 1.25
    cut = len(steps) >= 20 and top > 2 * bulk
    axis = _linear_axis(0.0, bulk if cut else top)
    x_of = _x_scale(steps)
    clipped = np.minimum(layers, axis.high)
    parts = [_grid(axis), _x_axis(steps, x_label)]
    for i, s in enumerate(kept):
        floor = clipped[i - 1] if i else np.zeros(len(steps))
        upper = [f"{_r(x_of(x))} {_r(axis.position(v))}" for x, v in zip(steps, clipped[i], strict=True)]
        lower = [f"{_r(x_of(x))} {_r(axis.position(v))}" for x, v in zip(steps, floor, strict=True)]
        if len(steps) == 1:  # a single step has no width, so draw a bar around it
            (up,), (low,) = upper, lower
            y_up, y_low, x = up.split()[1], low.split()[1], float(up.split()[0])
            upper, lower = (
                [f"{x - 20} {y_up}", f"{x + 20} {y_up}"],
                [f"{x - 20} {y_low}", f"{x + 20} {y_low}"],
            )
        path = "M" + "L".join([*upper, *reversed(lower)]) + "Z"
        parts.append(
            Markup('<g class="c{}" data-series="{}"><path class="area" d="{}"/></g>').format(
                s.colour, i, path
            )
        )
    if cut:
        note = f"{note} The axis is cut: the slowest step took {top:.3g}."
    return _figure(title, note, steps, kept, parts, False, x_label)


def interval_chart(
    entries: Sequence[tuple[str, int, dict | None]], *, low: float = 0.0, high: float = 1.0
) -> Markup:
    """Means as dots and their intervals as bars, one line per entry (name, colour, {"mean", "ci95"})."""
    width, row = 180, 13
    kept = [
        (name, colour, entry) for name, colour, entry in entries if entry and entry.get("mean") is not None
    ]
    x = lambda v: _r(4 + (width - 8) * (v - low) / (high - low))  # noqa: E731
    height = row * len(kept) + 4
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/>').format(x(v), height)
        for v in (low, (low + high) / 2, high)
    ]
    words = []
    for i, (name, colour, entry) in enumerate(kept):
        y = row * i + 8.5
        a, b = entry.get("ci95") or (None, None)
        if a is not None and b is not None:
            parts.append(
                Markup('<line class="c{} bar" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                    colour, x(a), x(b), y=y
                )
            )
        parts.append(
            Markup('<circle class="c{} dot" cx="{}" cy="{}" r="4"/>').format(colour, x(entry["mean"]), y)
        )
        words.append(f"{name} {entry['mean']:.2f}")
    return Markup('<svg class="intervals" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, ", ".join(words), Markup("").join(parts)
    )


# ------------------------------------------------------------------------------------------------------------- pieces


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool

    def position(self, value: float) -> float:
        """y of a value in user units, clipped to the ends of the axis."""
        low, high, v = (
            (math.log10(x) for x in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        share = min(1.0, max(0.0, (v - low) / (high - low)))
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _linear_axis(low: float, high: float) -> _Axis:
    if high - low < 1e-12:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(step * k for k in (1, 2, 2.5, 5, 10) if (high - low) / (step * k) <= 5)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    count = round((high - low) / step)
    return _Axis(low, high, tuple((low + i * step, f"{low + i * step:.4g}") for i in range(count + 1)), False)


def _log_axis(values: Sequence[float]) -> _Axis:
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = max(low + 1, math.ceil(math.log10(max(values)) - 1e-9))
    every = max(1, math.ceil((high - low) / 6))
    return _Axis(
        10.0**low, 10.0**high, tuple((10.0**e, _power(e)) for e in range(low, high + 1, every)), True
    )


def _power(exponent: int) -> str:
    if -2 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _drawable(value: float | None, log: bool) -> TypeGuard[float]:
    return value is not None and math.isfinite(value) and (not log or value > 0)


def _x_scale(steps: Sequence[float]):
    first, last = steps[0], steps[-1]
    width = WIDTH - LEFT - RIGHT
    return lambda x: LEFT + (width * (x - first) / (last - first) if last > first else width / 2)


def _moving_average(values: Sequence[float | None], window: int, log: bool) -> list[float | None]:
    """Centred moving average; geometric on a log axis, so that one spike does not raise all its neighbours."""
    half = window // 2
    result: list[float | None] = []
    for i, value in enumerate(values):
        near = [v for v in values[max(0, i - half) : i + half + 1] if _drawable(v, log)]
        if not _drawable(value, log):
            result.append(None)
        else:
            result.append(math.exp(float(np.mean(np.log(near)))) if log else float(np.mean(near)))
    return result


def _binned(steps: Sequence[float], series: Sequence[Series]) -> tuple[list[float], list[Series]]:
    if len(steps) <= MAX_POINTS:
        return list(steps), list(series)
    edges = np.linspace(0, len(steps), MAX_POINTS + 1).astype(int)
    bins = list(itertools.pairwise(edges))

    def reduce(values: Sequence[float | None], peaks: bool) -> tuple[float | None, ...]:
        present = [[v for v in values[a:b] if v is not None] for a, b in bins]
        return tuple((max(vs) if peaks else float(np.mean(vs))) if vs else None for vs in present)

    return [steps[a] for a, _ in bins], [replace(s, values=reduce(s.values, s.peaks)) for s in series]


def _path(points: Sequence[tuple[float, float] | None], name: str) -> Markup:
    """A line through all points but None; a single point becomes a dot."""
    present = [f"{_r(x)} {_r(y)}" for x, y in (point for point in points if point is not None)]
    return Markup('<path class="{}" d="M{}"/>').format(
        name, "L".join(present if len(present) > 1 else present * 2)
    )


def _dots(points: Sequence[tuple[float, float] | None]) -> Markup:
    dot = Markup('<circle class="point" cx="{}" cy="{}" r="3"/>')
    return Markup("").join(dot.format(_r(x), _r(y)) for x, y in (p for p in points if p is not None))


def _grid(axis: _Axis) -> Markup:
    line = Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text class="y" x="{}" y="{}">{}</text>'
    )
    return Markup("").join(
        line.format(LEFT, WIDTH - RIGHT, LEFT - 6, _r(axis.position(v) + 3.5), label, y=_r(axis.position(v)))
        for v, label in axis.ticks
    )


def _x_axis(steps: Sequence[float], label: str) -> Markup:
    x_of, y = _x_scale(steps), HEIGHT - BOTTOM + 14
    wanted = {steps[0], steps[-1]}
    if steps[-1] > steps[0]:
        inner = [v for v, _ in _linear_axis(steps[0], steps[-1]).ticks if steps[0] < v < steps[-1]]
        wanted |= {v for v in inner if min(x_of(v) - x_of(steps[0]), x_of(steps[-1]) - x_of(v)) > 34}
    ticks = [
        Markup('<text class="x" x="{}" y="{}">{}</text>').format(_r(x_of(v)), y, f"{v:g}")
        for v in sorted(wanted)
    ]
    name = Markup('<text class="x name" x="{}" y="{}">{}</text>').format(
        (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label
    )
    return Markup("").join([*ticks, name])


def _figure(
    title: str,
    note: str,
    steps: Sequence[float],
    series: Sequence[Series],
    parts: Sequence[Markup],
    log: bool,
    x_label: str,
) -> Markup:
    values = {
        "x": [float(f"{x:.6g}") for x in steps],
        "plot": [LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM],
        "xLabel": x_label,
        "series": [
            {
                "name": s.name,
                "colour": s.colour,
                "values": [None if not _drawable(v, log) else float(f"{v:.4g}") for v in s.values],
            }
            for s in series
        ],
    }
    ends = "; ".join(
        f"{s.name} from {first:.3g} to {last:.3g}" for s in series for first, last in [_ends(s.values, log)]
    )
    legend = Markup("")
    if len(series) > 1:
        button = Markup(
            '<button type="button" class="c{}" data-toggle="{}" aria-pressed="true"><i></i>{}</button>'
        )
        buttons = Markup("").join(button.format(s.colour, i, s.name) for i, s in enumerate(series))
        legend = Markup('<div class="legend" role="group" aria-label="Curves shown">{}</div>').format(buttons)
    return Markup(
        '<figure class="chart" data-chart="{}"><figcaption><b>{}</b><span>{}</span></figcaption>{}'
        '<div class="plot"><svg viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}: {}">{}'
        '<line class="cursor" y1="{}" y2="{}" visibility="hidden"/></svg><div class="readout" role="status" hidden></div></div></figure>'
    ).format(
        json.dumps(values, separators=(",", ":")), title, note, legend, WIDTH, HEIGHT, title, ends,
        Markup("").join(escape(part) for part in parts), TOP, HEIGHT - BOTTOM,
    )  # fmt: skip


def _ends(values: Sequence[float | None], log: bool) -> tuple[float, float]:
    present = [v for v in values if _drawable(v, log)]
    return present[0], present[-1]


def _r(value: float) -> float | int:
    rounded = round(float(value), 1)
    return int(rounded) if rounded == int(rounded) else rounded
