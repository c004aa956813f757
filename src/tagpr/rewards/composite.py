"""The composite rewards: guided R (eq. 5) and foundation R (eq. 11), as plain callables for TRL's `reward_funcs`.

    R            = alpha (R_v + R_rep) R_f + beta R_tag + gamma R_PRMU
    R_foundation =       (R_v + R_rep) R_f

and to either, if `delta_evidence` is set, + delta_evidence R_evidence (ours).

One callable for the whole, because TRL only ever sums several rewards and R_f multiplies. Nothing is dropped silently:
a component that is not finite raises, since TRL would leave it out of the sum.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tagpr.chains.evidence import Shown
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import RunError
from tagpr.rewards.evidence import evidence_reward
from tagpr.rewards.format import format_reward
from tagpr.rewards.foundation import foundation_reward
from tagpr.rewards.guided import guided_reward
from tagpr.rewards.repetition import repetition_reward
from tagpr.rewards.settings import RewardSettings
from tagpr.rewards.tag import tag_reward
from tagpr.rewards.verifiable import Verifiable, find_verifiable, verify_all
from tagpr.tasks.types import Task

Ids = Sequence[int]
"""Token ids of one text."""
PersonalScore = Callable[[Sequence[str], Sequence[Ids], Sequence[Ids]], Sequence[float]]
"""R_PRMU (eq. 3): (user ids, prompts in token ids, completions in token ids) -> one number in (0, 1) each."""


Part = Mapping[str, str]
"""A part of a message's content, `{"type": "text", "text": ...}`."""
Completion = str | Sequence[Mapping[str, "str | Sequence[Part] | None"]]
"""A completion as TRL hands it over: a text, or chat messages."""


@dataclass(frozen=True)
class Components:
    """The signals of one completion and their sum. `prmu` and `evidence` are 0 if they are not used."""

    reward: float
    verifiable: float
    format: float
    repetition: float
    tag: float
    prmu: float
    evidence: float = 0.0


def completion_text(completion: Completion) -> str:
    """What the model wrote: the text itself, or of a chat completion the last message's content.

    A content of None (a turn with tool calls only) is an empty text; of a list of parts the text parts are joined.
    """
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] if completion else None
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or "" for part in content if part.get("type", "text") == "text")


class CompositeReward:
    """A reward for TRL: `CompositeReward(tasks, vocabulary, prmu=prmu.score)` guides, `stage="exploratory"` explores.

        reward(prompts, completions, completion_ids, task=[...], target=[...], user_id=[...], prompt_ids=[...])

    returns one float a completion; `components(...)` returns the parts. The columns `task`, `target`, `user_id` (and
    `prompt_ids` with a PRMU) come from the data set, one value per completion, as TRL hands them over.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        vocabulary: Vocabulary,
        settings: RewardSettings | None = None,
        prmu: PersonalScore | None = None,
        stage: str = "guided",
        think_prefilled: bool = False,
        shown: Mapping[tuple[str, str], Shown] | None = None,
        decode: Callable[[Sequence[int]], str] | None = None,
        verifiable: Verifiable | None = None,
    ) -> None:
        """shown: by task and example id, what each prompt shows; needed with `delta_evidence`.

        decode: `tagpr.engine.text.turn_decoder(tokenizer)`, for TRL, which leaves special tokens out of the texts it
        hands over: if `<think>` is one, completions are read from their token ids instead.
        verifiable: R_v, if it is another than `settings` name (`find_verifiable` loads one of your own).
        """
        if stage not in ("guided", "exploratory"):
            raise ValueError(f"stage is 'guided' or 'exploratory', not {stage!r}")
        self.tasks, self.vocabulary, self.stage, self.think_prefilled = tasks, vocabulary, stage, think_prefilled
        self.settings = settings or RewardSettings()
        self.prmu = prmu if stage == "guided" and self.settings.gamma > 0 else None
        self.shown = shown or {}
        self.decode = decode
        self.verifiable = verifiable or find_verifiable(self.settings)
        if self.settings.delta_evidence and not self.shown:
            raise ValueError("delta_evidence needs `shown`: what each prompt shows, by task and example id")
        self.__name__ = f"{stage}_reward"  # TRL names its metrics after the function

    def components(
        self,
        completions: Sequence[str],
        task: Sequence[str],
        target: Sequence[str],
        user_id: Sequence[str] = (),
        prompt_ids: Sequence[Ids] = (),
        completion_ids: Sequence[Ids] = (),
        example_id: Sequence[str] = (),
    ) -> list[Components]:
        """The signals of each completion. Raises RunError on a component that is not finite."""
        s = self.settings
        if self.prmu and not len(user_id) == len(prompt_ids) == len(completion_ids) == len(completions):
            raise RunError(
                "R_PRMU reads token ids and users: give the columns user_id and prompt_ids and the completion_ids, one "
                "value per completion, or set rewards.gamma: 0"
            )
        personal = list(self.prmu(user_id, prompt_ids, completion_ids)) if self.prmu else [0.0] * len(completions)
        asked = example_id or [""] * len(completions)
        rows = []
        for number, (name, reference, which) in enumerate(zip(task, target, asked, strict=True)):
            self._refuse(number, name, reference, which)
        responses = [parse_response(text, self.vocabulary, self.think_prefilled) for text in completions]
        answers = [response.answer for response in responses]
        verified = verify_all(self.verifiable, [self.tasks[name] for name in task], answers, target)
        columns = zip(completions, responses, verified, task, personal, asked, strict=True)
        for number, (text, response, v, name, prmu, which) in enumerate(columns):
            f, rep = format_reward(response), repetition_reward(text, s.ngram, s.delta)
            tag = tag_reward(response, s.min_tags)
            total = guided_reward(v, rep, f, tag, prmu, s) if self.stage == "guided" else foundation_reward(v, rep, f)
            evidence = evidence_reward(response, self.shown[name, which]) if s.delta_evidence else 0.0
            total += s.delta_evidence * evidence
            if not math.isfinite(total):
                raise RunError(
                    f"reward of completion {number} for task '{name}' is not finite (R_v {v}, R_rep {rep}, "
                    f"R_PRMU {prmu}); check the PRMU checkpoint"
                )
            rows.append(Components(total, v, f, rep, tag, float(prmu), evidence))
        return rows

    def _refuse(self, number: int, task: str, target: object, example_id: str) -> None:
        """Raise RunError on a row without R_v (no task, no target) or, if it is used, without R_evidence."""
        if task not in self.tasks:
            raise RunError(f"reward of completion {number}: unknown task {task!r}; known: {', '.join(self.tasks)}")
        if not isinstance(target, str):
            raise RunError(
                f"reward of completion {number} for task '{task}': the target is {target!r}, not text; "
                "leave rows without an answer out of the training data, and write numbers as text"
            )
        if self.settings.delta_evidence and (task, example_id) not in self.shown:
            raise RunError(
                f"reward of completion {number} for task '{task}': `shown` has no example {example_id!r}; "
                "give the column example_id, or set rewards.delta_evidence: 0"
            )

    def __call__(
        self,
        prompts: Sequence[object],
        completions: Sequence[Completion],
        completion_ids: Sequence[Ids] = (),
        *,
        task: Sequence[str],
        target: Sequence[str],
        user_id: Sequence[str] = (),
        prompt_ids: Sequence[Ids] = (),
        example_id: Sequence[str] = (),
        log_metric: Callable[[str, float], None] | None = None,
        **_: object,
    ) -> list[float]:
        """TRL's reward function protocol. Chat completions (lists of messages) are read by their last content."""
        if self.decode is not None:
            texts = [self.decode(ids) for ids in completion_ids]
        else:
            texts = [completion_text(completion) for completion in completions]
        rows = self.components(texts, task, target, user_id, prompt_ids, completion_ids, example_id)
        if log_metric is not None and rows:
            for name in ("verifiable", "format", "repetition", "tag", "prmu", "evidence"):
                log_metric(f"reward/{name}", sum(getattr(row, name) for row in rows) / len(rows))
        return [row.reward for row in rows]
