"""The paper's Table 1: every system and its column R, the two main metrics of each task.

The best value is bold and the second underlined, both among the systems that ran here (equal printed values share a
mark). If the paper prints metrics of a system for a task, a row marked "published" follows the system's own; a
published RMSE that cannot belong to its MAE has an exclamation mark.
"""

from tagpr.evaluation.published import impossible
from tagpr.evaluation.results import Results, SystemRow, TaskResults
from tagpr.report.tables.cells import plain
from tagpr.report.tables.names import metric_head, shown_name
from tagpr.report.tables.table import Cell, Row, Table

SHOWN_METRICS = 2  # per task


def paper_table(results: Results) -> Table:
    """The table of all tasks and systems."""
    named = [(name, metric) for name, task in results.tasks.items() for metric in task.metrics[:SHOWN_METRICS]]
    columns = [(results.tasks[name], metric) for name, metric in named]
    ranks = [_ranks(task, metric) for task, metric in columns]
    rows = []
    for row in results.systems:
        cells = [_ours(row, task, metric, rank) for (task, metric), rank in zip(columns, ranks, strict=True)]
        rows.append(Row(shown_name(row.name), tuple(cells), row.name, row.group, row.reasons, False, row.failure))
        printed = [_published(row.name, task, metric) for task, metric in columns]
        if any(cell.value is not None for cell in printed):
            name = f"{shown_name(row.name)}, published"
            rows.append(Row(name, tuple(printed), row.name, row.group, row.reasons, published=True))
    heads = tuple(metric_head(task, metric) for task, metric in columns)
    spans = tuple((name, len(task.metrics[:SHOWN_METRICS])) for name, task in results.tasks.items())
    keys = tuple(f"{name} {metric}" for name, metric in named)
    return Table("Every system", "Method", heads, tuple(rows), _notes(results, rows), spans, keys)


def _ours(row: SystemRow, task: TaskResults, metric: str, ranks: dict[str, int]) -> Cell:
    scores = task.systems.get(row.name)
    if scores is None:
        return Cell("" if row.failure else "–")
    value = scores.points.get(metric)
    return Cell(plain(metric, value), value, ranks.get(row.name, 0))


def _published(name: str, task: TaskResults, metric: str) -> Cell:
    printed = task.published.get(name, {})
    if metric not in printed:
        return Cell()
    mark = "!" if metric == "rmse" and impossible(printed) else ""
    return Cell(plain(metric, printed[metric]) + mark, printed[metric])


def _ranks(task: TaskResults, metric: str) -> dict[str, int]:
    """1 for the best printed value and 2 for the next, by system; equal printed values share a rank."""
    printed = {
        name: round(scores.points[metric], 3) for name, scores in task.systems.items() if metric in scores.points
    }
    order = sorted(set(printed.values()), reverse=metric not in task.lower_is_better)[:2]
    return {name: order.index(value) + 1 for name, value in printed.items() if value in order}


def _notes(results: Results, rows: list[Row]) -> tuple[str, ...]:
    notes = [f"{row.name} failed: {row.failure}" for row in rows if row.failure]
    if any(row.published for row in rows):
        notes.append(f"published: {results.published_source}; another backbone and other examples than ours")
    if any(cell.text.endswith("!") for row in rows for cell in row.cells):
        notes.append("!: cannot be right: of whole ratings RMSE² is at least MAE")
    if any(cell.text == "–" for row in rows for cell in row.cells):
        notes.append("–: does not answer this kind of task")
    return tuple(notes)
