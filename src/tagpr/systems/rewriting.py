"""Rows without a model for tasks that rewrite a neutral text in a user's wording (`package-changelog`).

`neutral-copy`: the neutral text as it is. `common-habits`: the neutral text in the habits of most users of the
training examples. `own-habits`: in the habits counted over the own latest notes, of which the commonest value is taken.
"""

from collections.abc import Sequence

from tagpr.chains.evidence.habits import rewrites
from tagpr.chains.evidence.notes import render
from tagpr.chains.heuristic.habits import CountedHabits
from tagpr.systems.protocol import Answer, NoOptions, System
from tagpr.tasks.types import Example, Interaction, Task

LATEST = 12
"""Notes that `own-habits` counts over, the latest ones."""


class NeutralCopy(System[NoOptions]):
    """The neutral text itself."""

    def covers(self, task: Task) -> bool:
        """Tasks that rewrite a given text."""
        return rewrites(task)

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The given text as it is."""
        return [Answer(example.input) for example in examples]


class CommonHabits(NeutralCopy):
    """How most users write."""

    def fit(self, train: Sequence[Example]) -> None:
        """Count habits per task."""
        self.habits = {
            name: CountedHabits(task, [example for example in train if example.task == name])
            for name, task in self.context.tasks.items()
            if rewrites(task)
        }

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The given text written with the habits of `history`; those of the training examples if it shows none."""
        return [
            Answer(render(example.input, self.habits[example.task].of(example, self.history(example))))
            for example in examples
        ]

    def history(self, example: Example) -> Sequence[Interaction]:
        """The notes that are counted, the latest first."""
        return ()


class OwnHabits(CommonHabits):
    """How the user writes; what the user's notes do not show, as most users do."""

    def history(self, example: Example) -> Sequence[Interaction]:
        """The latest entries only, newest first."""
        return example.profile[: -LATEST - 1 : -1]
