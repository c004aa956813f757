"""The generator against transformers' own greedy decoding, and what sampling must not depend on."""

from itertools import chain

import pytest
import torch

from tagpr.engine.generation import generate
from tagpr.engine.graphed_step import GraphedStep
from tagpr.engine.sampling import choose
from tagpr.engine.types import Sampling
from tiny_models import ARCHITECTURES, tiny_model


def prompts(n=7, seed=0, prefix=4):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(3, 97, (prefix,), generator=generator).tolist()
    lengths = torch.randint(1, 20, (n,), generator=generator).tolist()
    return [start + torch.randint(3, 97, (length,), generator=generator).tolist() for length in lengths]


def hf_greedy(model, prompt, steps, eos):
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_greedy_equals_transformers(architecture, rows):
    model, eos = tiny_model(architecture), [2, 5, 11, 40]
    batch = prompts()
    found = generate(model, batch, Sampling(12, temperature=0), end_ids=eos, batch_size=rows)
    for prompt, (completion,) in zip(batch, found, strict=True):
        assert completion.token_ids == hf_greedy(model, prompt, 12, eos)
        assert completion.finished == (completion.token_ids[-1] in eos)


@pytest.mark.parametrize("length", [4, 32])
def test_rows_grow_with_what_is_drawn(length, monkeypatch):
    monkeypatch.setattr("tagpr.engine.decoding.LENGTHS", length)
    model, batch = tiny_model("llama"), prompts()
    found = [own.token_ids for (own,) in generate(model, batch, Sampling(70, temperature=0), end_ids=[2], batch_size=3)]
    assert max(map(len, found)) > 64  # lengthened twice or more
    assert found == [hf_greedy(model, prompt, 70, [2]) for prompt in batch]


@pytest.mark.parametrize("prefix", [0, 4])
def test_samples_do_not_depend_on_the_batch(prefix, monkeypatch):
    model, batch = tiny_model("llama"), prompts(prefix=prefix)
    sampling, ends = Sampling(10, 4, seed=3), [2, 5, 11]
    together = generate(model, batch, sampling, end_ids=ends, batch_size=64)
    with monkeypatch.context() as patch:
        patch.setattr("tagpr.engine.generation.TOKENS_PER_PREFILL_ON_CPU", 30)
        patch.setattr("tagpr.engine.sampling.CPU_NUMBERS", 200)  # two rows of logits
        patch.setattr("tagpr.engine.group_attention._QUERIES", 3)
        narrow = generate(model, batch, sampling, end_ids=ends, batch_size=8)
    alone = [generate(model, [prompt], sampling, end_ids=ends)[0] for prompt in batch]
    assert together == narrow == alone
    assert len({tuple(c.token_ids) for c in together[0]}) > 1
    assert generate(model, batch, Sampling(10, 4, seed=4), end_ids=ends) != together


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rows", [8, 64])
def test_steps_of_fixed_shapes_draw_the_same(architecture, rows, monkeypatch):
    """What a GPU records, computed here without a record: same samples, slots refilled and unequal ends included."""
    model, batch = tiny_model(architecture), prompts()
    sampling, ends = Sampling(10, 4, seed=3, logprobs=True), [2, 5, 11, 40]
    as_usual = generate(model, batch, sampling, end_ids=ends, batch_size=rows)
    steps = []
    monkeypatch.setattr("tagpr.engine.generation.RECORDED_ON", ("cpu",))
    monkeypatch.setattr(GraphedStep, "_compute", lambda self, own=GraphedStep._compute: steps.append(1) or own(self))
    fixed = generate(model, batch, sampling, end_ids=ends, batch_size=rows)
    assert steps
    for one, other in zip(chain(*as_usual), chain(*fixed), strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_model_that_cannot_be_recorded_decodes_as_usual(monkeypatch, caplog):
    model, batch = tiny_model("llama"), prompts()
    as_usual = generate(model, batch, Sampling(10, 4, seed=3), end_ids=[2])
    monkeypatch.setattr("tagpr.engine.generation.RECORDED_ON", ("cpu",))

    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(GraphedStep, "__init__", fails)
    assert generate(model, batch, Sampling(10, 4, seed=3), end_ids=[2]) == as_usual
    assert "not recorded (operation not permitted" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="recording a step needs a GPU")
def test_a_recorded_step_draws_what_an_unrecorded_one_does(monkeypatch):
    model, batch = tiny_model("llama").to("cuda"), prompts()
    recorded = generate(model, batch, Sampling(10, 4, seed=3), end_ids=[2, 5], batch_size=16)
    monkeypatch.setattr("tagpr.engine.generation.RECORDED_ON", ())
    assert generate(model, batch, Sampling(10, 4, seed=3), end_ids=[2, 5], batch_size=16) == recorded


def test_equal_prompts_get_different_samples():
    model, prompt = tiny_model("llama"), prompts()[0]
    first, second = generate(model, [prompt, prompt], Sampling(10, 3), end_ids=[2])
    assert [c.token_ids for c in first] != [c.token_ids for c in second]


def test_logprobs_are_the_models():
    model, batch = tiny_model("qwen3"), prompts(3)
    out = generate(model, batch, Sampling(6, 2, temperature=0.8, logprobs=True), end_ids=[2])
    for prompt, group in zip(batch, out, strict=True):
        for c in group:
            logits = model(torch.tensor([prompt + c.token_ids])).logits[0, len(prompt) - 1 : -1] / 0.8
            expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(c.token_ids)[:, None]).squeeze(1)
            assert torch.allclose(torch.tensor(c.logprobs), expected, atol=1e-4)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(40_000, -1)
    numbers = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(choose(logits, numbers, 1.0, 1.0), minlength=4) / 40_000
    assert torch.allclose(shares, torch.softmax(logits[0], -1), atol=0.01)
    nucleus = choose(logits, numbers, 1.0, 0.7)
    assert set(nucleus.tolist()) == {1, 2}


def test_sliding_window_falls_back(caplog):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8, "initializer_range": 0.3}
    model = MistralForCausalLM(MistralConfig(**sizes, **heads)).eval()
    batch = prompts(3)
    found = generate(model, batch, Sampling(5, temperature=0), end_ids=[2])
    assert "not shared" in caplog.text
    assert [c.token_ids for (c,) in found] == [hf_greedy(model, prompt, 5, [2]) for prompt in batch]
