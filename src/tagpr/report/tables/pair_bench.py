"""`tagpr prmu bench` as a table: pairs ordered right by group of users and system."""

from tagpr.prmu.bench import PRMUBench
from tagpr.report.tables.table import Cell, Row, Table, texts

NOTE = (
    "Share of pairs ordered right, with its 95% interval over users. Gain: PRMU minus the same model without users, on "
    "the same pairs; in brackets its interval, after it the smallest gain these pairs would have shown (power 80%)."
)


def bench_table(found: PRMUBench) -> Table:
    """One line per group of users; one column per system, then gain and calibration error."""
    systems = list(dict.fromkeys(row.system for row in found.rows))
    cells = {(row.group, row.system): row for row in found.rows}
    rows = []
    for gain in found.gains:
        shares = [cells[gain.group, system] for system in systems]
        sizes = f"{shares[0].pairs} of {shares[0].users}"
        rows.append(
            Row(
                f"{gain.group} pairs" if gain.group.startswith("fitted") else f"{gain.group} users",
                (
                    Cell(sizes),
                    *(Cell(f"{s.mean:.1%} [{s.low:.1%}, {s.high:.1%}]", s.mean) for s in shares),
                    Cell(f"{gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}], {gain.minimum_detectable:.1%}"),
                    *texts(f"{found.calibration_error[gain.group]:.3f}"),
                ),
            )
        )
    header = ("pairs, of users", *systems, "gain", "calibration error")
    return Table(f"Held-out pairs, user option {found.user_option}", "Users", header, tuple(rows), (NOTE,))
