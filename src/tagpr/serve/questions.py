"""`Asked`: a user's question as it is put to the model, worded like the prompts of training."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from tagpr.chains.evidence import Shown
from tagpr.data.values import plain_text
from tagpr.errors import DataError
from tagpr.prompts.cuts import Cuts
from tagpr.prompts.ids import message_ids, prompt_ids
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.serve.served_run import ServedRun, SystemName
from tagpr.tasks.templates import names_in
from tagpr.tasks.types import Example, Interaction, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QuestionText = str | Mapping[str, str]
"""A question's text, or the fields that the card's `question` template shows, by name."""


@dataclass(frozen=True)
class Asked:
    """One question with the history shown for it and its prompt."""

    user: str
    system: SystemName
    task: Task
    example: Example
    history_of: str
    entries: tuple[Interaction, ...]
    """The history items in the prompt, best first."""
    messages: tuple[Mapping[str, str], ...]
    prompt_ids: tuple[int, ...]
    public: int = 0
    """How many of its first tokens are the same whoever asks: the instruction."""
    cuts: Cuts = field(default_factory=dict)
    """What the prompt shows of texts that it cuts."""

    @property
    def shown(self) -> Shown:
        """The question and the history items with the texts that the prompt shows."""
        return Shown.of(self.task, self.example, self.entries, self.cuts)

    @property
    def owners(self) -> tuple[str, ...]:
        """The users whose text the prompt holds: who asks, and whose history is shown."""
        return tuple(sorted({self.user, self.history_of} - {""}))


def require_fields(task: Task, question: QuestionText) -> None:
    """Raise DataError for a field that the task's card does not have: a slip of the pen would be asked as if it were
    the question.
    """
    if isinstance(question, str):
        return
    asked = dict.fromkeys((*task.input_fields, *names_in(task.question), *names_in(task.query), "input"))
    asked.pop("task", None)  # the card itself
    known = {*asked, *task.columns.values(), task.output_name, *re.compile(task.input_pattern or "").groupindex}
    if wrong := next((name for name in question if name not in known), None):
        raise DataError(
            f"task {task.name}: a question has no field {plain_text(wrong)[:40]!r}; it has {', '.join(asked)}"
        )


def make_example(task: Task, user_id: str, question: QuestionText, history: Sequence[Interaction]) -> Example:
    """The question as an example without a target. Raises DataError for an empty one."""
    if isinstance(question, str):
        text = plain_text(question).strip()
        fields = {task.input_name: text}
    else:
        fields = {name: plain_text(value) for name, value in question.items()}
        text = fields.get("input", fields.get(task.input_name, "\n".join(fields.values()))).strip()
    if not text:
        raise DataError(f"task {task.name}: the question is empty; write one")
    return Example("question", user_id, task.name, text, None, tuple(history), fields=fields)


def put(
    run: ServedRun,
    system: SystemName,
    tokenizer: "PreTrainedTokenizerBase",
    task: Task,
    example: Example,
    history_of: str,
) -> Asked:
    """The example as a prompt: history chosen, worded and cut to the budget with the run's own settings.

    The builder lives for one question: what it keeps of a history goes with it. Raises RecipeError if the card's
    template needs a field that the question does not give.
    """
    prompt = PromptBuilder(tokenizer, run.profile, run.prompt, run.vocabulary.names, run.seed).build(task, example)
    ids = prompt_ids(prompt, tokenizer)
    nobodys = [message if message["role"] == "system" else {**message, "content": ""} for message in prompt.messages]
    return Asked(
        *(example.user_id, system, task, example, history_of),
        entries=prompt.entries,
        messages=tuple(prompt.messages),
        prompt_ids=tuple(ids),
        public=_alike(ids, message_ids(nobodys, tokenizer)),
        cuts=prompt.cuts,
    )


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
