"""Generators in this process: transformers (any machine) and vLLM's offline engine (a GPU), behind the same cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tagpr.clients.cache import ReplyCache, request_keys
from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Progress, Refusal, Reply, Request, split_reasoning
from tagpr.engine.models import load_causal_lm, load_tokenizer, resolve_model
from tagpr.errors import ModelError


class LocalGenerator:
    """Answers requests with a model loaded here on first use. Replies are cached a chunk of requests at a time."""

    CHUNK = 256

    def __init__(self, settings: GeneratorSettings, cache: Path) -> None:
        self.settings = settings
        self.cache_path = cache
        self._loaded: Any = None

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Reply | Refusal]:
        """Replies in the order of `requests`. Raises ModelError where the model or its library is missing."""
        with ReplyCache(self.cache_path) as cache:
            keys = request_keys(self.settings, requests)
            found = cache.get_many(list(dict.fromkeys(keys)))
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
        tokenizer, model = self._load()
        template = self.settings.extra_body.get("chat_template_kwargs", {})
        prompts = [
            tokenizer.apply_chat_template(
                [dict(m) for m in request.messages], add_generation_prompt=True, return_dict=True, **template
            )["input_ids"]
            for _, request in chunk
        ]
        seeds = [int.from_bytes(key[:4], "big") for key, _ in chunk]  # of the request itself: the same everywhere
        if self.settings.backend == "vllm":
            completions = self._vllm(model, prompts, seeds)
        else:
            completions = self._transformers(model, tokenizer, prompts, seeds[0])
        replies = []
        for prompt, (ids, finished) in zip(prompts, completions, strict=True):
            reasoning, content = split_reasoning(tokenizer.decode(ids, skip_special_tokens=True))
            replies.append(Reply(content, reasoning, finished, len(prompt), len(ids)))
        return replies

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer; loads the model."""
        return self._load()[0]

    def _load(self) -> Any:
        if self._loaded is None:
            folder = resolve_model(self.settings.model)
            tokenizer = load_tokenizer(folder)
            if self.settings.backend == "vllm":
                try:
                    from vllm import LLM
                except ImportError:
                    raise ModelError("backend vllm: vLLM is not installed; pip install vllm, or use openai") from None
                self._loaded = tokenizer, LLM(str(folder))
            else:
                self._loaded = tokenizer, load_causal_lm(folder)
        return self._loaded

    def _transformers(
        self, model: Any, tokenizer: Any, prompts: list[list[int]], seed: int
    ) -> list[tuple[list[int], bool]]:
        from tagpr.engine.generation import generate

        rows = generate(
            model,
            prompts,
            num_samples=1,
            max_new_tokens=self.settings.max_tokens,
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            seed=seed,
            eos_token_ids=[tokenizer.eos_token_id],
        )
        return [(list(row[0].token_ids), row[0].finished) for row in rows]

    def _vllm(self, engine: Any, prompts: list[list[int]], seeds: list[int]) -> list[tuple[list[int], bool]]:
        from vllm import SamplingParams

        # vLLM seeds every request by itself: with one seed for all, the rollouts of a prompt would be the same text
        sampling = [
            SamplingParams(
                temperature=self.settings.temperature,
                top_p=self.settings.top_p,
                max_tokens=self.settings.max_tokens,
                seed=seed,
            )
            for seed in seeds
        ]
        outputs = engine.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling)
        return [(list(o.outputs[0].token_ids), o.outputs[0].finish_reason == "stop") for o in outputs]
