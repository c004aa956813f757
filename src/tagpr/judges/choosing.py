"""Which of two answers is better: each pair is asked in both orders, because judges prefer a place.

Only a verdict that stays the same when the answers are swapped counts; what turns round is a tie, and the share of
those that turn round says how far the judge can be believed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tagpr.clients.types import Reply
from tagpr.engine.cached_model import CachedModel
from tagpr.judges.rubric import Criterion
from tagpr.judges.wording import read_mark, worded
from tagpr.progress import Progress, silent


@dataclass(frozen=True)
class Duel:
    """Two answers to one question."""

    question: str
    first: str
    second: str
    background: str = ""
    criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a judge says of a duel."""

    wins: float  # 1 if the first is better in both orders, 0 if the second is, else one half
    consistent: bool  # the same verdict in both orders
    readable: bool  # both verdicts could be read


def choose_better(model: CachedModel, duels: Sequence[Duel], progress: Progress = silent) -> list[Choice]:
    """One choice per duel. Equal answers are a tie without a call. Raises RunError at a cap."""
    asked = [i for i, duel in enumerate(duels) if duel.first.strip() != duel.second.strip()]
    requests = []
    for i in asked:
        duel = duels[i]
        for first, second in ((duel.first, duel.second), (duel.second, duel.first)):
            told = {"question": duel.question, "background": duel.background, "criteria": duel.criteria}
            requests.append(worded("choice", **told, first=first, second=second))
    replies = model.generate(requests, lambda done, total, _: progress(done, total, "both orders"))
    read = [read_mark(reply.content, 2, "better") if isinstance(reply, Reply) else None for reply in replies]
    found = [Choice(0.5, True, True)] * len(duels)
    for place, i in enumerate(asked):
        found[i] = _choice(read[2 * place], read[2 * place + 1])
    return found


def _choice(straight: int | None, swapped: int | None) -> Choice:
    if straight is None or swapped is None:
        return Choice(0.5, False, False)
    consistent = straight == {0: 0, 1: 2, 2: 1}[swapped]
    wins = {0: 0.5, 1: 1.0, 2: 0.0}[straight] if consistent else 0.5
    return Choice(wins, consistent, True)
