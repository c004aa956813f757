"""`PromptBuilder`: choosing history, wording and tokenising in one object, with the same settings for every stage."""

from collections.abc import Callable, Sequence
from typing import Any

from tagpr.profiles.memory import ProfileMemory
from tagpr.profiles.retrieval import choose
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.prompts.escape import escape
from tagpr.prompts.ids import prompt_ids
from tagpr.prompts.messages import Prompt, build_prompt
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks.types import Example, Task


class PromptBuilder:
    """Prompts as the policy sees them. The last ones built are kept."""

    KEPT = 1024
    """How many: memory does not grow with the number of users."""

    def __init__(
        self, tokenizer: Any, profile: ProfileSettings, prompt: PromptSettings, tags: tuple[str, ...], seed: int
    ) -> None:
        self.tokenizer, self.profile, self.prompt, self.tags, self.seed = tokenizer, profile, prompt, tags, seed
        self.memory = ProfileMemory(profile.memory, self.count_tokens)
        self.summary: Callable[[Task, Example], str] = self._memory_of
        """A summary of an example's history, shown before it if there is one."""
        self._built: dict[tuple[str, str, bool], tuple[Example, Prompt]] = {}

    def count_tokens(self, text: str) -> int:
        """Tokens of a text without special tokens."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prepare(self, task: Task, examples: Sequence[Example]) -> None:
        """Write the memories of these examples' histories side by side, if prompts are to show any."""
        if self.profile.retriever is Retriever.MEMORY:
            self.memory.of_all(task, [example.profile for example in examples])

    def _memory_of(self, task: Task, example: Example) -> str:
        """The written memory, under `retriever: memory`; user text in it is escaped."""
        return escape(self.memory.of(task, example.profile)) if self.profile.retriever is Retriever.MEMORY else ""

    def build(self, task: Task, example: Example, with_profile: bool = True) -> Prompt:
        """The prompt of an example; without its profile it is the zero-shot prompt of the same question."""
        key = (task.name, example.id, with_profile)
        kept = self._built.get(key)
        if kept is None or kept[0] is not example:  # the same question may come again with another history
            entries = choose(task, example, self.profile, self.seed) if with_profile else ()
            summary = self.summary(task, example) if with_profile else ""
            prompt = build_prompt(task, example, entries, self.prompt, self.count_tokens, self.tags, summary)
            if len(self._built) >= self.KEPT:
                del self._built[next(iter(self._built))]
            kept = self._built[key] = example, prompt
        return kept[1]

    def ids(self, task: Task, example: Example, with_profile: bool = True) -> list[int]:
        """Token ids of the prompt, chat template and generation prompt included."""
        return prompt_ids(self.build(task, example, with_profile), self.tokenizer)
