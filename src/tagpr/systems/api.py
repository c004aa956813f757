"""`api:MODEL`: any model behind an OpenAI-compatible endpoint, given the same prompt as every other system.

Calls are cached, retried and capped by `tagpr.clients.calls`, so a killed comparison never pays again for the same
call. The prompt budget is counted with the backbone's tokenizer, so that every system sees the same text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from tagpr.clients.cache import default_cache
from tagpr.clients.settings import CallSettings, GeneratorSettings, Price
from tagpr.clients.types import Reply, Request
from tagpr.engine.cached_model import CachedModel
from tagpr.settings import RecipePath, Settings
from tagpr.systems.context import Context
from tagpr.systems.prompted import Prompted
from tagpr.systems.protocol import Answer
from tagpr.tasks.types import Example


class APIOptions(Settings):
    """Where the model is and what it may cost; its name follows `api:`."""

    renamed: ClassVar[Mapping[str, str]] = {"max_tokens": "max_new_tokens"}

    base_url: str = "https://api.openai.com/v1"
    """Endpoint, up to and with `/v1`."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key."""
    reasons: bool = False
    """Ask for tagged reasoning before the answer (the -R prompt)."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    max_new_tokens: int = Field(default=4096, ge=1)
    """Most tokens of one completion, reasoning included."""
    price: Price = Price()
    """For `calls.max_cost`."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further request fields the server understands."""
    calls: CallSettings = CallSettings()
    """Concurrency, patience and caps."""
    cache: RecipePath | None = None
    """SQLite file of replies; null: `calls.sqlite` in the user's cache folder."""


class API(Prompted[APIOptions]):
    """A model behind an endpoint."""

    Options = APIOptions
    model = ""
    """The model's name at the endpoint; the registry fills it in."""

    def __init__(self, context: Context, options: APIOptions | None = None) -> None:
        super().__init__(context, options)
        self.reasons = self.options.reasons

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """One reply an example; a refused request leaves an empty answer and is counted in `notes`."""
        given = self.options.model_dump(exclude={"reasons", "calls", "cache"})
        settings = GeneratorSettings(model=self.model, **given)
        generator = CachedModel(settings, self.options.calls, self.options.cache or default_cache())
        prompts = [self.prompts.build(self.context.tasks[e.task], e, self.with_profile) for e in examples]
        requests = [Request(tuple(prompt.messages)) for prompt in prompts]
        answers = []
        for example, reply in zip(examples, generator.generate(requests, self.context.progress), strict=True):
            if not isinstance(reply, Reply):
                self.notes[f"refused: {reply.kind}"] += 1
                answers.append(Answer("", 0, seen=self.seen(example)))
                continue
            self.cost.prompt_tokens += reply.prompt_tokens
            self.cost.completion_tokens += reply.completion_tokens
            answers.append(Answer(reply.text, finished=reply.finished, seen=self.seen(example)))
        return answers
