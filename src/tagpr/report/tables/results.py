"""A task's results as tables: the short one a command ends with, the page's, and the one with costs."""

from tagpr.evaluation.groups import Group
from tagpr.evaluation.results import CUT_OFF, OF_CHAINS, Results
from tagpr.report.tables.cells import (
    count,
    label,
    plain,
    plain_interval,
    readable,
    readable_bounds,
    readable_interval,
)
from tagpr.report.tables.names import shown_name
from tagpr.report.tables.table import Cell, Row, Table, texts

LEFT_OUT = ("f1_positive", "mse")
"""Metrics that say what another column says; the page has them."""


def short_table(results: Results, name: str, first: str = "system") -> Table:
    """One line per system: every metric, and the main one's difference to the first reference with its interval."""
    task = results.tasks[name]
    reference = next(iter(task.differences), None)
    metrics = [metric for metric in task.columns() if metric not in LEFT_OUT]
    rows = []
    for system, scores in task.systems.items():
        reasons = results.row(system).reasons
        shown = [plain(m, scores.points.get(m)) if reasons or m not in OF_CHAINS else "" for m in metrics]
        if reference is not None:
            shown.append(plain_interval(task.metric, task.difference(system, reference), signed=True))
        rows.append(Row(system, texts(*shown), system))
    title = f"{name} ({task.n} held-out examples of {task.users} users)"
    last = () if reference is None else (f"{task.metric} - {reference}, 95%",)
    heads = (metric.replace("_", " ") for metric in metrics)
    return Table(title, first, (*heads, *last), tuple(rows), cut_off(results, name))


def page_table(results: Results, name: str) -> Table:
    """The page's: each value with its interval, and with its difference to the first reference."""
    task = results.tasks[name]
    reference = next(iter(task.differences), "")
    metrics, rows = task.columns(), []
    for system, scores in task.systems.items():
        row = results.row(system)
        cells = []
        for metric in metrics:
            if metric in OF_CHAINS and not row.reasons:
                cells.append(Cell("–"))
                continue
            interval, change = scores.intervals.get(metric), task.difference(system, reference, metric)
            cells.append(
                Cell(
                    readable(metric, scores.points.get(metric)),
                    scores.points.get(metric),
                    bounds=readable_bounds(metric, interval) if interval else "",
                    change=readable_interval(metric, change, signed=True),
                    better=task.better(change, metric),
                )
            )
        rows.append(Row(label(system), tuple(cells), system, row.group))
    return Table(name, "System", tuple(label(metric) for metric in metrics), tuple(rows), cut_off(results, name))


def cut_off(results: Results, name: str) -> tuple[str, ...]:
    """Whose answers the limit of new tokens cut off; () if it cut none."""
    task = results.tasks[name]
    found = [f"{system} {n}" for system, scores in task.systems.items() if (n := scores.notes.get(CUT_OFF))]
    if not found:
        return ()
    said = f"Cut off at evaluate.max_new_tokens, so that their ends are missing, of {task.n} answers: "
    return (f"{said}{', '.join(found)}.",)


def pairs_table(results: Results, name: str, system: str) -> Table:
    """The main metric's differences of `system` to every reference but the first, and of guided RL to SFT."""
    task = results.tasks[name]
    pairs = [(system, reference) for reference in list(task.differences)[1:] if reference != system]
    pairs += [("guided", "sft")] if system != "guided" else []
    rows = []
    for a, b in pairs:
        change = task.difference(a, b)
        if change is not None:
            cell = Cell(readable_interval(task.metric, change, signed=True), better=task.better(change, task.metric))
            rows.append(Row(f"{label(a)} − {label(b)}", (cell,)))
    return Table(name, "Between", (f"Difference in {label(task.metric)}, 95% interval",), tuple(rows))


def cost_table(results: Results, name: str) -> Table:
    """The main metric with its interval, its differences to the references, and what each system used."""
    task = results.tasks[name]
    references = list(task.differences)
    header = [f"{task.metric}, 95%", *[f"− {shown_name(reference)}, 95%" for reference in references]]
    header += ["trained parameters", "tokens trained", "tokens read", "tokens written", "fit s", "answer s", "notes"]
    rows = []
    for row in results.systems:
        if row.name not in task.systems:
            continue
        scores, fit = task.systems[row.name], row.fit
        used = scores.cost
        shown = [plain_interval(task.metric, scores.intervals[task.metric])]
        shown += [plain_interval(task.metric, task.difference(row.name, reference), True) for reference in references]
        shown += [
            count(fit.trained_parameters),
            count(fit.trained_tokens),
            count(fit.prompt_tokens + used.prompt_tokens),
            count(fit.completion_tokens + used.completion_tokens),
            f"{fit.seconds:.0f}",
            f"{used.seconds:.0f}",
            ", ".join(f"{number} {what}" for what, number in scores.notes.items()),
        ]
        rows.append(Row(shown_name(row.name), texts(*shown), row.name, row.group))
    note = f"{task.n} held-out examples of {task.users} users; differences are paired and resampled over users."
    return Table(name, "Method", tuple(header), tuple(rows), (note,))


def best_trivial(results: Results, name: str) -> str | None:
    """The best system of a task that needs no model, in the main metric; None if there is none."""
    task = results.tasks[name]
    good = -1.0 if task.metric in task.lower_is_better else 1.0
    rows = [system for system in results.group(Group.TRIVIAL) if system in task.systems]
    return max(rows, key=lambda system: good * task.systems[system].points[task.metric], default=None)
