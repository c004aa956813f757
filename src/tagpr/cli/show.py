"""What commands print: tables on the terminal, or the same as one JSON object."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from tagpr.evaluation.results import Results
    from tagpr.prmu.bench import PRMUBench


def print_table(table: "RichTable", console: "Console") -> None:
    """Print all of a table: in longer lines than the terminal's if need be, never without digits."""
    from rich.measure import Measurement

    unbounded = console.options.update(width=10_000)
    least = Measurement.get(console, unbounded, table).minimum
    console.width = max(least, console.width)
    console.print(table, crop=False)


def print_results(results: "Results", first: str = "system") -> None:
    """One short table per task."""
    from rich.console import Console

    from tagpr.report.tables.terminal import result_tables

    console = Console()
    for table in result_tables(results, first):
        print_table(table, console)


def show_results(results: "Results", as_json: bool, first: str = "system") -> None:
    """The results as tables or as JSON."""
    if as_json:
        typer.echo(results.as_json())
    else:
        print_results(results, first)


def print_diagnosis(diagnosis: Mapping[str, Any]) -> None:
    """The reward model's diagnosis as a table, and what it says in words."""
    from rich.console import Console

    from tagpr.report.tables.diagnosis import diagnosis_table
    from tagpr.report.tables.terminal import to_terminal

    console = Console()
    print_table(to_terminal(diagnosis_table(diagnosis)), console)
    error, correlation = diagnosis["calibration"]["expected_calibration_error"], diagnosis["length_correlation"]
    console.print(f"calibration error {error:.3f}", highlight=False)
    console.print(f"correlation of reward and length {correlation:+.2f}", highlight=False)
    console.print(diagnosis["words"], highlight=False)


def print_bench(found: "PRMUBench") -> None:
    """Pair accuracy by group of users, what users bring, and calibration."""
    from rich.console import Console

    from tagpr.report.tables.pair_bench import bench_table
    from tagpr.report.tables.terminal import to_terminal

    print_table(to_terminal(bench_table(found)), Console())
