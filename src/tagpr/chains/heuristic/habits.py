"""Habits counted over the shown notes: the heuristic teacher's evidence for tasks that rewrite a neutral text.

In such a task (LaMP-7's shape) the history holds past answers only, and the question is the user's own wording. For
every habit that the new note will show, the commonest value among the past notes that show it is taken, of equals the
latest; a habit that no shown note shows is taken as most users have it. This file knows nothing of tags or wording.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tagpr.chains.evidence.habits import habit_values
from tagpr.chains.evidence.notes import HABITS, chances, render, split
from tagpr.tasks.types import Example, Interaction, Task


@dataclass(frozen=True)
class HabitCount:
    """One habit as the shown notes have it. `values` is in the order shown, notes without a chance left out."""

    habit: str
    values: tuple[str, ...]
    chosen: str


class HabitEvidence:
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

    def of(
        self, example: Example, entries: Sequence[Interaction], rng: random.Random | None = None
    ) -> list[HabitCount]:
        """Every habit that the example's note will show. With `rng`, each is drawn as often as the notes have it."""
        notes = [entry.fields.get(self.task.output_name, "") for entry in entries]
        expected = chances(example.input)
        counts = []
        for habit in HABITS:
            if habit not in expected:
                continue
            kind = expected[habit]
            values = habit_values(notes, habit, kind)
            counts.append(HabitCount(habit, values, self._choose(example.user_id, habit, kind, values, rng)))
        return counts

    def _choose(self, user_id: str, habit: str, kind: str, values: tuple[str, ...], rng: random.Random | None) -> str:
        if values:
            return (
                rng.choice(values) if rng else Counter(values).most_common(1)[0][0]
            )  # of equals the first, the latest
        others = self.everybody.get((habit, kind), Counter()) - self.own.get((user_id, habit, kind), Counter())
        if not others:
            return ""
        if rng:
            return rng.choices(list(others), weights=list(others.values()))[0]
        return others.most_common(1)[0][0]

    def cited(self, example: Example, entries: Sequence[Interaction], counts: Sequence[HabitCount]) -> str:
        """The shown note that has most of the chosen habits, of equals the first; "" of none shown."""
        expected = chances(example.input)
        best, note = -1, ""
        for entry in entries:
            text = entry.fields.get(self.task.output_name, "")
            own = {count.habit: habit_values([text], count.habit, expected[count.habit]) for count in counts}
            agreeing = sum(count.chosen in own[count.habit] for count in counts)
            if agreeing > best:
                best, note = agreeing, text
        return note


def written(neutral: str, counts: Sequence[HabitCount]) -> str:
    """The note in the chosen habits."""
    return render(neutral, {count.habit: count.chosen for count in counts})
