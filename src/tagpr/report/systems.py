"""The report's table of all compared systems (`compare/compare.json`): the paper's layout, then intervals and costs."""

from collections.abc import Mapping
from typing import Any

from tagpr.evaluation.paper_table import HEADS, paper_table, shown_name
from tagpr.evaluation.statistics import LOWER_IS_BETTER
from tagpr.report.summary import minutes


def systems_section(comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of a comparison; None where there is none."""
    if not comparison.get("tasks"):
        return None
    table = paper_table(comparison)
    heads = [f"{task} {HEADS[m]} {'↓' if m in LOWER_IS_BETTER else '↑'}" for task, m in table.columns]
    return {
        "heads": heads,
        "rows": [
            {
                "group": row.group,
                "name": row.name,
                "reasons": row.reasons,
                "published": row.published,
                "failure": row.failure,
                "cells": [{"text": cell.text, "rank": cell.rank} for cell in row.cells],
            }
            for row in table.rows
        ],
        "source": table.source,
        "impossible": any(cell.impossible for row in table.rows for cell in row.cells),
        "tasks": [_task(name, block, comparison["systems"]) for name, block in comparison["tasks"].items()],
    }


def _task(name: str, block: Mapping[str, Any], systems: list[dict[str, Any]]) -> dict[str, Any]:
    main, references = block["metric"], list(block["differences"])
    rows = []
    for about in systems:
        row = about["name"]
        if row not in block["systems"]:
            continue
        used = about["tasks"][name]["cost"]
        tokens = about["fit"]["trained_tokens"] + sum(
            cost[key] for cost in (about["fit"], used) for key in ("prompt_tokens", "completion_tokens")
        )
        rows.append(
            {
                "name": shown_name(row),
                "value": _interval(block["intervals"][row][main], False),
                "differences": [_interval(block["differences"][r].get(row, {}).get(main), True) for r in references],
                "parameters": f"{about['fit']['trained_parameters']:,}",
                "tokens": f"{tokens:,}",
                "time": minutes(about["fit"]["seconds"] + used["seconds"]),
                "notes": ", ".join(f"{count} {what}" for what, count in about["tasks"][name]["notes"].items()),
            }
        )
    return {
        "name": name,
        "n": block["n"],
        "main": main,
        "references": [shown_name(reference) for reference in references],
        "rows": rows,
    }


def _interval(value: Mapping[str, float] | None, signed: bool) -> str:
    if value is None:
        return ""
    form = "{:+.3f}" if signed else "{:.3f}"
    return f"{form.format(value['mean'])} ({form.format(value['low'])} to {form.format(value['high'])})"
