"""A table as GitHub Markdown; second best in <u>, since Markdown has no underline."""

from tagpr.report.tables.table import Row, Table


def to_markdown(table: Table) -> str:
    """The table and its notes; no title."""
    spans = [name for name, width in table.spans for _ in range(width)] or [""] * len(table.header)
    head = [table.first, *(["R"] if table.has_reasons else [])]
    head += [f"{span} {text}".strip() for span, text in zip(spans, table.header, strict=True)]
    ruled = ["---"] * (len(head) - len(table.header)) + ["---:"] * len(table.header)
    lines, group = [_bar(head), _bar(ruled)], ""
    for row in table.rows:
        if table.has_reasons and row.group != group:
            group = row.group
            lines.append(_bar([f"*{group}*", *[""] * (len(head) - 1)]))
        mark = ["✓" if row.reasons else "✗"] if table.has_reasons else []
        lines.append(_bar([_literal(row.name), *mark, *_cells(row)]))
    notes = [f"- {_literal(note)}" for note in table.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _cells(row: Row) -> list[str]:
    if row.failure and all(cell.value is None for cell in row.cells):
        return ["failed", *[""] * (len(row.cells) - 1)]
    return [{1: f"**{c.text}**", 2: f"<u>{c.text}</u>"}.get(c.rank, c.text) for c in row.cells]


def _bar(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _literal(text: str) -> str:
    """Text that cannot act as Markdown or HTML in a table."""
    for character in "\\`*_|<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
