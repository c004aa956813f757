"""The HTML report of a run and its figures. `write_report(run, out)`; light to import."""

from typing import Any

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name != "write_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tagpr.report.page import write_report

    return write_report
