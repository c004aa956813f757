"""The model card of an exported checkpoint: what it is, its data, its figures with intervals, its limits."""

import json
from importlib import resources

from jinja2 import Environment, StrictUndefined

from tagpr.evaluation.results import EVIDENCE_PRECISION, OF_CHAINS, Results
from tagpr.files import read_json
from tagpr.profiles.settings import Retriever
from tagpr.report.tables.cells import label, readable, readable_interval
from tagpr.report.tables.markdown import to_markdown
from tagpr.report.tables.table import Row, Table, texts
from tagpr.serve.served_run import ServedRun, SystemName


def model_card(served: ServedRun, system: SystemName, folder: str, version: str) -> str:
    """`README.md` of an export."""
    text = (resources.files("tagpr.serve.exported") / "README.md.jinja").read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    name, task = next(iter(served.tasks.items()))
    model = served.model or ""
    item = dict.fromkeys([*task.input_fields, task.output_name], "...")
    results = Results.read(served.folder.results) if served.folder.results.is_file() else None
    return environment.from_string(text).render(
        name=served.name,
        folder=folder,
        version=version,
        system=system,
        model=model,
        base=model if "/" in model and not model.startswith((".", "/")) else "",
        task=json.dumps(name),
        item=json.dumps(item),
        new_tokens=served.decoding.max_new_tokens,
        retriever=served.profile.retriever,
        k=served.profile.k,
        memory_tokens=served.profile.memory.max_tokens if served.profile.retriever is Retriever.MEMORY else 0,
        data=_data(served),
        results="" if results is None else "\n".join(_table(results, one) for one in results.tasks),
        claims=_claims(results, system),
    )


def _data(served: ServedRun) -> list[str]:
    """One line per task: where its data comes from and how much was used."""
    path = served.folder.stage("data") / "report.json"
    report = read_json(path) if path.is_file() else {}
    lines = []
    for name, task in served.tasks.items():
        counts = report.get(name, {})
        known = [f"{counts[key]:,} {word}" for key, word in _COUNTS.items() if isinstance(counts.get(key), int)]
        source = f" Source: {task.source}." if task.source else ""
        lines.append(f"**{name}** ({task.kind}): {task.description}. {', '.join(known)}.{source}")
    return lines


_COUNTS = {"users": "users", "train_used": "training examples", "heldout_used": "held-out questions"}


def _table(results: Results, name: str) -> str:
    """Every metric of every system of the run with its 95% interval, and the main one's difference to Base."""
    task = results.tasks[name]
    rows = []
    for system, scores in task.systems.items():
        shown = [
            readable_interval(metric, scores.intervals.get(metric)) or readable(metric, scores.points.get(metric))
            for metric in task.columns()
            if metric not in OF_CHAINS or results.row(system).reasons
        ]
        shown += [""] * (len(task.columns()) - len(shown))
        difference = readable_interval(task.metric, task.difference(system, "base"), signed=True)
        rows.append(Row(system, texts(*shown, difference), system))
    heads = [*(label(metric) for metric in task.columns()), f"{task.metric} minus Base"]
    table = Table(name, "system", tuple(heads), tuple(rows))
    return f"**{name}**: {task.n} questions of {task.users} users, 95% intervals over users.\n\n{to_markdown(table)}"


def _claims(results: Results | None, system: SystemName) -> str:
    """How many of the checkable claims are true, if that was measured."""
    shares = [
        f"{100 * value:.0f}% ({name})"
        for name, task in (results.tasks.items() if results else ())
        if system in task.systems and (value := task.systems[system].points.get(EVIDENCE_PRECISION)) is not None
    ]
    return (
        f"of the claims that a program can check, {', '.join(shares)} were true."
        if shares
        else "its claims were not checked."
    )
