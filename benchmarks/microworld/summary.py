"""From cells to the sceptic's table: means over seeds, and TagPR minus label SFT, paired by seed, with t intervals."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

RIVAL = "label"
TAGPR = ("chain+RL", "mixed+RL")
LEVEL = 0.95


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with its Student's t interval; no interval for one seed, none wider than a point if all agree."""
    mean = statistics.fmean(values)
    found: dict[str, Any] = {"mean": round(mean, 4), "seeds": len(values), "values": [round(v, 4) for v in values]}
    if len(values) > 1:
        error = statistics.stdev(values) / len(values) ** 0.5
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
        found |= {"low": round(mean - half, 4), "high": round(mean + half, 4)}
    return found


def summarise(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By world and number of labels: every row's accuracy, TagPR's rows minus label SFT (and minus label SFT with RL).

    Seeds that lack one side of a difference are left out of it; `seeds` says how many went in.
    """
    accuracy: dict[tuple[str, int, str], dict[int, float]] = {}
    for cell in cells:
        for key, suffix in (("without_rl", ""), ("with_rl", "+RL")):
            where = cell["world"], cell["labels"]
            accuracy.setdefault((*where, cell["start"] + suffix), {})[cell["seed"]] = cell[key]["accuracy"]
            if "accuracy_without_chain" in cell[key]:
                row = f"{cell['start']}{suffix}, no chain"
                accuracy.setdefault((*where, row), {})[cell["seed"]] = cell[key]["accuracy_without_chain"]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for (world, labels, row), by_seed in sorted(accuracy.items()):
        place = table.setdefault(world, {}).setdefault(str(labels), {"accuracy": {}, "differences": {}})
        place["accuracy"][row] = interval([by_seed[seed] for seed in sorted(by_seed)])
    for (world, labels, row), by_seed in sorted(accuracy.items()):
        for rival in (RIVAL, f"{RIVAL}+RL"):
            other = accuracy.get((world, labels, rival), {})
            both = sorted(by_seed.keys() & other.keys())
            if row in TAGPR and both:
                differences = table[world][str(labels)]["differences"]
                differences[f"{row} - {rival}"] = interval([by_seed[seed] - other[seed] for seed in both])
    return {
        "table": table,
        "cells": len(cells),
        "kept_steps": {
            f"{c['world']}-{c['labels']}-{c['start']}-{c['seed']}": [c["sft_kept_step"], c["rl_kept_step"]]
            for c in cells
        },
        "cpu_seconds": round(sum(c["cpu_seconds"]["all"] for c in cells)),
    }


def markdown(table: Mapping[str, Any]) -> str:
    """One table per world: rows by numbers of labels, each `mean [interval] (seeds)`; differences below."""
    lines = []
    for world, by_labels in table.items():
        sizes = sorted(by_labels, key=int)
        lines += [f"\n{world}\n", "| | " + " | ".join(f"{size} labels" for size in sizes) + " |"]
        lines.append("|---" * (len(sizes) + 1) + "|")
        for part, sign in (("accuracy", ""), ("differences", "+")):
            rows = sorted({row for size in sizes for row in by_labels[size][part]})
            for row in rows:
                cells = [_cell(by_labels[size][part].get(row), sign) for size in sizes]
                lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(found: Mapping[str, Any] | None, sign: str) -> str:
    if found is None:
        return ""
    between = f" [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]" if "low" in found else ""
    return f"{found['mean']:{sign}.3f}{between} ({found['seeds']})"
