"""One rollout: which prompts, their sampled completions, their rewards. Everything follows from (seed, step)."""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch

from tagpr.engine.shared_prompt import PromptGroup
from tagpr.engine.types import Completion, Sampling, TextModel
from tagpr.errors import RunError
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings

Reward = Callable[..., Sequence[float]]
"""TRL's protocol: (prompts, completions, and by name the columns of the rows) -> one number per completion."""


@dataclass(frozen=True)
class Rollout:
    """Groups of completions with their rewards. Lists run over groups, then over completions."""

    rows: list[TrainingRow]
    completions: list[list[Completion]]
    texts: list[list[str]]
    rewards: list[list[float]]
    components: dict[str, list[float]] = field(default_factory=dict)  # flat, one value per completion

    def group(self, index: int) -> PromptGroup:
        """The token ids of one group."""
        return PromptGroup(self.rows[index].prompt_ids, [c.token_ids for c in self.completions[index]])

    def differs(self, component: str) -> list[bool]:
        """For every group, whether its completions differ in a component of the reward.

        Raises RunError if the reward does not tell that component.
        """
        if component not in self.components:
            raise RunError(
                f"the reward does not tell its part '{component}' (components), which groups: needs; set all"
            )
        values, size = self.components[component], len(self.completions[0])
        return [len(set(values[i : i + size])) > 1 for i in range(0, len(values), size)]

    def joined(self, other: Rollout) -> Rollout:
        """The groups of both."""
        return Rollout(
            [*self.rows, *other.rows],
            [*self.completions, *other.completions],
            [*self.texts, *other.texts],
            [*self.rewards, *other.rewards],
            {name: [*values, *other.components[name]] for name, values in self.components.items()},
        )


def derived_seed(*parts: int) -> int:
    """One 62-bit seed from several numbers, the same on every machine."""
    digest = hashlib.blake2b(struct.pack(f"<{len(parts)}q", *parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def rows_of_step(step: int, rows: int, per_step: int, seed: int) -> list[int]:
    """Which rows rollout `step` uses: every epoch a new seeded order, steps running on across epochs."""
    chosen = []
    for place in range(step * per_step, (step + 1) * per_step):
        epoch, offset = divmod(place, rows)
        generator = torch.Generator().manual_seed(derived_seed(seed, 1, epoch))
        chosen.append(int(torch.randperm(rows, generator=generator)[offset]))
    return chosen


def minibatches_of_step(step: int, settings: GSPOSettings, seed: int) -> list[list[int]]:
    """Places of the prompts of rollout `step` (from 0) in each of its updates; the same for any number of processes."""
    generator = torch.Generator().manual_seed(derived_seed(seed, 3, step))
    order = torch.randperm(settings.prompts_per_step, generator=generator).tolist()
    return [order[i :: settings.minibatches] for i in range(settings.minibatches)]


def capped(rows: Sequence[TrainingRow], most: int | Mapping[str, int] | None, seed: int) -> list[TrainingRow]:
    """At most `most` rows of every task (or as many as it says of each), drawn by `seed`, in order; None: all."""
    if most is None:
        return list(rows)
    limits = most if isinstance(most, Mapping) else {row.task: most for row in rows}
    return _drawn(rows, lambda row: row.task, lambda row: limits.get(row.task), random.Random(seed))


def of_every_user(rows: Sequence[TrainingRow], most: int | None, seed: int) -> list[TrainingRow]:
    """At most `most` rows of every user of every task, drawn by `seed`, in order; None: all."""
    return _drawn(rows, lambda row: (row.task, row.user_id), lambda _: most, random.Random(seed))


def _drawn(
    rows: Sequence[TrainingRow],
    part: Callable[[TrainingRow], Hashable],
    most: Callable[[TrainingRow], int | None],
    draw: random.Random,
) -> list[TrainingRow]:
    """At most `most` rows of every part, in order."""
    places: dict[Hashable, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(part(row), []).append(i)
    chosen: set[int] = set()
    for own in places.values():
        limit = most(rows[own[0]])
        chosen.update(own if limit is None or len(own) <= limit else draw.sample(own, limit))
    return [row for i, row in enumerate(rows) if i in chosen]


def roll_out(
    model: TextModel,
    rows: list[TrainingRow],
    reward: Reward,
    sampling: Sampling,
) -> Rollout:
    """Sample `sampling.num_samples` completions of each row (its group) and score them. Raises RunError if a reward is
    not finite.
    """
    completions = model.generate([row.prompt_ids for row in rows], sampling)
    flat_texts = [c.text for group in completions for c in group]
    values, components = score(reward, rows, flat_texts, [c.token_ids for g in completions for c in g])
    size = sampling.num_samples
    return Rollout(
        rows,
        completions,
        [flat_texts[i : i + size] for i in range(0, len(flat_texts), size)],
        [values[i : i + size] for i in range(0, len(values), size)],
        components,
    )


def score(
    reward: Reward, rows: Sequence[TrainingRow], texts: list[str], ids: list[list[int]]
) -> tuple[list[float], dict[str, list[float]]]:
    """Rewards of `texts` (len(rows) groups of equal size) and, if the reward tells, its components by name."""
    repeat = len(texts) // len(rows)
    each = [row for row in rows for _ in range(repeat)]
    prompts = [row.prompt_ids for row in each]
    columns = {key: [row.about()[key] for row in each] for key in rows[0].about()}
    components: dict[str, list[float]] = {}
    tell = getattr(reward, "components", None)
    if tell is not None:
        parts = tell(texts, **columns, prompt_ids=prompts, completion_ids=ids)
        tables = [dict(part) if isinstance(part, Mapping) else asdict(part) for part in parts]
        components = {key: [float(table[key]) for table in tables] for key in tables[0]}
        values = components.pop("reward")
    else:
        values = [float(v) for v in reward(prompts, texts, completion_ids=ids, prompt_ids=prompts, **columns)]
    if bad := [i for i, value in enumerate(values) if not math.isfinite(value)]:
        raise RunError(f"the reward of completion {bad[0]} is {values[bad[0]]}; it must be a finite number")
    return values, components
