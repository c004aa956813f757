"""What commands print is whole on every terminal."""

import io

import pytest
from rich.console import Console

from tagpr.cli.show import print_table
from tagpr.report.tables.table import Row, Table, texts
from tagpr.report.tables.terminal import to_terminal

DIFFERENCE = "+0.593 [+0.513, +0.673]"


@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_table_is_never_cut(width):
    cells = [f"0.{number:03}" for number in range(8)]
    header = (*(f"evidence precision {number}" for number in range(8)), "exact - base, 95%")
    table = Table("title", "system", header, (Row("final-other-history", texts(*cells, DIFFERENCE)),))
    written = io.StringIO()
    print_table(to_terminal(table), Console(file=written, width=width))
    printed = written.getvalue()
    assert "…" not in printed
    assert all(text in printed for text in (*cells, DIFFERENCE, "final-other-history", "precision"))
