"""How a number and its interval are written in every table and chart: the only place that formats them."""

from tagpr.evaluation.results import CHAIN_TOKENS, EVIDENCE_PRECISION, FORMAT_RATE
from tagpr.statistics import Interval
from tagpr.tasks.metrics import METRICS

PERCENT = ("accuracy", "f1", "f1_positive", "exact", FORMAT_RATE, EVIDENCE_PRECISION)
"""Shares, which readers see as percents."""
LABELS = {
    "base": "Base",
    "labels": "Label SFT",
    "sft": "SFT",
    "guided": "Guided RL",
    "exploratory": "Exploratory RL",
    "final": "Final",
    "final-other-history": "Final, another user's history",
    FORMAT_RATE: "valid format",
    CHAIN_TOKENS: "chain tokens",
    EVIDENCE_PRECISION: "true claims",
    "majority": "Commonest label",
    "user-majority": "The user's commonest answer",
    "last-label": "The user's latest answer",
    "nearest-neighbour": "The user's answer to the closest past item",
    "lead-sentence": "First sentence",
    "neutral-copy": "The neutral text itself",
    "common-habits": "Most users' habits",
    "own-habits": "The user's own habits, counted",
}


def label(name: str) -> str:
    """A system's or a metric's name for readers; unknown ones stay as they are."""
    if name in METRICS:
        return METRICS[name].label or name
    return LABELS.get(name, name)


def plain(metric: str, value: float | None, signed: bool = False) -> str:
    """A value for terminals, Markdown and LaTeX: three decimals; tokens as a whole number; "" for None."""
    if value is None:
        return ""
    return f"{value:{'+' if signed else ''}.{0 if metric == CHAIN_TOKENS else 3}f}"


def readable(metric: str, value: float | None, signed: bool = False) -> str:
    """A value for the page: percents (points for a difference) for shares, a real minus; a dash for None."""
    if value is None:
        return "–"
    sign = "+" if signed and value > 0 else ""
    if metric in PERCENT:
        shown = f"{sign}{100 * value:.1f}{'' if signed else '%'}"
    else:
        shown = f"{sign}{value:.{0 if metric == CHAIN_TOKENS else 3}f}"
    return shown.replace("-", "−")


def plain_interval(metric: str, value: Interval | None, signed: bool = False) -> str:
    """`0.250 [0.100, 0.400]`; "" for None."""
    if value is None:
        return ""
    mean, low, high = (plain(metric, number, signed) for number in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def readable_interval(metric: str, value: Interval | None, signed: bool = False) -> str:
    """`25.0% [10.0%, 40.0%]`; "" for None."""
    if value is None:
        return ""
    mean, low, high = (readable(metric, number, signed) for number in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def readable_bounds(metric: str, value: Interval, signed: bool = False) -> str:
    """`10.0% to 40.0%`."""
    return f"{readable(metric, value.low, signed)} to {readable(metric, value.high, signed)}"


def unit(metric: str) -> str:
    """What follows a difference in a sentence: percentage points have a name, other metrics none."""
    return " points" if metric in PERCENT else ""


def count(value: float) -> str:
    """`134515008` -> `134.5M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.0f}"
