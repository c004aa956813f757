"""The composite rewards: guided R (eq. 5) and foundation R (eq. 11), as plain callables for TRL's `reward_funcs`.

    R            = alpha (R_v + R_rep) R_f + beta R_tag + gamma R_PRMU
    R_foundation =       (R_v + R_rep) R_f

One callable for the whole, because TRL only ever sums several rewards and R_f multiplies. Nothing is dropped silently:
a component that is not finite raises, since TRL would leave it out of the sum.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import RunError
from tagpr.rewards.format import format_reward
from tagpr.rewards.repetition import repetition_reward
from tagpr.rewards.settings import RewardSettings
from tagpr.rewards.tag import tag_reward
from tagpr.rewards.verifiable import verifiable_reward
from tagpr.tasks.types import Task

PersonalScore = Callable[[Sequence[str], Sequence[Any], Sequence[Any]], Sequence[float]]
"""R_PRMU (eq. 3): (user ids, prompts in token ids, completions in token ids) -> one number in (0, 1) each."""


@dataclass(frozen=True)
class Components:
    """The five signals of one completion and their sum. `prmu` is 0 where no PRMU is used."""

    reward: float
    verifiable: float
    format: float
    repetition: float
    tag: float
    prmu: float


def guided(verifiable: float, repetition: float, form: float, tag: float, prmu: float, s: RewardSettings) -> float:
    """Eq. 5."""
    return s.alpha * (verifiable + repetition) * form + s.beta * tag + s.gamma * prmu


def foundation(verifiable: float, repetition: float, form: float) -> float:
    """Eq. 11."""
    return (verifiable + repetition) * form


class CompositeReward:
    """A reward for TRL: `CompositeReward(tasks, vocabulary, prmu=prmu.score)` guides, `stage="exploratory"` explores.

        reward(prompts, completions, completion_ids, task=[...], target=[...], user_id=[...], prompt_ids=[...])

    returns one float a completion; `components(...)` returns the parts. The columns `task`, `target`, `user_id` (and
    `prompt_ids` with a PRMU) come from the data set, one value a completion, as TRL hands them over.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        vocabulary: Vocabulary,
        settings: RewardSettings | None = None,
        prmu: PersonalScore | None = None,
        stage: str = "guided",
        think_prefilled: bool = False,
    ) -> None:
        if stage not in ("guided", "exploratory"):
            raise ValueError(f"stage is 'guided' or 'exploratory', not {stage!r}")
        self.tasks, self.vocabulary, self.stage, self.think_prefilled = tasks, vocabulary, stage, think_prefilled
        self.settings = settings or RewardSettings()
        self.prmu = prmu if stage == "guided" and self.settings.gamma > 0 else None
        self.__name__ = f"{stage}_reward"  # TRL names its metrics after the function

    def components(
        self,
        completions: Sequence[str],
        task: Sequence[str],
        target: Sequence[str],
        user_id: Sequence[str] = (),
        prompt_ids: Sequence[Any] = (),
        completion_ids: Sequence[Any] = (),
    ) -> list[Components]:
        """The five signals of each completion. Raises RunError on a component that is not finite."""
        s = self.settings
        personal = list(self.prmu(user_id, prompt_ids, completion_ids)) if self.prmu else [0.0] * len(completions)
        rows = []
        for text, name, reference, prmu in zip(completions, task, target, personal, strict=True):
            response = parse_response(text, self.vocabulary, self.think_prefilled)
            v = verifiable_reward(self.tasks[name], response.answer, reference, s)
            f, rep = format_reward(response), repetition_reward(text, s.ngram, s.delta)
            tag = tag_reward(response, s.min_tags)
            total = guided(v, rep, f, tag, prmu, s) if self.stage == "guided" else foundation(v, rep, f)
            if not math.isfinite(total):
                raise RunError(
                    f"reward of a completion for task '{name}' is not finite (R_v {v}, R_rep {rep}, R_PRMU {prmu}); "
                    "check the PRMU checkpoint"
                )
            rows.append(Components(total, v, f, rep, tag, float(prmu)))
        return rows

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Any] = (),
        *,
        task: Sequence[str],
        target: Sequence[str],
        user_id: Sequence[str] = (),
        prompt_ids: Sequence[Any] = (),
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float]:
        """TRL's reward function protocol. Chat completions (lists of messages) are read by their last content."""
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        rows = self.components(texts, task, target, user_id, prompt_ids or prompts, completion_ids)
        if log_metric is not None and rows:
            for name in ("verifiable", "format", "repetition", "tag", "prmu"):
                log_metric(f"reward/{name}", sum(getattr(row, name) for row in rows) / len(rows))
        return [row.reward for row in rows]
