"""Small SVG charts, drawn by hand: lines, bars, intervals. No plotting library, so the report opens and builds fast.

Colours are CSS variables with a fallback, so a chart follows the page's light or dark theme and also works alone.
Every chart carries a title and a description for screen readers; its numbers are in the table the caller writes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = {
    "base": "var(--base,#6b7280)",
    "sft": "var(--sft,#2563eb)",
    "guided": "var(--guided,#7c3aed)",
    "final": "var(--final,#047857)",
    "final-other-history": "var(--other,#b45309)",
}
SERIES = tuple(f"var(--series{i},{fallback})" for i, fallback in enumerate(
    ("#2563eb", "#047857", "#b45309", "#7c3aed", "#be123c", "#0e7490", "#4d7c0f", "#6b7280")
))  # fmt: skip
INK = "var(--ink,#1f2937)"
MUTED = "var(--muted,#57606a)"
RULE = "var(--rule,#d0d7de)"


def colour(name: str, index: int = 0) -> str:
    """The colour of a system, or of the `index`-th series of anything else."""
    return COLOURS.get(name, SERIES[index % len(SERIES)])


def svg(width: float, height: float, title: str, description: str, body: str) -> str:
    """Wrap `body` into one accessible, scalable picture."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title, quote=True)}. {escape(description, quote=True)}" '
        f"font-family=\"system-ui,-apple-system,'Segoe UI','Noto Sans',sans-serif\" font-size=\"11\">"
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def text(x: float, y: float, content: str, anchor: str = "start", fill: str = MUTED, extra: str = "") -> str:
    """A `<text>` element; `content` is escaped, `extra` (more attributes) is not."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{extra}>{escape(content)}</text>'


def heading(title: str, width: float) -> str:
    """A chart's title, set smaller if it would not fit."""
    size = min(12.0, (width - 10) / (0.58 * max(1, len(title))))
    return text(4, 14, title, fill=INK, extra=f' font-weight="600" font-size="{size:.1f}"')


def _legend(names: Sequence[tuple[str, str]], left: float, width: float) -> tuple[list[str], float]:
    """(pieces, height) of a legend below the heading: (name, colour) pairs, on as many rows as they need."""
    pieces, x, y = [], left, 0.0
    for name, fill in names:
        wide = 26 + 6.2 * len(name)
        if x > left and x + wide > width:
            x, y = left, y + 15
        pieces.append(f'<rect x="{x:.0f}" y="{22 + y:.0f}" width="10" height="10" rx="2" fill="{fill}"/>')
        pieces.append(text(x + 14, 31 + y, name))
        x += wide
    return pieces, y + 18


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from below `low` to above `high`, about `count` steps."""
    if not math.isfinite(low + high):
        raise ValueError(f"axis bounds must be finite, got {low} and {high}")
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A short label of an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred moving average."""
    half = window // 2
    return [
        sum(values[max(0, i - half) : i + half + 1]) / len(values[max(0, i - half) : i + half + 1])
        for i in range(len(values))
    ]


@dataclass(frozen=True)
class Line:
    """One series of a line chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    stroke: str
    low: Sequence[float] = ()  # optional band
    high: Sequence[float] = ()


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    smooth: bool = False,
    width: float = 340,
    height: float = 190,
    zero: bool = False,
    categories: Sequence[str] = (),
) -> str:
    """Lines over a common axis. `smooth`: also draw a moving average and fade the raw line. `zero`: include 0.

    categories: names of x = 0, 1, ... instead of numbers.
    """
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return svg(width, height, title, "No data.", text(width / 2, height / 2, "no data", "middle"))
    everything = [y for line in lines for y in (*line.y, *line.low, *line.high)]
    ticks = nice_ticks(min(*everything, 0.0) if zero else min(everything), max(everything))
    x_low, x_high = min(min(line.x) for line in lines), max(max(line.x) for line in lines)
    left, right, bottom = 44, 12, 34
    drawn, legend = _legend([(line.name, line.stroke) for line in lines], left, width) if len(lines) > 1 else ([], 0.0)
    top, height = 26 + legend, height + max(0.0, legend - 18)

    def px(x: float) -> float:
        if x_high == x_low:
            return (left + width - right) / 2
        pad = 16 if categories else 0
        return left + pad + (x - x_low) / (x_high - x_low) * (width - left - right - 2 * pad)

    def py(y: float) -> float:
        return height - bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (height - top - bottom)

    body = [heading(title, width), *drawn]
    for tick in ticks:
        body.append(f'<path d="M{left} {py(tick):.1f}H{width - right}" stroke="{RULE}" stroke-width=".7"/>')
        body.append(text(left - 5, py(tick) + 4, number(tick), "end"))
    if categories:
        for i, name in enumerate(categories):
            body.append(text(px(i), height - bottom + 15, name, "middle"))
    else:
        for tick in nice_ticks(x_low, x_high, 4):
            if x_low - 1e-9 <= tick <= x_high + 1e-9:
                body.append(text(px(tick), height - bottom + 15, number(tick), "middle"))
    body.append(text((left + width - right) / 2, height - 5, x_label, "middle"))
    described = []
    for line in lines:
        if line.low:
            upper = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
            lower = [f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, line.low, strict=True)]
            body.append(f'<path d="M{"L".join(upper + lower[::-1])}Z" fill="{line.stroke}" fill-opacity=".13"/>')
        body += _marks(line, px, py, fade=smooth and len(line.y) > 8)
        described.append(f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}")
    return svg(width, height, title, "; ".join(described) + ".", "".join(body))


def _marks(line: Line, px: Callable[[float], float], py: Callable[[float], float], fade: bool) -> list[str]:
    """A line, with its points if they are few, or (`fade`) faded under its moving average."""

    def path(values: Sequence[float]) -> str:
        return "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in zip(line.x, values, strict=True))

    drawn = [
        f'<path d="M{path(line.y)}" fill="none" stroke="{line.stroke}" stroke-width="{1 if fade else 2}" '
        f'stroke-opacity="{0.35 if fade else 1}" stroke-linejoin="round"/>'
    ]
    if fade:
        averaged = _smooth(line.y, max(5, len(line.y) // 10) | 1)
        drawn.append(f'<path d="M{path(averaged)}" fill="none" stroke="{line.stroke}" stroke-width="2"/>')
    elif len(line.y) <= 12:
        drawn += [
            f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2.6" fill="{line.stroke}"/>'
            for x, y in zip(line.x, line.y, strict=True)
        ]
    return drawn


def bar_chart(
    title: str, groups: Mapping[str, Mapping[str, float]], unit: str = "", width: float = 340, percent: bool = False
) -> str:
    """Horizontal bars: group -> series -> value, each with its number beside it."""
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    high = max((value for series in groups.values() for value in series.values()), default=0.0) or 1.0
    longest = max((len(group) for group in groups), default=0)
    left = min(0.42 * width, 12 + 6.3 * longest)
    keys = [(name, colour(name, i)) for i, name in enumerate(names)]
    drawn, legend = _legend(keys, 4.0, width) if len(names) > 1 else ([], 0.0)
    thickness, y = 13, 26.0 + legend
    body = [heading(title, width), *drawn]
    room = width - left - 58
    for group, series in groups.items():
        middle = y + len(series) * thickness / 2 + 4
        body.append(text(left - 6, middle, group, "end", INK))
        for i, name in enumerate(names):
            if name not in series:
                continue
            value = series[name]
            label = f"{100 * value:.1f}%" if percent else f"{round(value, 3 if abs(value) < 10 else 1):,.10g}{unit}"
            body.append(
                f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(0.5, value / high * room):.1f}" '
                f'height="{thickness - 2}" rx="2" fill="{colour(name, i)}"/>'
            )
            body.append(text(left + max(0.5, value / high * room) + 4, y + thickness - 3, label))
            y += thickness
        y += 7
    summary = "; ".join(
        f"{group}: " + ", ".join(f"{name} {number(round(value, 3))}" for name, value in series.items())
        for group, series in groups.items()
    )
    return svg(width, y + 4, title, summary + ".", "".join(body))


def interval_chart(
    title: str,
    rows: Sequence[tuple[str, float, float, float, str]],
    unit: str = "",
    width: float = 340,
    signed: bool = True,
) -> str:
    """Points with intervals and a zero line: rows of (name, mean, low, high, colour). `signed`: of differences."""
    if not rows:
        return svg(width, 40, title, "No data.", text(4, 14, title))
    ticks = nice_ticks(min(0.0, *(row[2] for row in rows)), max(0.0, *(row[3] for row in rows)))
    left = min(0.45 * width, 14 + 6.2 * max(len(row[0]) for row in rows))
    right, top, step = 14, 28, 24
    height = top + step * len(rows) + 22

    def px(x: float) -> float:
        return left + (x - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - right)

    sign = "+" if signed else ""
    body = [heading(title, width)]
    for tick in ticks:
        stroke = INK if tick == 0 else RULE
        body.append(f'<path d="M{px(tick):.1f} {top - 4}V{height - 20}" stroke="{stroke}" stroke-width=".8"/>')
        body.append(text(px(tick), height - 7, f"{tick:{sign}g}{unit}" if tick else "0", "middle"))
    for i, (name, mean, low, high, stroke) in enumerate(rows):
        y = top + step * i + step / 2
        body.append(text(left - 8, y + 4, name, "end", INK))
        body.append(f'<path d="M{px(low):.1f} {y}H{px(high):.1f}" stroke="{stroke}" stroke-width="3"/>')
        body.append(
            f'<path d="M{px(low):.1f} {y - 5}v10M{px(high):.1f} {y - 5}v10" stroke="{stroke}" stroke-width="2"/>'
        )
        body.append(f'<circle cx="{px(mean):.1f}" cy="{y}" r="4.5" fill="{stroke}"/>')
    summary = "; ".join(f"{n}: {m:{sign}.3g} ({lo:{sign}.3g} to {hi:{sign}.3g})" for n, m, lo, hi, _ in rows)
    return svg(width, height, title, summary + ".", "".join(body))
