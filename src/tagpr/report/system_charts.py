"""Charts of all compared systems (`compare/results.json`): the main metric of each, and its difference to TagPR."""

from collections.abc import Mapping

from tagpr.evaluation.results import Results
from tagpr.report.charts import Chart
from tagpr.report.svg import colour, interval_chart
from tagpr.report.tables.names import metric_head, shown_name
from tagpr.statistics import Interval

REFERENCES = ("tagpr", "rag-r")
"""What a chart shows differences to: the first of these that ran."""


def system_charts(comparison: Results) -> list[Chart]:
    """Two charts per task: every system's main metric, and its paired difference to TagPR (to Base without one)."""
    found = []
    for name, task in comparison.tasks.items():
        groups = {row.name: row.group for row in comparison.systems if row.name in task.systems}
        used = list(dict.fromkeys(groups.values()))
        strokes = {system: colour("", used.index(group)) for system, group in groups.items()}
        head = metric_head(task, task.metric)
        values = {system: task.systems[system].intervals[task.metric] for system in groups}
        title = f"{name}: {head}, 95% intervals"
        found.append(_intervals(f"systems-{name}", title, task.metric, values, strokes, False))
        reference = next(
            (
                row.name
                for spec in REFERENCES
                for row in comparison.systems
                if row.system == spec and row.name in groups
            ),
            None,
        )
        if reference is not None:
            changes = {s: change for s in groups if (change := task.difference(s, reference)) is not None}
            title = f"{name}: {head}, difference to {shown_name(reference)}"
            found.append(_intervals(f"systems-{name}-difference", title, "difference", changes, strokes, True))
    return found


def _intervals(
    name: str, title: str, what: str, values: Mapping[str, Interval], strokes: Mapping[str, str], signed: bool
) -> Chart:
    rows = tuple((shown_name(system), v.mean, v.low, v.high) for system, v in values.items())
    points = [(*row, strokes[system]) for row, system in zip(rows, values, strict=True)]
    picture = interval_chart(title, points, width=420, signed=signed)
    return Chart(name, "systems", title, picture, ("system", what, "low", "high"), rows)
