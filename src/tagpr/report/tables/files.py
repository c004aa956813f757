"""A comparison's tables as files: `table.md`, `table.tex`, `table.csv`."""

from pathlib import Path

from tagpr.evaluation.results import Results
from tagpr.files import write_text
from tagpr.report.tables.csv_file import to_csv
from tagpr.report.tables.latex import to_latex
from tagpr.report.tables.markdown import to_markdown
from tagpr.report.tables.paper import paper_table
from tagpr.report.tables.results import cost_table


def write_tables(results: Results, folder: Path) -> str:
    """Write the paper's table in three formats, in Markdown with every task's details. Returns its Markdown."""
    table = paper_table(results)
    shown = to_markdown(table)
    details = (cost_table(results, name) for name in results.tasks)
    write_text(folder / "table.md", "\n".join([shown, *(f"### {d.title}\n\n{to_markdown(d)}" for d in details)]))
    write_text(folder / "table.tex", to_latex(table))
    write_text(folder / "table.csv", to_csv(table))
    return shown
