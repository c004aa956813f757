"""Two drawings that are no charts: the tags' transition diagram and the word cloud (any script, no font file)."""

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from tagpr.report.svg import INK, MUTED, heading, svg, text

_FONTS = "system-ui,'Noto Sans','Noto Sans CJK SC','PingFang SC','Hiragino Sans','Malgun Gothic',sans-serif"


def transition_diagram(title: str, chains: Sequence[Sequence[str]], width: float = 700) -> str:
    """Which step follows which in `chains` (sequences of tags): nodes on a line in their usual order, arcs as thick as
    the move is frequent.

    Forward moves bow above the line, backward moves and repeats below. Moves in under 1% of the chains are left out.
    """
    moves = tag_moves(chains)
    total = sum(count for (start, _), count in moves.items() if start == "start")
    if not total:
        return svg(width, 60, title, "No chains.", text(4, 14, title, fill=INK))
    nodes = _in_order(chains)
    kept = {pair: count for pair, count in moves.items() if count >= 0.01 * total}
    nodes = [node for node in nodes if any(node in pair for pair in kept)]
    gap = (width - 110) / max(1, len(nodes) - 1)
    x = {node: 45 + i * gap for i, node in enumerate(nodes)}
    spans = [abs(nodes.index(b) - nodes.index(a)) for a, b in kept]
    rise = min(150.0, 16 + 0.42 * gap * max(spans, default=1))
    down = any(nodes.index(b) <= nodes.index(a) for a, b in kept)
    line = 30 + rise
    height = line + 96 + (30 if down else 0)
    body = [heading(title, width)]
    for (a, b), count in sorted(kept.items(), key=lambda pair: pair[1]):
        share = min(1.0, count / total)
        span = nodes.index(b) - nodes.index(a)
        if a == b:
            shape = f"M{x[a] - 5:.1f} {line + 5}c-17 29 27 29 10 0"
        else:
            bow = (-1.3 if span > 0 else 0.65) * min(rise, 12 + 0.42 * gap * abs(span))
            shape = f"M{x[a]:.1f} {line}Q{(x[a] + x[b]) / 2:.1f} {line + bow:.1f} {x[b]:.1f} {line}"
        body.append(
            f'<path d="{shape}" fill="none" stroke="var(--final,#047857)" stroke-width="{1 + 7 * share:.1f}" '
            f'stroke-opacity="{0.25 + 0.5 * share:.2f}">'
            f"<title>{escape(a)} to {escape(b)}: {count} ({share:.0%})</title></path>"
        )
    for node in nodes:
        body.append(
            f'<circle cx="{x[node]:.1f}" cy="{line}" r="6" fill="var(--page,#fff)" stroke="{INK}" stroke-width="1.6"/>'
            f'<text transform="translate({x[node] + 3:.1f} {line + 18}) rotate(28)" fill="{MUTED}" font-size="11">'
            f"{escape(node)}</text>"
        )
    top = sorted(kept.items(), key=lambda pair: (-pair[1], pair[0]))[:6]
    said = "; ".join(f"{a} to {b} {count}" for (a, b), count in top)
    return svg(width, height, title, f"Most frequent moves: {said}.", "".join(body))


def tag_moves(chains: Sequence[Sequence[str]]) -> Counter[tuple[str, str]]:
    """How often each step follows another, with `start` before the first and `answer` after the last."""
    moves: Counter[tuple[str, str]] = Counter()
    for tags in chains:
        moves.update(pairwise(("start", *tags, "answer")))
    return moves


def _in_order(chains: Sequence[Sequence[str]]) -> list[str]:
    """Nodes by their average place in a chain."""
    places: dict[str, list[float]] = {}
    for tags in chains:
        for i, tag in enumerate(tags):
            places.setdefault(tag, []).append((i + 1) / (len(tags) + 1))
    return ["start", *sorted(places, key=lambda tag: (sum(places[tag]) / len(places[tag]), tag)), "answer"]


def word_cloud(title: str, words: Sequence[tuple[str, int]], fill: str, width: float = 340, height: float = 220) -> str:
    """The commonest words, larger the commoner, placed on a spiral from the middle so that none overlap.

    Fonts are the reader's own (CJK families named), widths are estimated.
    """
    placed: list[tuple[float, float, float, float]] = []
    body = [heading(title, width)]
    top = words[0][1] if words else 1
    shown = []
    for word, count in words:
        size = 9 + 19 * math.sqrt(count / top)
        wide = sum(_em(c) for c in word) * size
        spot = _free_spot(placed, wide, size, width, height)
        if spot is None:
            continue
        x, y = spot
        placed.append((x, y, wide, size))
        shown.append(word)
        body.append(
            f'<text x="{x + wide / 2:.1f}" y="{y + 0.8 * size:.1f}" text-anchor="middle" font-size="{size:.1f}" '
            f'fill="{fill}" fill-opacity="{0.65 + 0.35 * count / top:.2f}" textLength="{wide:.1f}" '
            f'lengthAdjust="spacingAndGlyphs" font-family="{_FONTS}">{escape(word)}'
            f"<title>{escape(word)}: {count}</title></text>"
        )
    return svg(width, height, title, "Most frequent: " + ", ".join(shown[:12]) + ".", "".join(body))


def _em(character: str) -> float:
    """About how wide a character is, in em."""
    if ord(character) > 0x2E7F:
        return 1.0
    return 0.32 if character in "fijlrt" else 0.9 if character in "mw" else 0.6


def _free_spot(
    placed: Sequence[tuple[float, float, float, float]], wide: float, tall: float, width: float, height: float
) -> tuple[float, float] | None:
    """The first top-left corner on a spiral at which a box fits below the title and overlaps nothing, if any."""
    for step in range(600):
        angle, radius = 0.35 * step, 0.28 * step
        x = width / 2 - wide / 2 + 1.7 * radius * math.cos(angle)
        y = (height + 20) / 2 - tall / 2 + radius * math.sin(angle)
        if x < 2 or y < 22 or x + wide > width - 2 or y + tall > height - 2:
            continue
        if all(x + wide < a or a + w < x or y + tall < b or b + h < y for a, b, w, h in placed):
            return x, y
    return None
