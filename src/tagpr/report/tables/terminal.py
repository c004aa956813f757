"""The small results table that a run ends with. The full one is in the report."""

from collections.abc import Mapping
from typing import Any

LEFT_OUT = ("f1_positive", "mse")
"""Metrics that say what another column says; the report has them."""


def shown_metrics(systems: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Metrics that get a column, in the order of the first system that has them."""
    found = dict.fromkeys(metric for scores in systems.values() for metric in scores)
    return [metric for metric in found if metric not in LEFT_OUT]


def print_results(metrics: dict[str, Any]) -> None:
    """Print every task's systems, one row each, with the interval of the main metric's difference to Base."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, block in metrics["tasks"].items():
        main = block["metric"]
        columns = shown_metrics(block["systems"])
        table = Table(title=f"{name} ({block['n']} held-out examples of {block['users']} users)", title_justify="left")
        table.add_column("system")
        for metric in columns:
            table.add_column(metric, justify="right")
        table.add_column(f"{main} - base, 95%", justify="right", no_wrap=True)
        for system, row in {**block["systems"], **block.get("sanity", {})}.items():
            difference = block["difference_to_base"].get(system, {}).get(main)
            text = (
                f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]" if difference else ""
            )
            cells = [
                "" if metric not in row else f"{row[metric]:.0f}" if metric == "chain_tokens" else f"{row[metric]:.3f}"
                for metric in columns
            ]
            table.add_row(system, *cells, text)
        console.print(table)
