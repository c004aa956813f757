"""`tagpr prmu bench` as a table: pairs ordered right by group of users and system."""

from tagpr.prmu.bench import PRMUBench
from tagpr.report.tables.table import Cell, Row, Table, texts

NOTE = (
    "Share of pairs ordered right, with its 95% interval over users. Gain: PRMU minus the same model without users, on "
    "the same pairs; after its interval the smallest gain these pairs would have shown (power 80%)."
)


def bench_table(found: PRMUBench) -> Table:
    """One line per group of users and system; gain and calibration error stand in PRMU's."""
    gains = {gain.group: gain for gain in found.gains}
    rows, group = [], ""
    for share in found.rows:
        ordered = Cell(f"{share.mean:.1%} [{share.low:.1%}, {share.high:.1%}]", share.mean)
        if share.group == group:
            rows.append(Row("", (Cell(share.system), Cell(), ordered, Cell(), Cell())))
            continue
        group = share.group
        gain, error = gains[group], found.calibration_error[group]
        gained = f"{gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}], {gain.minimum_detectable:.1%}"
        sizes = Cell(f"{share.pairs} of {share.users}")
        name = f"{group} pairs" if group.startswith("fitted") else f"{group} users"
        rows.append(Row(name, (Cell(share.system), sizes, ordered, *texts(gained, f"{error:.3f}"))))
    header = ("system", "pairs, of users", "ordered right", "gain", "calibration")
    return Table(f"Held-out pairs, user option {found.user_option}", "Users", header, tuple(rows), (NOTE,))
