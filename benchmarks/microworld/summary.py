"""From cells to the sceptic's table: means over seeds and differences paired by seed, with t intervals."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy import stats

ROWS = ("label", "label+RL", "chain", "chain+RL", "mixed", "mixed+RL")
"""The rows of the table; others (the bare answer of mixed SFT, chains with other tags) stand below them."""
PAIRS = (
    ("chain+RL", "label"),
    ("chain+RL", "label+RL"),
    ("chain", "label"),
    ("mixed+RL", "label"),
    ("label+RL", "label"),
    ("chain+RL", "chain"),
    ("mixed+RL", "mixed"),
    ("few+RL", "few"),
    ("chain+RL", "label-long"),
    ("chain", "shuffled"),
    ("chain", "untagged"),
    ("chain", "first-form"),
    ("label-long", "label"),
)
"""Differences that the table tells, the sceptic's own first."""
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
    """By world and number of labels: every row's accuracy, the differences of `PAIRS`, what RL's first rollout found.

    Seeds that lack one side of a difference are left out of it; `seeds` says how many went in.
    """
    found: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    starts: dict[tuple[str, int], dict[str, list[Mapping[str, float]]]] = {}
    for cell in cells:
        where, seed = (cell["world"], cell["labels"]), cell["seed"]
        for key, suffix in (("without_rl", ""), ("with_rl", "+RL")):
            for name, value in cell.get(key, {}).items():
                row = cell["start"] + suffix + (", no chain" if name == "accuracy_without_chain" else "")
                found.setdefault(where, {}).setdefault(row, {})[seed] = value
        if "rl_start" in cell:
            starts.setdefault(where, {}).setdefault(cell["start"], []).append(cell["rl_start"])
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for where, rows in sorted(found.items()):
        place = table.setdefault(where[0], {}).setdefault(str(where[1]), {})
        place["accuracy"] = {row: interval([rows[row][seed] for seed in sorted(rows[row])]) for row in _ordered(rows)}
        place["differences"] = {
            f"{ours} - {theirs}": interval([rows[ours][seed] - rows[theirs][seed] for seed in both])
            for ours, theirs in PAIRS
            if (both := sorted(rows.get(ours, {}).keys() & rows.get(theirs, {}).keys()))
        }
        place["rl_start"] = {
            start: {name: round(statistics.fmean(row[name] for row in first), 3) for name in first[0]}
            for start, first in sorted(starts.get(where, {}).items())
        }
    return {
        "table": table,
        "cells": len(cells),
        "kept_steps": {
            f"{c['world']}-{c['labels']}-{c['start']}-{c['seed']}": [c["sft_kept_step"], c.get("rl_kept_step")]
            for c in cells
        },
        "cpu_seconds": round(sum(c["cpu_seconds"] + c.get("rl_cpu_seconds", 0) for c in cells)),
    }


def verdict(difference: Mapping[str, Any]) -> str:
    """ahead, behind or level, by whether the interval over seeds holds 0; of one seed nothing is said."""
    if "low" not in difference:
        return "one seed"
    return "ahead" if difference["low"] > 0 else "behind" if difference["high"] < 0 else "level"


def _ordered(rows: Iterable[str]) -> list[str]:
    """`ROWS` first, in their order."""
    return sorted(rows, key=lambda row: (ROWS.index(row) if row in ROWS else len(ROWS), row))


def markdown(by_labels: Mapping[str, Any]) -> str:
    """A world's table: rows by numbers of labels, each `mean [interval] (seeds)`; differences below, with verdicts."""
    sizes = sorted(by_labels, key=int)
    lines = ["| | " + " | ".join(f"{size} labels" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for row in _ordered({row for size in sizes for row in by_labels[size]["accuracy"]}):
        told = [_cell(by_labels[size]["accuracy"].get(row)) for size in sizes]
        lines.append(f"| {row} | " + " | ".join(told) + " |")
    for row in [f"{ours} - {theirs}" for ours, theirs in PAIRS]:
        told = [_cell(by_labels[size]["differences"].get(row), "+") for size in sizes]
        if any(told):
            lines.append(f"| {row.replace(' - ', ' minus ')} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def _cell(found: Mapping[str, Any] | None, sign: str = "") -> str:
    if found is None:
        return ""
    between = f" [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]" if "low" in found else ""
    said = f" {verdict(found)}" if sign and "low" in found else ""
    return f"{found['mean']:{sign}.3f}{between}{said} ({found['seeds']})"
