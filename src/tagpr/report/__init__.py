"""The HTML report of a run and its charts: `write_report(run, out)`, `write_comparison(runs, out)`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagpr.report.page import write_report
    from tagpr.report.runs_page import write_comparison

__all__ = ["write_comparison", "write_report"]


def __getattr__(name: str) -> object:
    if name == "write_report":
        from tagpr.report.page import write_report

        return write_report
    if name == "write_comparison":
        from tagpr.report.runs_page import write_comparison

        return write_comparison
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
