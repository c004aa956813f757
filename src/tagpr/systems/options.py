"""Baselines of multiple choice that read neither question nor history: what a benchmark's options give away.

In PersonaMem v2 the right option is the only longest one in 45% of the questions, so that a system has to beat
`longest-option` before it is said to know its users.
"""

from collections.abc import Sequence

from tagpr.systems.protocol import Answer, NoOptions, System
from tagpr.tasks.types import Example, Kind, Task


class FirstOption(System[NoOptions]):
    """The first option."""

    def covers(self, task: Task) -> bool:
        """Choices."""
        return task.kind is Kind.CHOICE

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The label of the chosen option."""
        return [Answer(self._label(self.context.tasks[example.task], example)) for example in examples]

    def choose(self, options: Sequence[str]) -> int:
        """The place of the chosen one among the options' texts."""
        return 0

    def _label(self, task: Task, example: Example) -> str:
        options = [example.fields.get(f"option{place}", "") for place in range(1, len(task.labels) + 1)]
        return task.labels[self.choose(options)]


class LongestOption(FirstOption):
    """The option of the most characters, the first among equals."""

    def choose(self, options: Sequence[str]) -> int:
        """The place of the longest text."""
        return max(range(len(options)), key=lambda place: len(options[place]))


class ShortestOption(FirstOption):
    """The option of the fewest characters, the first among equals."""

    def choose(self, options: Sequence[str]) -> int:
        """The place of the shortest text."""
        return min(range(len(options)), key=lambda place: len(options[place]))
