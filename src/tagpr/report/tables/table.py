"""`Table`: rows and cells, ready to be written as Markdown, LaTeX, CSV, HTML or on a terminal."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str = ""
    value: float | None = None  # in full, for CSV
    rank: int = 0  # 1 best, 2 second, 0 neither or not ranked
    bounds: str = ""  # the interval of the value, if the page shows it below
    change: str = ""  # the difference to the reference, if the page shows it below
    better: bool | None = None  # what the interval of the difference says


@dataclass(frozen=True)
class Row:
    """One line."""

    name: str
    cells: tuple[Cell, ...]
    system: str = ""  # the system it is of, "" if of none
    group: str = ""  # heading under which it is listed
    reasons: bool | None = None  # the paper's column R; None if a table has no such column
    published: bool = False  # printed in the paper, not run here
    failure: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its title and notes."""

    title: str
    first: str  # head of the column of names
    header: tuple[str, ...]  # heads of the other columns
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    spans: tuple[tuple[str, int], ...] = ()  # heads above several columns (LaTeX); () for none
    keys: tuple[str, ...] = ()  # names of the columns in a CSV; () for the heads

    @property
    def has_reasons(self) -> bool:
        """Whether there is a column R."""
        return any(row.reasons is not None for row in self.rows)


def texts(*values: str) -> tuple[Cell, ...]:
    """Cells of bare text."""
    return tuple(Cell(value) for value in values)
