"""Generators in this process: a tiny random model through transformers; vLLM's engine as far as its calls go."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Reply, Request
from tagpr.engine.cached_model import CachedModel
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import ModelError


def ask(engine: str, cache: Path, requests: list[Request], **settings) -> list[Reply]:
    block = GeneratorSettings(**{"model": "random:tiny", "engine": engine, "max_new_tokens": 12, **settings})
    return CachedModel(block, CallSettings(), cache).generate(requests)


def rollouts(text: str, count: int) -> list[Request]:
    return [Request(({"role": "user", "content": text},), sample) for sample in range(count)]


def test_transformers_rollouts_differ_repeat_and_are_cached(tmp_path, monkeypatch):
    asked = rollouts("What is it?", 4)
    first = ask("transformers", tmp_path / "a.sqlite", asked)
    assert len({reply.content for reply in first}) == 4  # temperature 1 is the default
    assert ask("transformers", tmp_path / "b.sqlite", asked) == first
    assert all(reply.prompt_tokens > 5 and 0 < reply.completion_tokens <= 12 for reply in first)
    assert all(reply.finished or reply.completion_tokens == 12 for reply in first)
    greedy = ask("transformers", tmp_path / "a.sqlite", asked, temperature=0.0)
    assert len(set(greedy)) == 1

    def load(self):
        raise AssertionError("a cached reply loaded the model")

    monkeypatch.setattr("tagpr.engine.cached_model.CachedModel.load", load)
    assert ask("transformers", tmp_path / "a.sqlite", asked[::-1]) == first[::-1]


def test_a_model_in_a_folder_is_known_by_its_files(tmp_path, monkeypatch):
    """Trained again, it is asked again; moved, it is not."""
    asked, cache = rollouts("What is it?", 2), tmp_path / "a.sqlite"
    folder = build_tiny_model(tmp_path / "teacher")
    first = ask("transformers", cache, asked, model=str(folder))
    weights = folder / "model.safetensors"
    changed = load_file(weights)
    name = next(iter(changed))
    save_file(changed | {name: changed[name] + 0.5}, weights, {"format": "pt"})
    assert ask("transformers", cache, asked, model=str(folder)) != first
    build_tiny_model(tmp_path / "moved")

    def load(self):
        raise AssertionError("a cached reply loaded the model")

    monkeypatch.setattr("tagpr.engine.cached_model.CachedModel.load", load)
    assert ask("transformers", cache, asked, model=str(tmp_path / "moved")) == first


def test_vllm_gets_a_seed_for_each_request(tmp_path, monkeypatch):
    """vLLM itself needs a GPU; what it is asked, and how its answers are read, is checked against its interface."""
    calls = []

    class LLM:
        def __init__(self, folder: str, enable_chunked_prefill: bool) -> None:
            assert (Path(folder) / "config.json").exists() and not enable_chunked_prefill  # on a CPU

        def generate(self, prompts, sampling):
            calls.append((prompts, sampling))
            assert len(prompts) == len(sampling)
            answer = [prompt["prompt_token_ids"][-3:] for prompt in prompts]
            return [
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason="length" if i else "stop")])
                for i, ids in enumerate(answer)
            ]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **kw: kw))
    replies = ask("vllm", tmp_path / "c.sqlite", rollouts("What is it?", 3), temperature=0.5, top_p=0.9)
    ((prompts, sampling),) = calls
    assert len({row["seed"] for row in sampling}) == 3 and len({str(prompt) for prompt in prompts}) == 1
    assert {(row["temperature"], row["top_p"], row["max_tokens"]) for row in sampling} == {(0.5, 0.9, 12)}
    assert [reply.finished for reply in replies] == [True, False, False]
    assert all(reply.completion_tokens == 3 for reply in replies)


def test_missing_vllm_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match="vLLM is not installed"):
        ask("vllm", tmp_path / "c.sqlite", rollouts("x", 1))
