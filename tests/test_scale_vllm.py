"""vLLM's CPU build as the engine of an evaluation: greedy texts are those of our own generation."""

import pytest

from tagpr.engine.loading import load_text_model
from tagpr.engine.types import Sampling
from tiny_models import tiny_qwen3


@pytest.mark.scale
def test_vllm_writes_what_transformers_writes(tmp_path, monkeypatch):
    pytest.importorskip("vllm")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    policy = tiny_qwen3(tmp_path / "policy")
    prompts = [list(range(5 + i, 40 + 3 * i)) for i in range(4)]
    sampling = Sampling(12, temperature=0)
    ours, theirs = (load_text_model(policy, engine).generate(prompts, sampling) for engine in ("transformers", "vllm"))
    assert [[one.text for one in group] for group in theirs] == [[one.text for one in group] for group in ours]
