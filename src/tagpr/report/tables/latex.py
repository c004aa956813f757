r"""A table as a LaTeX `tabular` for booktabs and amssymb (\checkmark)."""

from tagpr.report.tables.table import Row, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "²": r"\textsuperscript{2}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "−": r"$-$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text that LaTeX prints literally."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def to_latex(table: Table) -> str:
    """The table, its notes as comments."""
    left = 2 if table.has_reasons else 1
    lines = [
        "% needs \\usepackage{booktabs,amssymb}",
        rf"\begin{{tabular}}{{l{'c' * (left - 1)}{'r' * len(table.header)}}}",
        r"\toprule",
    ]
    if table.spans:
        spans = [rf"\multicolumn{{{width}}}{{c}}{{{latex_escape(name)}}}" for name, width in table.spans]
        lines.append(" & ".join([*[""] * left, *spans]) + r" \\")
    heads = [table.first, *(["R"] if table.has_reasons else []), *table.header]
    lines.append(" & ".join(latex_escape(head) for head in heads) + r" \\")
    group = None
    for row in table.rows:
        if row.group != group:
            group = row.group
            width = len(table.header) + left
            lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{latex_escape(group)}}}}} \\"]
        mark = [r"$\checkmark$" if row.reasons else r"$\times$"] if table.has_reasons else []
        lines.append(" & ".join([latex_escape(row.name), *mark, *_cells(row)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *[f"% {latex_escape(note)}" for note in table.notes]]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    if row.failure and all(cell.value is None for cell in row.cells):
        return [r"\emph{failed}", *[""] * (len(row.cells) - 1)]
    wrap = {1: r"\textbf{%s}", 2: r"\underline{%s}"}
    return [wrap.get(cell.rank, "%s") % latex_escape(cell.text) for cell in row.cells]
