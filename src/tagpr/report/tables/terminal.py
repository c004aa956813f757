"""A table for the terminal."""

from collections.abc import Iterator

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from tagpr.evaluation.results import Results
from tagpr.report.tables.results import short_table
from tagpr.report.tables.table import Table


def to_terminal(table: Table) -> RichTable:
    """The table as rich prints it. Heads wrap between words; no column is narrower than its longest word or cell."""
    shown = RichTable(
        title=table.title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="\n".join(table.notes) or None,
        caption_justify="left",
    )
    shown.add_column(table.first, no_wrap=True)
    for column, head in enumerate(table.header):
        longest = max(len(text) for text in (*head.split(), *(row.cells[column].text for row in table.rows)))
        shown.add_column(head, justify="right", no_wrap="95%" in head, min_width=longest)
    for row in table.rows:
        shown.add_row(Text(row.name), *(Text(cell.text) for cell in row.cells))  # Text: no markup in names
    return shown


def result_tables(results: Results, first: str = "system") -> Iterator[RichTable]:
    """One short table per task."""
    for name in results.tasks:
        yield to_terminal(short_table(results, name, first))
