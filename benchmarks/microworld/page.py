"""`docs/method.md` and `docs/method.svg`: the parts of the page that are figures are written from the figures."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from microworld.summary import markdown, verdict
from tagpr.files import write_text
from tagpr.report.svg import colour, interval_chart

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- from method.json -->", "<!-- end of method.json -->"
WORLDS = ("serial", "counting", "one-step")
HEADLINES = (("chain", "label"), ("chain+RL", "label"))


def write_page(figures: Mapping[str, Any], docs: Path = DOCS) -> None:
    """Put the figures' tables between the page's marks and draw the chart anew."""
    page = docs / "method.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    write_text(page, f"{before}{BEGIN}\n{tables(figures)}\n{END}{after}")
    write_text(docs / "method.svg", chart(figures) + "\n")


def tables(figures: Mapping[str, Any]) -> str:
    """The verdicts in one table, then a table per world, then what RL's first rollouts found."""
    table = figures["table"]
    worlds = [world for world in WORLDS if world in table]
    sizes = sorted({size for world in worlds for size in table[world]}, key=int)
    lines = [f"{figures['cells']} cells, {figures['cpu_seconds'] / 3600:.1f} CPU hours on one thread."]
    told = [f"{world} {rows['label']:.0f} and {rows['chain']:.0f}" for world, rows in figures["row_tokens"].items()]
    if told:
        lines += ["", f"Tokens per row of label and of chain SFT, prompt and completion: {', '.join(told)}."]
    lines += ["", "Ahead, behind: the interval over seeds does not hold 0; level: it does; seeds in brackets.", ""]
    lines += ["| world | " + " | ".join(f"{size} labels" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for world, (ours, rival) in product(worlds, HEADLINES):
        found = [table[world].get(size, {}).get("differences", {}).get(f"{ours} - {rival}") for size in sizes]
        told = ["" if one is None else f"{verdict(one)}, {one['mean']:+.3f} ({one['seeds']})" for one in found]
        lines.append(f"| {world}: {ours} minus {rival} | " + " | ".join(told) + " |")
    for world in worlds:
        lines += ["", f"**{world}**", "", markdown(table[world])]
    lines += [
        "",
        "**RL's first rollout**: sampled answers that are right; groups whose answers differ in being right",
        "",
    ]
    lines += [
        "| world, SFT | " + " | ".join(f"{size} labels" for size in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for world in worlds:
        for start in ("label", "chain", "mixed"):
            firsts = [table[world].get(size, {}).get("rl_start", {}).get(start) for size in sizes]
            told = ["" if one is None else f"{one['right']:.2f}; {one['groups']:.2f}" for one in firsts]
            lines.append(f"| {world}, {start} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def chart(figures: Mapping[str, Any]) -> str:
    """The sceptic's difference in every world and size, with its interval over seeds."""
    ours, rival = HEADLINES[0]
    rows = []
    for index, world in enumerate(WORLDS):
        for size, place in sorted(figures["table"].get(world, {}).items(), key=lambda item: int(item[0])):
            found = place["differences"].get(f"{ours} - {rival}")
            if found is not None and "low" in found:
                bounds = (found["mean"], found["low"], found["high"])
                rows.append((f"{world}, {size} labels", *bounds, colour(world, index)))
    return interval_chart(f"Accuracy, {ours} minus {rival} SFT: 95% intervals over seeds", rows, width=480)
