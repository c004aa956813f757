"""A table as CSV: full precision; `kind` tells rows that ran here from published ones."""

import csv
import io

from tagpr.report.tables.table import Table


def to_csv(table: Table) -> str:
    """One line per row."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["group", table.first.lower(), "R", "kind", *(table.keys or table.header), "failure"])
    for row in table.rows:
        values = [cell.text if cell.value is None and cell.text != "–" else _full(cell.value) for cell in row.cells]
        reasons = "" if row.reasons is None else "yes" if row.reasons else "no"
        kind = "published" if row.published else "ours"
        writer.writerow([row.group, row.name, reasons, kind, *values, row.failure])
    return stream.getvalue()


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)
