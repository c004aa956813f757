"""PAG(-R): RAG plus a summary of the user's history that an LLM wrote beforehand (Richardson et al., 2023).

The request is the task's: research interests (LaMP-1), the commonest tags (2), usual scores of good and bad reviews
(3), a template of the titles (4, 5), style, wording and punctuation (7); a user's own task gets the request of its
kind. It sees the latest 10 past items, each field cut to 200 tokens, and answers at temperature .6 in at most 300
tokens. The prompt then holds summary, items, task in this order, under the same token budget as every other system; so
that the summary leaves room for items it is cut to a third of the budget.
Chosen here: latest items, since the summary is written before any question; the writer is the backbone unless the
recipe names another model, as the source leaves it open.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Reply, Request
from tagpr.engine.cached_model import CachedModel
from tagpr.profiles.retrieval import recency_order
from tagpr.prompts.escape import escape
from tagpr.settings import Settings
from tagpr.systems.prompted import Prompted
from tagpr.systems.protocol import Answer
from tagpr.tasks.templates import render_card
from tagpr.tasks.types import Example, Kind, Task

REQUESTS = {
    Kind.CHOICE: "In one or two sentences, say which topics this person works on or is interested in.",
    Kind.LABEL: "Say which label this person uses most, and for what; name the two or three commonest.",
    Kind.RATING: "Say which score this person usually gives when the text is positive, and which when it is negative.",
    Kind.TEXT: "Describe the template of this person's texts on the right of the arrow: length, form, usual words.",
}
"""What the summary is about, by kind of task."""
STYLE = "Describe this person's style in one or two sentences: tone, wording, punctuation, length."
"""The request if the history has texts but no outputs."""


class PAGOptions(Settings):
    """How summaries are written."""

    renamed: ClassVar[Mapping[str, str]] = {"max_tokens": "max_new_tokens"}

    writer: GeneratorSettings | None = None
    """The LLM that writes them; null: the backbone."""
    calls: CallSettings = CallSettings()
    """How a writer behind an endpoint is called."""
    entries: int = Field(default=10, ge=1)
    """Past items the writer sees, the latest."""
    field_tokens: int = Field(default=200, ge=1)
    """Tokens to which each field of an item is cut."""
    max_new_tokens: int = Field(default=300, ge=1)
    """Longest summary, in tokens."""
    temperature: float = Field(default=0.6, ge=0)
    """The writer's sampling temperature."""


class PAG(Prompted[PAGOptions]):
    """Summary, items, task."""

    Options = PAGOptions

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """Write the summaries that are missing, then answer."""
        found = self.summaries(examples)
        texts = dict(zip([(example.task, example.id) for example in examples], found, strict=True))
        self.prompts.summary = lambda task, example: texts[task.name, example.id]
        return super().predict(examples)

    def summaries(self, examples: Sequence[Example]) -> list[str]:
        """One summary per example, "" if there is no history. Equal histories are summarised once."""
        options = self.options
        writer = options.writer or GeneratorSettings(model=str(self.context.model), engine="transformers")
        changes = {"max_new_tokens": options.max_new_tokens, "temperature": options.temperature}
        settings = writer.model_copy(update=changes)
        # its own file for each writer's settings: replies of a local writer depend on what is sent together
        key = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12]
        generator = CachedModel(settings, options.calls, self.context.shared / f"summaries-{key}.sqlite")
        asked = [example for example in examples if example.profile]
        requests = [self.request(self.context.tasks[example.task], example) for example in asked]
        replies = generator.generate(requests, self.context.progress)
        room = self.context.prompt.max_prompt_tokens // 3
        written = {}
        for example, reply in zip(asked, replies, strict=True):
            if isinstance(reply, Reply):
                written[example.id] = self.shortened(escape(reply.content), room)
            else:
                self.notes["summaries refused"] += 1
        texts = [request.messages[0]["content"] for request in requests]
        for reply in dict(zip(texts, replies, strict=True)).values():
            if isinstance(reply, Reply):
                self.cost.prompt_tokens += reply.prompt_tokens
                self.cost.completion_tokens += reply.completion_tokens
        return [written.get(example.id, "") for example in examples]

    def request(self, task: Task, example: Example) -> Request:
        """The writer's prompt: past items, oldest first, then the request."""
        shown = [example.profile[i] for i in recency_order(example.profile)[: self.options.entries]]
        lines = []
        for item in reversed(shown):
            fields = {k: escape(self.shortened(v, self.options.field_tokens)) for k, v in item.fields.items()}
            lines.append("- " + render_card(task, "entry", fields))
        style = task.kind is Kind.TEXT and task.output_field is None
        asked = STYLE if style else REQUESTS[task.kind]
        text = f"Past items of one person:\n{chr(10).join(lines)}\n\n{asked}"
        return Request(({"role": "user", "content": text},))

    def shortened(self, text: str, tokens: int) -> str:
        """`text`, cut to at most so many tokens."""
        tokenizer = self.context.tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(ids) <= tokens else str(tokenizer.decode(ids[:tokens], skip_special_tokens=False))


class PAGR(PAG):
    """PAG with reasoning."""

    reasons = True
