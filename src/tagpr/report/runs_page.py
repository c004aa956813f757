"""`write_comparison`: several runs side by side, one self-contained page. Same questions are compared pair by pair."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from tagpr.files import write_text
from tagpr.report.page import render_page
from tagpr.report.reading import RunData, read_run
from tagpr.report.summary import costs, minutes
from tagpr.report.svg import SERIES, interval_chart
from tagpr.report.tables.runs import RunOnTask, difference_to_first, runs_table
from tagpr.report.tables.table import Table


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Compare the last system of each run (final, else guided, else sft) with the first run's. Returns the HTML file.

    Differences carry intervals if both runs answered the same questions; otherwise only the values are shown.
    """
    data = [read_run(run) for run in runs]
    names = _names(data, runs)
    page = out if out.suffix == ".html" else out / "compare.html"
    tasks = dict.fromkeys(task for run in data if run.results for task in run.results.tasks)
    text = render_page(
        "runs.html.jinja",
        names=names,
        tables=[_task(task, names, data) for task in tasks],
        costs=[(name, minutes(sum(row[1] for row in costs(run)))) for name, run in zip(names, data, strict=True)],
    )
    write_text(page, text)
    return page


def _names(data: Sequence[RunData], runs: Sequence[Path]) -> list[str]:
    names = [run.name for run in data]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _task(name: str, names: Sequence[str], data: Sequence[RunData]) -> tuple[Table, Markup]:
    """The runs that have the task as a table, and their differences to the first of them as a chart."""
    found = [
        RunOnTask(run_name, run.results.tasks[name], run.predictions.get(name, {}))
        for run_name, run in zip(names, data, strict=True)
        if run.results and name in run.results.tasks
    ]
    card = next((run.tasks[name] for run in data if name in run.tasks), None)
    changes = [difference_to_first(card, run, found[0]) for run in found]
    points = [
        (run.name, change.mean, change.low, change.high, SERIES[names.index(run.name) % len(SERIES)])
        for run, change in zip(found, changes, strict=True)
        if change is not None
    ]
    title = f"{name}: {found[0].results.metric} against {found[0].name}"
    picture = interval_chart(title, points, width=520) if points else ""
    return runs_table(name, found, changes), Markup(picture)
