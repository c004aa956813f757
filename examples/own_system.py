"""Compare a system of your own with two trivial baselines, from Python; no model is trained.

    python examples/own_system.py

`tagpr compare` does the same with a recipe that lists `systems: [majority, {system: "own_system.py:CommonestLabel"}]`.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tagpr.experiments.compare import compare
from tagpr.runs import Run
from tagpr.systems import Answer, System
from tagpr.tasks.types import Example, Task


class CommonestLabel(System):
    """The user's commonest label; among equally common ones the latest."""

    def covers(self, task: Task) -> bool:
        """It needs labels; the cell of another task stays empty."""
        return bool(task.labels)

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """One answer per example. Targets are None here: no system sees them."""
        field = self.context.tasks[examples[0].task].output_field
        pasts = [[item.fields[field] for item in reversed(example.profile)] for example in examples]
        return [Answer(Counter(past).most_common(1)[0][0] if past else "") for past in pasts]


if __name__ == "__main__":
    own = f'{{system: "{Path(__file__).resolve()}:CommonestLabel", label: commonest}}'
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open("smoke", [f"systems=[majority, last-label, {own}]"], Path(folder))
        task = compare(run).results.tasks["package-section"]
        for name, scores in task.systems.items():
            interval = scores.intervals[task.metric]
            print(
                f"{name:<11} {task.metric} {scores.points[task.metric]:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
            )
