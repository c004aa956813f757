"""`CachedModel`: requests answered by the model that a block of the recipe names, each once and for all.

Not a second kind of engine but the reply cache before one (teacher, judge, tagger, PAG's writer): what was paid for is
kept, and refusals are told from replies. A `TextModel` loaded here answers a chunk of requests at a time; an endpoint's
calls run side by side (`tagpr.clients.calls`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tagpr.clients.cache import ReplyCache, request_keys
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Refusal, Reply, Request, Spend, split_reasoning
from tagpr.engine.models import resolve_model
from tagpr.engine.text import chat_ids
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.engine.vllm_model import VLLMModel
from tagpr.files import model_digests
from tagpr.progress import Progress


class CachedModel:
    """Answers requests in order, each from the cache if it was answered before."""

    CHUNK = 256
    """Requests that a model loaded here answers between two saves."""

    def __init__(
        self, settings: GeneratorSettings, calls: CallSettings, cache: Path, spend: Spend | None = None
    ) -> None:
        """cache: the cache file. Models given the same `spend` share the caps of `calls`."""
        self.settings, self.calls, self.cache = settings, calls, cache
        self.spend = Spend() if spend is None else spend  # over the model's life
        self._model: TransformersModel | VLLMModel | None = None

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Reply | Refusal]:
        """A reply or a refusal to each request, in order; `progress` hears of each that is done.

        Raises RunError or ModelError if it cannot go on; nothing paid for is lost.
        """
        if self.settings.engine == "endpoint":
            from tagpr.clients.calls import CallEngine

            return CallEngine(self.settings, self.calls, self.cache, self.spend).generate(requests, progress)
        with ReplyCache(self.cache) as cache:
            keys = request_keys(self._by_content, requests)
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

    @cached_property
    def _by_content(self) -> GeneratorSettings:
        """The settings as keys read them: a model in a folder goes by its files, because another may come to lie there.

        A hub id, a package and a random model do not change under their names.
        """
        folder = Path(self.settings.model).expanduser()
        if not folder.is_dir():
            return self.settings
        return self.settings.model_copy(update={"model": json.dumps(model_digests(folder), sort_keys=True)})

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
