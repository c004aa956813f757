"""`EndpointModel`: a model behind an OpenAI-compatible endpoint as a `TextModel`, through the caching call engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tagpr.clients.calls import CallEngine
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Refusal, Reply, Request, Spend
from tagpr.engine.types import Completion, Prompts, Sampling
from tagpr.errors import ModelError
from tagpr.progress import Progress


class EndpointModel:
    """Completes chats at an endpoint. Completions have text but no token ids; a refused one is empty and unfinished."""

    def __init__(
        self, settings: GeneratorSettings, calls: CallSettings, cache: Path, spend: Spend | None = None
    ) -> None:
        self.settings, self.calls, self.cache, self.spend = settings, calls, cache, spend or Spend()

    def generate(
        self, prompts: Prompts, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_samples` completions of each chat; sample number and `sampling.seed` tell the calls apart.

        Raises ModelError for prompts in token ids and for log-probs, which an endpoint does not take and give.
        """
        if sampling.logprobs:
            raise ModelError(f"{self.settings.base_url}: an endpoint gives no log-probs; use engine transformers")
        requests = []
        for prompt in prompts:
            messages = tuple(part for part in prompt if isinstance(part, Mapping))
            if len(messages) < len(prompt):
                raise ModelError(f"{self.settings.base_url}: an endpoint takes messages, not token ids")
            requests += [Request(messages, sampling.seed + i) for i in range(sampling.num_samples)]
        settings = self.settings.model_copy(
            update={
                "max_new_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
            }
        )
        replies = CallEngine(settings, self.calls, self.cache, self.spend).generate(requests, progress)
        rows = [_completion(reply) for reply in replies]
        size = sampling.num_samples
        return [rows[i * size : (i + 1) * size] for i in range(len(prompts))]


def _completion(reply: Reply | Refusal) -> Completion:
    if isinstance(reply, Refusal):
        return Completion([], None, False)
    return Completion([], None, reply.finished, text=reply.text, reply_tokens=reply.completion_tokens)
