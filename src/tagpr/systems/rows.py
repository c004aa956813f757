"""The one place where examples become rows to train on (`tagpr.training.rows`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tagpr.engine.text import learned_ids
from tagpr.tasks.types import Example, Task
from tagpr.training.rows import TrainingRow

if TYPE_CHECKING:
    from tagpr.prompts.prompt_builder import PromptBuilder


def training_row(prompts: "PromptBuilder", task: Task, example: Example, texts: Sequence[str] = ()) -> TrainingRow:
    """The example's prompt, with `texts` as completions to learn (SFT) or without any (RL)."""
    return TrainingRow(
        prompts.ids(task, example),
        [learned_ids(prompts.tokenizer, text) for text in texts],
        task.name,
        example.user_id,
        example.id,
        example.target,
    )
