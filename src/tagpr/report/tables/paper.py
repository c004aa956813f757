"""The comparison as a table in the paper's layout, in Markdown, LaTeX and CSV; what it holds is `comparison`'s.

One row a system with its column R, two columns a task, the best value bold and the second underlined, both among the
systems that ran here (equal printed values share a mark). Where the paper prints figures for a task, a row marked
"published" follows the system's own; a published RMSE that cannot belong to its MAE carries an exclamation mark.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tagpr.tasks.metrics import higher_is_better

HEADS = {"accuracy": "ACC", "f1": "F1", "mae": "MAE", "rmse": "RMSE", "rouge1": "R-1", "rougeL": "R-L"}
NAMES = {
    "zero-shot": "Zero-shot",
    "zero-shot-r": "Zero-shot-R",
    "rag": "RAG",
    "rag-r": "RAG-R (Base)",
    "pag": "PAG",
    "pag-r": "PAG-R",
    "sft": "SFT",
    "sft-r": "SFT-R",
    "sft-ind": "SFT-Ind",
    "sft-ind-r": "SFT-Ind-R",
    "pplug": "PPlug",
    "hydra-adapter": "HYDRA-Adapter",
    "r2p": "R2P",
    "prlm": "PrLM",
    "w/o-rl": "TagPR w/o RL",
    "w/o-sft": "TagPR w/o SFT",
    "w/o-tag": "TagPR w/o Tag",
    "w/o-reward": "TagPR w/o Reward",
    "w/o-exploratory": "TagPR w/o Exploratory",
    "tagpr": "TagPR",
}
"""Row names as the paper prints them."""


@dataclass(frozen=True)
class Cell:
    """One figure."""

    value: float | None
    rank: int = 0  # 1 best, 2 second, 0 neither
    impossible: bool = False
    uncovered: bool = False  # the system does not answer this kind of task

    @property
    def text(self) -> str:
        if self.value is None:
            return "–" if self.uncovered else ""
        return f"{self.value:.3f}{'!' if self.impossible else ''}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    group: str
    name: str
    reasons: bool
    cells: tuple[Cell, ...]
    published: bool = False
    failure: str = ""


@dataclass(frozen=True)
class PaperTable:
    """Columns (task, metric) and rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    source: str  # of the published rows; "" where there are none


def shown_name(name: str) -> str:
    """A row's name as the paper prints it."""
    return NAMES.get(name, name.removeprefix("api:"))


def paper_table(comparison: Mapping[str, Any]) -> PaperTable:
    """The table of a comparison."""
    tasks = comparison["tasks"]
    columns = tuple((task, metric) for task, block in tasks.items() for metric in block["metrics"])
    ranks = {column: _ranks(tasks[column[0]]["systems"], column[1]) for column in columns}
    rows = []
    for about in comparison["systems"]:
        name = about["name"]
        cells = tuple(
            Cell(
                tasks[task]["systems"].get(name, {}).get(metric),
                ranks[task, metric].get(name, 0),
                uncovered=name not in tasks[task]["systems"] and not about["failure"],
            )
            for task, metric in columns
        )
        rows.append(Row(about["group"], shown_name(name), about["reasons"], cells, False, about["failure"]))
        printed = tuple(
            Cell(
                tasks[task]["published"].get(name, {}).get(metric),
                impossible=metric == "rmse" and name in tasks[task]["impossible"],
            )
            for task, metric in columns
        )
        if any(cell.value is not None for cell in printed):
            rows.append(Row(about["group"], f"{shown_name(name)}, published", about["reasons"], printed, True))
    source = comparison["published_source"] if any(row.published for row in rows) else ""
    return PaperTable(columns, tuple(rows), source)


def _ranks(systems: Mapping[str, Mapping[str, float]], metric: str) -> dict[str, int]:
    """1 for the best printed value and 2 for the next, by system; equal printed values share a rank."""
    printed = {name: round(scores[metric], 3) for name, scores in systems.items() if metric in scores}
    order = sorted(set(printed.values()), reverse=higher_is_better(metric))[:2]
    return {name: order.index(value) + 1 for name, value in printed.items() if value in order}


def metric_head(metric: str) -> str:
    """A metric's name as the paper prints it, with its better direction."""
    return f"{HEADS.get(metric, metric)} {'↑' if higher_is_better(metric) else '↓'}"


def _notes(table: PaperTable) -> list[str]:
    notes = [f"{row.name} failed: {row.failure}" for row in table.rows if row.failure]
    if table.source:
        notes.append(f"published: {table.source}; another backbone and other examples than ours")
    if any(cell.impossible for row in table.rows for cell in row.cells):
        notes.append("!: cannot be right: of whole ratings RMSE² is at least MAE")
    if any(cell.uncovered for row in table.rows for cell in row.cells):
        notes.append("–: does not answer this kind of task")
    return notes


def to_markdown(table: PaperTable) -> str:
    """GitHub Markdown; second best in <u>, since Markdown has no underline."""
    head = ["Method", "R", *[f"{task} {metric_head(metric)}" for task, metric in table.columns]]
    lines = [_bar(head), _bar(["---", "---", *["---:"] * len(table.columns)])]
    group = ""
    for row in table.rows:
        if row.group != group:
            group = row.group
            lines.append(_bar([f"*{group}*", *[""] * (len(head) - 1)]))
        lines.append(_bar([_plain(row.name), "✓" if row.reasons else "✗", *_markdown_cells(row)]))
    notes = [f"- {_plain(note)}" for note in _notes(table)]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _markdown_cells(row: Row) -> list[str]:
    if row.failure and all(cell.value is None for cell in row.cells):
        return ["failed", *[""] * (len(row.cells) - 1)]
    return [{1: f"**{c.text}**", 2: f"<u>{c.text}</u>"}.get(c.rank, c.text) for c in row.cells]


def _bar(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text that cannot act as Markdown or HTML in a table."""
    for character in "\\`*_|<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "²": r"\textsuperscript{2}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def to_latex(table: PaperTable) -> str:
    """A `tabular` for booktabs and amssymb (\\checkmark)."""
    tasks = list(dict.fromkeys(task for task, _ in table.columns))
    widths = [sum(column[0] == task for column in table.columns) for task in tasks]
    arrow = {"↑": r"$\uparrow$", "↓": r"$\downarrow$"}
    spans = [
        rf"\multicolumn{{{width}}}{{c}}{{{latex_escape(task)}}}" for task, width in zip(tasks, widths, strict=True)
    ]
    heads = [
        f"{latex_escape(head[:-2])} {arrow[head[-1]]}" for head in (metric_head(name) for _, name in table.columns)
    ]
    lines = [
        "% needs \\usepackage{booktabs,amssymb}",
        rf"\begin{{tabular}}{{lc{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", "", *spans]) + r" \\",
        " & ".join(["Method", "R", *heads]) + r" \\",
    ]
    group = ""
    for row in table.rows:
        if row.group != group:
            group = row.group
            lines += [
                r"\midrule",
                rf"\multicolumn{{{len(table.columns) + 2}}}{{l}}{{\emph{{{latex_escape(group)}}}}} \\",
            ]
        mark = r"$\checkmark$" if row.reasons else r"$\times$"
        lines.append(" & ".join([latex_escape(row.name), mark, *_latex_cells(row)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *[f"% {latex_escape(note)}" for note in _notes(table)]]
    return "\n".join(lines) + "\n"


def _latex_cells(row: Row) -> list[str]:
    if row.failure and all(cell.value is None for cell in row.cells):
        return [r"\emph{failed}", *[""] * (len(row.cells) - 1)]
    return [
        {1: rf"\textbf{{{c.text}}}", 2: rf"\underline{{{c.text}}}"}.get(c.rank, latex_escape(c.text)) for c in row.cells
    ]


def to_csv(table: PaperTable) -> str:
    """Full precision, one column a task and metric; `kind` tells ours from published rows."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["group", "method", "R", "kind", *[f"{t} {m}" for t, m in table.columns], "failure"])
    for row in table.rows:
        values = ["" if cell.value is None else repr(cell.value) for cell in row.cells]
        kind = "published" if row.published else "ours"
        writer.writerow([row.group, row.name, "yes" if row.reasons else "no", kind, *values, row.failure])
    return stream.getvalue()
