"""The report on all compared systems (`compare/compare.json`): pictures, the table, intervals and costs."""

from collections.abc import Mapping
from typing import Any

from tagpr.report.figures import Figure
from tagpr.report.summary import minutes
from tagpr.report.svg import colour, interval_chart
from tagpr.report.tables.paper import metric_head, paper_table, shown_name

REFERENCES = ("tagpr", "rag-r")
"""What a picture shows differences to: the first of these that ran."""


def systems_section(comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page shows of a comparison; None where there is none."""
    if not comparison.get("tasks"):
        return None
    table = paper_table(comparison)
    heads = [f"{task} {metric_head(metric)}" for task, metric in table.columns]
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
        "uncovered": any(cell.uncovered for row in table.rows for cell in row.cells),
        "tasks": [_task(name, block, comparison["systems"]) for name, block in comparison["tasks"].items()],
    }


def system_figures(comparison: Mapping[str, Any]) -> list[Figure]:
    """A task's two pictures: every system's main metric, and its paired difference to TagPR (to Base without one)."""
    found = []
    for task, block in comparison.get("tasks", {}).items():
        metric = block["metric"]
        groups = {about["name"]: about["group"] for about in comparison["systems"] if about["name"] in block["systems"]}
        strokes = {
            name: colour("", list(dict.fromkeys(groups.values())).index(group)) for name, group in groups.items()
        }
        values = {name: block["intervals"][name][metric] for name in groups}
        found.append(
            _intervals(
                f"systems-{task}", f"{task}: {metric_head(metric)}, 95% intervals", metric, values, strokes, False
            )
        )
        reference = next((name for name in REFERENCES if name in block["differences"] and name in groups), None)
        if reference:
            title = f"{task}: {metric_head(metric)}, difference to {shown_name(reference)}"
            differences = {name: row[metric] for name, row in block["differences"][reference].items() if name in groups}
            found.append(_intervals(f"systems-{task}-difference", title, "difference", differences, strokes, True))
    return found


def _intervals(
    name: str,
    title: str,
    what: str,
    values: Mapping[str, Mapping[str, float]],
    strokes: Mapping[str, str],
    signed: bool,
) -> Figure:
    rows = tuple((shown_name(system), v["mean"], v["low"], v["high"]) for system, v in values.items())
    points = [(*row, strokes[system]) for row, system in zip(rows, values, strict=True)]
    picture = interval_chart(title, points, width=420, signed=signed)
    return Figure(name, "systems", title, picture, ("system", what, "low", "high"), rows)


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
