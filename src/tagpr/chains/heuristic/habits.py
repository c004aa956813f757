"""Habits of the shown notes: the heuristic teacher's evidence for tasks that rewrite a neutral text.

In such a task (LaMP-7's shape) the history holds past answers only, and the question is the user's own wording. Of
every habit that the new note will show, a value is taken that the past notes have: the commonest, of equals the latest
(`CountedHabits`), or the one that a fitted model finds likeliest (`JudgedHabits`); of a habit that no shown note shows,
a value that other users have. This file knows nothing of tags or wording.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from tagpr.chains.evidence.habits import habit_values
from tagpr.chains.evidence.notes import HABITS, Habits, chances, split
from tagpr.chains.heuristic.habit_model import HabitModels
from tagpr.tasks.types import Example, Interaction, Task

Weighed = Mapping[str, Mapping[str, float]]
"""Habit -> possible value -> how likely it is, up to a factor."""


class CountedHabits:
    """Learns from training items how most users write; a user's own items are left out of what is said of that user."""

    def __init__(self, task: Task, train: Sequence[Example]) -> None:
        self.task = task
        self.everybody: dict[tuple[str, str], Counter[str]] = {}
        self.own: dict[tuple[str, str, str], Counter[str]] = {}
        for example in train:
            neutral, habits = split(example.target or "")
            for habit, kind in chances(neutral).items():
                if habit in habits:
                    self.everybody.setdefault((habit, kind), Counter())[habits[habit]] += 1
                    self.own.setdefault((example.user_id, habit, kind), Counter())[habits[habit]] += 1

    def of(self, example: Example, entries: Sequence[Interaction]) -> Habits:
        """The likeliest value of every habit that the example's note will show."""
        return likeliest(self.weighed(example, entries))

    def weighed(self, example: Example, entries: Sequence[Interaction]) -> Weighed:
        """Every habit that the example's note will show -> the weight of each possible value, the latest shown first.

        Possible are the values that the shown notes have, and only if they have none those of other users.
        """
        notes = [entry.fields.get(self.task.output_name, "") for entry in entries]
        expected, found = chances(example.input), {}
        for habit in HABITS:
            if habit in expected:
                counts = Counter(habit_values(notes, habit, expected[habit]))
                counts = counts or self._of_others(example.user_id, habit, expected[habit])
                found[habit] = self.weights(example, notes, habit, expected[habit], counts)
        return found

    def weights(
        self, example: Example, notes: Sequence[str], habit: str, kind: str, counts: Counter[str]
    ) -> Mapping[str, float]:
        """How likely each of the counted values is, up to a factor: as it was counted."""
        return counts

    def _of_others(self, user_id: str, habit: str, kind: str) -> Counter[str]:
        return self.everybody.get((habit, kind), Counter()) - self.own.get((user_id, habit, kind), Counter())


class JudgedHabits(CountedHabits):
    """A fitted model weighs the values."""

    def __init__(self, task: Task, train: Sequence[Example]) -> None:
        super().__init__(task, train)
        self.models = HabitModels(task, train)

    def weights(
        self, example: Example, notes: Sequence[str], habit: str, kind: str, counts: Counter[str]
    ) -> Mapping[str, float]:
        """The model's probability of each; as it was counted if no note is shown or the model knows none of them."""
        if not notes:  # the models learn from users who have notes
            return counts
        posterior = self.models.posterior(example, notes, habit, kind)
        return {value: posterior[value] for value in counts if value in posterior} or counts

    def cited(self, example: Example, entries: Sequence[Interaction], chosen: Habits) -> str:
        """The shown note that ends as chosen and has most of the other habits, of equals the first; "" of none shown.

        How a note ends has many forms, which are copied best from a note that was just quoted.
        """
        expected = chances(example.input)
        best, note = (False, -1), ""
        for entry in entries:
            text = entry.fields.get(self.task.output_name, "")
            agreeing = {
                habit for habit, value in chosen.items() if value in habit_values([text], habit, expected[habit])
            }
            if ("end" in agreeing, len(agreeing)) > best:
                best, note = ("end" in agreeing, len(agreeing)), text
        return note


def likeliest(weighed: Weighed) -> Habits:
    """Every habit with its likeliest value; "" if nobody showed one."""
    return {habit: max(weights, key=weights.__getitem__, default="") for habit, weights in weighed.items()}


def drawn(weighed: Weighed, rng: random.Random, temperature: float) -> Habits:
    """Every habit with a value drawn as often as it is likely at this temperature; "" if nobody showed one."""
    power = 1 / temperature
    return {
        habit: rng.choices(list(weights), [weight**power for weight in weights.values()])[0] if weights else ""
        for habit, weights in weighed.items()
    }
