"""`CachedLocalModel`: the reply cache before a `TextModel` loaded here (transformers or vLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tagpr.clients.cache import ReplyCache, request_keys
from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Progress, Refusal, Reply, Request, split_reasoning
from tagpr.engine.models import resolve_model
from tagpr.engine.text import chat_ids
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.engine.vllm_model import VLLMModel


class CachedLocalModel:
    """Answers requests with a model loaded on first use. Replies are cached a chunk of requests at a time."""

    CHUNK = 256

    def __init__(self, settings: GeneratorSettings, cache: Path) -> None:
        self.settings = settings
        self.cache_path = cache
        self._model: TransformersModel | VLLMModel | None = None

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Reply | Refusal]:
        """Replies in the order of `requests`. Raises ModelError if the model or its library is missing."""
        with ReplyCache(self.cache_path) as cache:
            keys = request_keys(self.settings, requests)
            found: dict[bytes, Reply | Refusal] = dict(cache.get_many(list(dict.fromkeys(keys))))
            pending = list({key: r for key, r in zip(keys, requests, strict=True) if key not in found}.items())
            for start in range(0, len(pending), self.CHUNK):
                chunk = pending[start : start + self.CHUNK]
                # a whole chunk or none of it: its sampling is seeded by the chunk, so a rerun must draw the same ones
                answered = [(key, reply) for (key, _), reply in zip(chunk, self._answer(chunk), strict=True)]
                cache.put_many(answered)
                found.update(answered)
                if progress:
                    progress(min(start + self.CHUNK, len(pending)), len(pending), "")
            return [found[key] for key in keys]

    def _answer(self, chunk: Sequence[tuple[bytes, Request]]) -> list[Reply]:
        model = self.load()
        template = self.settings.extra_body.get("chat_template_kwargs", {})
        prompts = [chat_ids(model.tokenizer, request.messages, **template) for _, request in chunk]
        sampling = Sampling(
            self.settings.max_new_tokens,
            temperature=1.0 if self.settings.temperature is None else self.settings.temperature,
            top_p=self.settings.top_p or 1.0,
            seed=int.from_bytes(chunk[0][0][:4], "big"),  # of the request itself: the same everywhere
        )
        replies = []
        for prompt, (one,) in zip(prompts, model.generate(prompts, sampling), strict=True):
            reasoning, content = split_reasoning(one.text)
            replies.append(Reply(content, reasoning, one.finished, len(prompt), len(one.token_ids)))
        return replies

    def load(self) -> TransformersModel | VLLMModel:
        """The model, loaded on first use."""
        if self._model is None:
            folder = resolve_model(self.settings.model)
            kind = VLLMModel if self.settings.engine == "vllm" else TransformersModel
            self._model = kind.load(folder)
        return self._model
