"""`write_report`: one self-contained HTML file of a run. No network, no plotting library; user text is escaped data.

The page holds its own style and script (allowed by hash in a Content-Security-Policy that allows nothing else).
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tagpr.files import write_text
from tagpr.report.analysis_charts import analysis_charts
from tagpr.report.cases import pack_cases
from tagpr.report.chain_lengths import chain_charts
from tagpr.report.charts import Chart, funnel_chart, result_charts, save_charts, training_charts
from tagpr.report.reading import RunData, read_run
from tagpr.report.samples import Samples, read_samples
from tagpr.report.summary import costs, minutes, verdicts
from tagpr.report.system_charts import system_charts
from tagpr.report.tables.cells import label
from tagpr.report.tables.diagnosis import diagnosis_table
from tagpr.report.tables.paper import paper_table
from tagpr.report.tables.results import cost_table, page_table, pairs_table
from tagpr.report.word_clouds import word_clouds

SECTIONS = ("results", "systems", "training", "chains", "sweeps")


def write_report(run: Path, out: Path) -> Path:
    """Write the report of run folder `run` to `out` (a folder: `index.html` and `charts/` in it; or an .html file).

    Returns the HTML file. Parts whose files the run does not have are left out. Raises RunError for no run folder.
    """
    data = read_run(run)
    page = out if out.suffix == ".html" else out / "index.html"
    charts = all_charts(data)
    save_charts(charts, page.parent / "charts")
    write_text(page, render(data, charts, read_samples(run)))
    return page


def all_charts(data: RunData) -> list[Chart]:
    """Every chart of the report."""
    funnel = funnel_chart(data)
    return [
        *result_charts(data),
        *(system_charts(data.comparison) if data.comparison else []),
        *training_charts(data),
        *([funnel] if funnel else []),
        *chain_charts(data),
        *word_clouds(data),
        *analysis_charts(data.analyses),
    ]


def render(data: RunData, charts: Sequence[Chart], samples: Sequence[Samples] = ()) -> str:
    """The page as text."""
    system = next((name for name in ("final", "guided", "sft") if name in data.systems), "base")
    results, comparison = data.results, data.comparison
    stages = costs(data)
    return render_page(
        "page.html.jinja",
        run=data,
        system=system,
        verdicts=verdicts(data),
        costs=stages,
        total_seconds=sum(seconds for _, seconds, _ in stages),
        peak=max((memory for _, _, memory in stages if memory), default=None),
        tables=[
            (task.n, page_table(results, name), pairs_table(results, name, system))
            for name, task in results.tasks.items()
        ]
        if results
        else [],
        sections={section: [chart for chart in charts if chart.section == section] for section in SECTIONS},
        systems=paper_table(comparison) if comparison and comparison.tasks else None,
        systems_costs=[cost_table(comparison, name) for name in comparison.tasks] if comparison else [],
        diagnosis=diagnosis_table(data.diagnosis) if data.diagnosis else None,
        diagnosis_words=str(data.diagnosis.get("words", "")),
        samples=samples,
        versions=next((m["versions"] for m in data.manifests.values() if m.get("versions")), {}),
        cases=pack_cases(data, system),
    )


def render_page(template: str, **values: object) -> str:
    """A template of this folder with the pages' style and script, and a policy that allows nothing else."""
    style, script = asset("page.css"), asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"label": label, "minutes": minutes, "markup": Markup}
    environment.filters["json_data"] = json_data
    tables = environment.from_string(asset("tables.html.jinja"))
    return environment.from_string(asset(template)).render(
        tables_of=tables.module,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def json_data(value: object) -> Markup:
    """JSON that is safe inside a <script> element: no `<`, `>`, `&` or line separator survives unescaped."""
    text = json.dumps(value, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def asset(name: str) -> str:
    """The text of a file of this folder: template, style or script."""
    return resources.files("tagpr.report").joinpath(name).read_text(encoding="utf-8")
