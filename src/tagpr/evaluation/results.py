"""`Results`: what systems scored on held-out examples, typed. The one schema that every table and the report read.

`results.json` holds one (`evaluate/`, `compare/`, `ablations/`), `analyses/analyses.json` one per value of a sweep:

    {"systems": [{"name", "system", "group", "reasons", "failure", "fit": COST}],
     "tasks": {TASK: {"n", "users", "metric", "kind", "metrics": [...], "lower_is_better": [...],
       "systems": {NAME: {"points": {METRIC: value}, "intervals": {METRIC: INTERVAL}, "cost": COST,
                          "notes": {NOTE: count},
                          "by_history_length": [{"items", "n", "score", "reference", "difference": INTERVAL}]}},
       "differences": {REFERENCE: {NAME: {METRIC: INTERVAL}}},
       "published": {NAME: {METRIC: value}}}},
     "published_source": words}

INTERVAL is {"mean", "low", "high"}. A difference is NAME minus REFERENCE, paired over the same resamples of users.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tagpr.errors import RunError
from tagpr.files import write_json
from tagpr.stages import made_again
from tagpr.statistics import Interval
from tagpr.systems.cost import Cost

T = TypeVar("T")

FORMAT_RATE, CHAIN_TOKENS, EVIDENCE_PRECISION = "format_rate", "chain_tokens", "evidence_precision"
OF_CHAINS = (FORMAT_RATE, CHAIN_TOKENS, EVIDENCE_PRECISION)
"""Scored besides the task's own metrics: share of well-formed completions; tokens up to and with `</think>`; share of
the chains' checkable claims that are true (`tagpr.chains.evidence`), of systems whose chains claim anything."""

CUT_OFF = "cut off"
"""The note that counts the answers which the limit of new tokens cut off, not the model."""


@dataclass(frozen=True)
class HistoryBin:
    """The questions whose users have this many past items: one system against the reference."""

    items: str  # 4-7, or 32+
    n: int
    score: float  # mean correctness of the system
    reference: float  # ... of the reference
    difference: Interval


@dataclass(frozen=True)
class SystemScores:
    """One system on one task."""

    points: Mapping[str, float]  # metric -> value on all examples
    intervals: Mapping[str, Interval]
    cost: Cost = field(default_factory=Cost)  # of answering
    notes: Mapping[str, int] = field(default_factory=dict)  # what the system noted about its answers, counted
    by_history_length: tuple[HistoryBin, ...] = ()


@dataclass(frozen=True)
class TaskResults:
    """Every system on one task."""

    n: int  # held-out examples
    users: int
    metric: str  # the main one
    kind: str  # tagpr.tasks.Kind
    metrics: tuple[str, ...]  # the task's own, in the card's order
    lower_is_better: tuple[str, ...]  # those of `metrics` that measure errors
    systems: Mapping[str, SystemScores]
    differences: Mapping[str, Mapping[str, Mapping[str, Interval]]]  # [reference][system][metric]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # the paper's value of a system's row

    def difference(self, system: str, reference: str, metric: str | None = None) -> Interval | None:
        """`system` minus `reference` in a metric (the main one if None); None if it was not computed."""
        return self.differences.get(reference, {}).get(system, {}).get(metric or self.metric)

    def columns(self) -> list[str]:
        """Every metric that a system has: the task's own, then those of chains."""
        found = dict.fromkeys(metric for scores in self.systems.values() for metric in scores.points)
        return [m for m in found if m not in OF_CHAINS] + [m for m in OF_CHAINS if m in found]

    def better(self, change: Interval | None, metric: str) -> bool | None:
        """Does the interval of a difference say better (True) or worse (False)? None: neither, or a mere length."""
        if change is None or metric == CHAIN_TOKENS or not change.excludes_zero:
            return None
        return (change.low > 0) != (metric in self.lower_is_better)


@dataclass(frozen=True)
class SystemRow:
    """What is known of a system whatever the task: one row of a table."""

    name: str
    system: str  # its name in the registry, `api:MODEL`, or `file.py:Class`
    group: str  # the part of a table it belongs to
    reasons: bool = True  # writes a reasoning step before the answer
    failure: str = ""  # one line; "" if all went well
    fit: Cost = field(default_factory=Cost)  # of training it


@dataclass(frozen=True)
class Results:
    """What systems scored. `systems` has a row for failed ones too; a task has only those that answered it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    systems: tuple[SystemRow, ...]
    tasks: Mapping[str, TaskResults]
    published_source: str = ""

    def row(self, name: str) -> SystemRow:
        """The row of a system. Raises KeyError if there is none."""
        for row in self.systems:
            if row.name == name:
                return row
        raise KeyError(name)

    def group(self, group: str) -> tuple[str, ...]:
        """Names of the systems of a group, in order."""
        return tuple(row.name for row in self.systems if row.group == group)

    def write(self, path: Path) -> None:
        """Write `results.json`, atomically."""
        write_json(path, RESULTS.dump_python(self, mode="json"))

    def as_json(self) -> str:
        """The same as one line of JSON."""
        return RESULTS.dump_json(self).decode("utf-8")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read a `results.json`. Raises RunError with the place and the cause if it is missing or damaged."""
        return read_typed(RESULTS, path)


RESULTS = TypeAdapter(Results)


def read_typed(adapter: TypeAdapter[T], path: Path) -> T:
    """Read a JSON file as what `adapter` says. Raises RunError, in one line, if it is missing, damaged or another's."""
    try:
        return adapter.validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); run the stage that writes it first") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        said = f"{place}: {problem['msg']}" if place else problem["msg"]
        raise RunError(f"{path}: damaged, or of another version ({said}); {made_again(path)}") from None
