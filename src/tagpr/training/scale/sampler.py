"""Which rows TRL's trainer is given, in which order: those of `train_gspo`'s steps and minibatches."""

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from tagpr.training.rollout import minibatches_of_step, rows_of_step
from tagpr.training.settings import GSPOSettings


class StepSampler(Sampler[int]):
    """Row numbers, every prompt G times, as TRL's dataloader divides them: process by process, minibatch by minibatch.

    TRL rolls out when a step begins and reads the same batch again for every update, so each step's rows come
    `minibatches` times.
    """

    def __init__(self, settings: GSPOSettings, rows: int, total: int, seed: int, processes: int) -> None:
        """rows: how many there are; total: rollout steps."""
        self.settings, self.rows, self.total, self.seed, self.processes = settings, rows, total, seed, processes

    def __iter__(self) -> Iterator[int]:
        s = self.settings
        for step in range(self.total):
            chosen = rows_of_step(step * s.oversample, self.rows, s.prompts_per_step, self.seed)
            places = divided(minibatches_of_step(step, s, self.seed), self.processes)
            block = [chosen[place] for place in places for _ in range(s.group_size)]
            for _ in range(s.minibatches):
                yield from block

    def __len__(self) -> int:
        s = self.settings
        return self.total * s.minibatches * s.prompts_per_step * s.group_size


def divided(parts: Sequence[Sequence[int]], processes: int) -> list[int]:
    """The places of a step's prompts by process, then by minibatch: each process has its share of every minibatch."""
    share = len(parts[0]) // processes
    return [place for rank in range(processes) for part in parts for place in part[rank * share : (rank + 1) * share]]
