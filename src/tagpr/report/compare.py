"""`write_comparison`: several runs side by side, one self-contained page. Same questions are compared pair by pair."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tagpr.evaluation.scoring import score_task
from tagpr.files import write_text
from tagpr.report.page import asset, mark
from tagpr.report.reading import RunData, read_run
from tagpr.report.summary import costs, label, minutes, show
from tagpr.report.svg import SERIES, interval_chart


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Compare the last system of each run (final, else guided, else sft) with the first run's. Returns the HTML file.

    Differences carry intervals where both runs answered the same questions; otherwise only the values are shown.
    """
    data = [read_run(run) for run in runs]
    names = _names(data, runs)
    page = out if out.suffix == ".html" else out / "compare.html"
    style, script = asset("page.css"), asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"label": label, "show": show}
    tasks = list(dict.fromkeys(task for run in data for task in run.metrics.get("tasks", {})))
    text = environment.from_string(asset("compare.html.jinja")).render(
        names=names,
        tables=[_table(task, names, data) for task in tasks],
        costs=[(name, minutes(sum(row[1] for row in costs(run)))) for name, run in zip(names, data, strict=True)],
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(page, text)
    return page


def _names(data: Sequence[RunData], runs: Sequence[Path]) -> list[str]:
    names = [run.name for run in data]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _table(task: str, names: Sequence[str], data: Sequence[RunData]) -> dict[str, Any]:
    """Rows of one task: each run's Base and last system; with the difference to the first run's last system."""
    rows, points, first = [], [], None
    metric = next(run.metrics["tasks"][task]["metric"] for run in data if task in run.metrics.get("tasks", {}))
    for i, (name, run) in enumerate(zip(names, data, strict=True)):
        block = run.metrics.get("tasks", {}).get(task)
        if block is None:
            continue
        last = next((s for s in ("final", "guided", "sft", "base") if s in block["systems"]), None)
        answers = run.predictions.get(task, {}).get(last or "", [])
        difference = None
        if first is None:
            first = answers
        elif task in run.tasks and answers and [row.id for row in answers] == [row.id for row in first]:
            paired = score_task(run.tasks[task], {"base": first, "final": answers})
            difference = paired["difference_to_base"]["final"]
            change = difference[metric]
            points.append((name, change["mean"], change["low"], change["high"], SERIES[i % len(SERIES)]))
        values = block["systems"][last]
        rows.append(
            {
                "run": name,
                "system": last,
                "base": show(metric, block["systems"].get("base", {}).get(metric)),
                "cells": [(key, show(key, values.get(key))) for key in values],
                "change": _words(metric, difference[metric]) if difference else "",
                "mark": mark(metric, difference[metric]) if difference else "",
            }
        )
    picture = interval_chart(f"{task}: {metric} against {names[0]}", points, width=520) if points else ""
    columns = [key for key, _ in rows[0]["cells"]]
    return {"task": task, "metric": metric, "columns": columns, "rows": rows, "picture": Markup(picture)}


def _words(metric: str, change: dict[str, float]) -> str:
    mean, low, high = (show(metric, change[key], True) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
