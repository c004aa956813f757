"""`write_report`: one self-contained HTML file of a run. No network, no plotting library; user text is escaped data.

The page holds its own style and script (allowed by hash in a Content-Security-Policy that allows nothing else).
"""

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tagpr.files import write_text
from tagpr.report.analysis_figures import analysis_figures
from tagpr.report.cases import pack_cases
from tagpr.report.figures import Figure, chain_figures, funnel_figure, result_figures, save_figures, training_figures
from tagpr.report.reading import RunData, read_run
from tagpr.report.summary import costs, label, minutes, show, verdicts
from tagpr.report.systems import system_figures, systems_section
from tagpr.tasks.metrics import higher_is_better


def write_report(run: Path, out: Path) -> Path:
    """Write the report of run folder `run` to `out` (a folder: `index.html` and `figures/` in it; or an .html file).

    Returns the HTML file. Parts whose files the run does not have are left out. Raises RunError for no run folder.
    """
    data = read_run(run)
    page = out if out.suffix == ".html" else out / "index.html"
    figures = all_figures(data)
    save_figures(figures, page.parent / "figures")
    write_text(page, render(data, figures))
    return page


def all_figures(data: RunData) -> list[Figure]:
    """Every figure of the report."""
    funnel = funnel_figure(data)
    stage_0 = [funnel] if funnel else []
    return [
        *result_figures(data),
        *system_figures(data.comparison),
        *training_figures(data),
        *stage_0,
        *chain_figures(data),
        *analysis_figures(data),
    ]


def render(data: RunData, figures: list[Figure]) -> str:
    """The page as text."""
    system = next((name for name in ("final", "guided", "sft") if name in data.systems), "base")
    style, script = asset("page.css"), asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"label": label, "show": show, "minutes": minutes}
    environment.filters["json_data"] = json_data
    template = environment.from_string(asset("page.html.jinja"))
    stages = costs(data)
    return template.render(
        run=data,
        system=system,
        verdicts=verdicts(data),
        costs=stages,
        total_seconds=sum(seconds for _, seconds, _ in stages),
        peak=max((memory for _, _, memory in stages if memory), default=None),
        tables=[_table(name, block) for name, block in data.metrics.get("tasks", {}).items()],
        sections=_by_section(figures),
        systems=systems_section(data.comparison),
        diagnosis=_diagnosis(data.diagnosis) if data.diagnosis else None,
        versions=next((m["versions"] for m in data.manifests.values() if m.get("versions")), {}),
        cases=pack_cases(data, system),
        markup=Markup,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def json_data(value: Any) -> Markup:
    """JSON that is safe inside a <script> element: no `<`, `>`, `&` or line separator survives unescaped."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def asset(name: str) -> str:
    """The text of a file of this folder: template, style or script."""
    return resources.files("tagpr.report").joinpath(name).read_text(encoding="utf-8")


def _by_section(figures: list[Figure]) -> dict[str, list[Figure]]:
    found: dict[str, list[Figure]] = {"results": [], "systems": [], "training": [], "chains": [], "sweeps": []}
    for figure in figures:
        found.setdefault(figure.section, []).append(figure)
    return found


def _table(name: str, block: dict[str, Any]) -> dict[str, Any]:
    """Rows of one task's result table: systems with their metrics, intervals and differences; then the sanity rows."""
    systems = block.get("systems", {})
    metrics = list(dict.fromkeys(metric for values in systems.values() for metric in values))
    order = [m for m in metrics if m not in ("format_rate", "chain_tokens")] + [
        m for m in ("format_rate", "chain_tokens") if m in metrics
    ]
    rows = []
    for key, values in [*systems.items(), *block.get("sanity", {}).items()]:
        cells = []
        for metric in order:
            interval = block.get("intervals", {}).get(key, {}).get(metric)
            change = block.get("difference_to_base", {}).get(key, {}).get(metric)
            cells.append(
                {
                    "value": show(metric, values.get(metric)),
                    "interval": f"{show(metric, interval['low'])} to {show(metric, interval['high'])}"
                    if interval
                    else "",
                    "change": f"{show(metric, change['mean'], True)} "
                    f"[{show(metric, change['low'], True)}, {show(metric, change['high'], True)}]"
                    if change
                    else "",
                    "mark": mark(metric, change),
                }
            )
        rows.append({"system": key, "sanity": key not in systems, "cells": cells})
    pairs = []
    main = block.get("metric") or (order[0] if order else "")
    for pair, values in block.get("differences", {}).items():
        if main in values:
            change = values[main]
            a, _, b = pair.partition(" - ")
            pairs.append(
                {
                    "a": a,
                    "b": b,
                    "mean": show(main, change["mean"], True),
                    "low": show(main, change["low"], True),
                    "high": show(main, change["high"], True),
                    "mark": mark(main, change),
                }
            )
    return {"task": name, "n": block.get("n"), "metrics": order, "rows": rows, "pairs": pairs, "main": main}


def mark(metric: str, change: dict[str, float] | None) -> str:
    """better, worse, or nothing where the interval holds 0 (and for lengths, which are neither)."""
    if not change or metric == "chain_tokens" or change["low"] <= 0 <= change["high"]:
        return ""
    return "better" if (change["low"] > 0) == higher_is_better(metric) else "worse"


def _diagnosis(figures: dict[str, Any]) -> dict[str, Any]:
    """The reward model's diagnosis as words and rows (pairs, right, shuffled, generic)."""
    rows = []
    for split in ("seen", "unseen"):
        for kind, by_user in figures.get(split, {}).items():
            cells = []
            for who in ("right", "shuffled", "generic"):
                value = by_user.get(who)
                cells.append(f"{value['accuracy']:.1%} ({value['low']:.1%} to {value['high']:.1%})" if value else "–")
            n = by_user.get("right", {}).get("n", "")
            rows.append({"name": f"{kind}, {split} users", "n": n, "cells": cells})
    return {"words": str(figures.get("words", "")), "rows": rows}
