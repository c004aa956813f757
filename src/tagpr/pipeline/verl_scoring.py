"""Completions of verl's workers to rewards: texts from token ids, the composite reward on many at once, and the notes
that the stage's log is made of later.

Texts are decoded from the tokens, because verl's own reward managers lose a `<think>` that is a special token.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.engine.models import load_tokenizer
from tagpr.engine.text import end_token_ids, turn_decoder
from tagpr.training.settings import GSPOSettings
from tagpr.training.verl.layout import SCORED
from tagpr.training.verl.scored import Scored, append

if TYPE_CHECKING:
    from tagpr.rewards.composite import CompositeReward


@dataclass(frozen=True)
class Sample:
    """One completion with what the reward reads, and its place."""

    task: str
    user_id: str
    example_id: str
    target: str
    prompt_ids: list[int]
    completion_ids: list[int]
    step: int
    heldout: bool
    row: int
    prompt: str
    session: int


class Scorer:
    """Scores the completions of one stage."""

    def __init__(self, reward: "CompositeReward", policy: Path, settings: GSPOSettings, log: Path) -> None:
        """policy: the checkpoint whose tokens they are; log: the folder of the launch."""
        tokenizer = load_tokenizer(policy)
        self.end_ids = end_token_ids(tokenizer, folder=policy)
        self.decode = turn_decoder(tokenizer, self.end_ids)
        self.reward, self.log = reward, log / SCORED
        self._groups_shown = settings.samples_per_step // settings.group_size
        self._shown: dict[int, set[str]] = {}
        """By step, the prompts whose texts are noted."""

    def score(self, samples: list[Sample]) -> list[dict[str, float]]:
        """`reward` and its parts, by name, of each completion. Raises RunError as `CompositeReward` does."""
        texts = [self.decode(sample.completion_ids) for sample in samples]
        rows = self.reward.components(
            texts,
            [sample.task for sample in samples],
            [sample.target for sample in samples],
            [sample.user_id for sample in samples],
            [sample.prompt_ids for sample in samples],
            [sample.completion_ids for sample in samples],
            [sample.example_id for sample in samples],
        )
        found = [asdict(row) for row in rows]
        for sample, text, parts in zip(samples, texts, found, strict=True):
            append(self.log, self._noted(sample, text, parts))
        return found

    def _noted(self, sample: Sample, text: str, parts: dict[str, float]) -> Scored:
        shown = self._shown.setdefault(sample.step, set())
        if len(shown) < self._groups_shown and not sample.heldout:
            shown.add(sample.prompt)
        ids = sample.completion_ids
        finished = bool(ids) and ids[-1] in self.end_ids
        place = (sample.step, sample.heldout, sample.row, sample.prompt, sample.session)
        return Scored(*place, len(ids), finished, parts, text if sample.prompt in shown else "")
