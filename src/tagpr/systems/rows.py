"""The one place where examples become rows to train on (`tagpr.training.rows`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tagpr.engine.text import learned_ids
from tagpr.tasks.types import Example, Task
from tagpr.training.answer_weights import answer_weights
from tagpr.training.rows import TrainingRow

if TYPE_CHECKING:
    from tagpr.prompts.prompt_builder import PromptBuilder


def training_row(
    prompts: "PromptBuilder", task: Task, example: Example, texts: Sequence[str] = (), answer_weight: float = 1.0
) -> TrainingRow:
    """The example's prompt, with `texts` as completions to learn (SFT) or without any (RL).

    answer_weight: `sft.answer_weight`, of the chains among the texts. Raises RecipeError as `answer_weights` does.
    """
    return TrainingRow(
        prompts.ids(task, example),
        [learned_ids(prompts.tokenizer, text) for text in texts],
        task.name,
        example.user_id,
        example.id,
        example.target,
        [answer_weights(prompts.tokenizer, text, answer_weight) for text in texts],
    )
