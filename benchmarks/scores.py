"""`Scores`: what several systems scored on the same questions, and their paired differences, also of several seeds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from results_file import add_results
from tagpr.evaluation.predictions import Prediction
from tagpr.statistics import mean_interval, paired_bootstrap
from tagpr.tasks.types import Example


@dataclass
class Scores:
    """What every system scored on the held-out questions."""

    users: list[str]
    """Whose question it is."""
    of: dict[str, list[float]]
    """System -> correctness by question."""
    chains: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """System -> share of well-formed answers and of true claims."""

    def add(self, system: str, answered: Sequence[Prediction], heldout: Sequence[Example]) -> None:
        """A system that is a language model; `heldout` are the questions in order."""
        rows = {one.id: one for one in answered}
        self.of[system] = [rows[example.id].correctness for example in heldout]
        claims = sum(one.claims for one in answered)
        self.chains[system] = {
            "format_rate": fmean(one.format_ok for one in answered),
            "true_claims": sum(one.true_claims for one in answered) / claims if claims else None,
        }


PAIRS = [
    ("TagPR", "label SFT"),
    ("SFT on chains", "label SFT"),
    ("SFT on chains", "teacher"),
    ("SFT on chains", "linear, text and history"),
    ("mixed SFT", "label SFT"),
    ("TagPR", "SFT on chains"),
    ("TagPR", "TagPR, another user's history"),
    ("TagPR", "linear, text and history"),
    ("label SFT", "linear, text and history"),
    ("linear, text and history", "linear, text"),
    ("SFT on chains, applied by rule", "SFT on chains"),
    ("SFT on chains, applied by rule", "label SFT"),
    ("TagPR, applied by rule", "TagPR"),
    ("TagPR, applied by rule", "label SFT"),
    ("TagPR", "linear, habits"),
    ("label SFT", "linear, habits"),
]


def together(seeds: Sequence[Scores]) -> Scores:
    """The questions of all seeds as those of one: a user's questions stay together whichever seed asked them."""
    names = [name for name in seeds[0].of if all(name in one.of for one in seeds)]
    users = [user for one in seeds for user in one.users]
    return Scores(users, {name: [score for one in seeds for score in one.of[name]] for name in names})


def differences(found: Scores, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """First minus second of each pair that was asked, paired over users."""
    return {
        f"{a} minus {b}": asdict(paired_bootstrap(found.of[a], found.of[b], found.users))
        for a, b in pairs
        if a in found.of and b in found.of
    }


def compared(found: Scores, pairs: Sequence[tuple[str, str]] = PAIRS) -> dict[str, Any]:
    """Every system's correctness with its interval over users, and the differences between them."""
    return {
        "questions": len(found.users),
        "users": len(set(found.users)),
        "correctness": {name: asdict(mean_interval(own, found.users)) for name, own in found.of.items()},
        "differences": differences(found, pairs),
    }


def add_together(
    script: str,
    task: str,
    seeds: Sequence[int],
    call: str,
    each: Sequence[Scores],
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> None:
    """Add the row of all seeds taken together, if there are several."""
    if len(each) > 1:
        by_seed = {name: [fmean(one.of[name]) for one in each] for name in each[0].of}
        row = f"seed {' '.join(map(str, seeds))}{call}"
        add_results(script, task, row, compared(together(each), pairs) | {"by seed": by_seed})
