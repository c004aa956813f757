"""The reward model's diagnosis (`prmu/diagnosis.json`) as a table."""

from collections.abc import Mapping
from typing import Any

from tagpr.report.tables.table import Cell, Row, Table

WHO = ("right", "shuffled", "generic")
NOTE = (
    "Share of pairs ranked right, with its 95% interval over users. PRP pairs can be won without knowing the user; "
    "only PQP pairs show whether the user embedding is used."
)


def diagnosis_table(diagnosis: Mapping[str, Any]) -> Table:
    """Held-out pairs won with the right, a shuffled and the generic user; by history length with the right one."""
    rows = []
    for split in ("seen", "unseen"):
        for kind, by_user in diagnosis.get(split, {}).items():
            n = Cell(str(by_user["right"]["n"]))
            rows.append(Row(f"{kind}, {split} users", (n, *(Cell(_share(by_user.get(who))) for who in WHO))))
    for items, value in diagnosis.get("by_history_length", {}).items():
        cells = (Cell(str(value["n"])), Cell(_share(value)), Cell(), Cell())
        rows.append(Row(f"all, {items} past items", cells))
    header = ("n", *(f"{who} user" for who in WHO))
    return Table("Held-out pairs won, 95% interval", "Held-out pairs", header, tuple(rows), (NOTE,))


def _share(value: Mapping[str, float] | None) -> str:
    return f"{value['accuracy']:.1%} [{value['low']:.1%}, {value['high']:.1%}]" if value else "–"
