"""Shared-prompt log-probabilities and gradients against one stock left-padded row per completion, in fp32."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tagpr.engine import shared_prompt
from tagpr.engine.shared_prompt import (
    PackedLayout,
    PromptGroup,
    common_opening,
    completion_logprobs,
    completion_logprobs_and_entropies,
    micro_batches,
)
from tagpr.errors import ModelError
from tiny_models import ARCHITECTURES, tiny_model


def stock(model, groups):
    """Left-padded batch of prompt + completion rows through the untouched model."""
    rows = [(list(g.prompt), list(c)) for g in groups for c in g.completions]
    longest_p, longest_c = max(len(p) for p, _ in rows), max(len(c) for _, c in rows)
    ids = torch.zeros(len(rows), longest_p + longest_c, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, (p, c) in enumerate(rows):
        ids[i, longest_p - len(p) : longest_p + len(c)] = torch.tensor(p + c)
        mask[i, longest_p - len(p) : longest_p + len(c)] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    logps = torch.log_softmax(logits[:, longest_p - 1 : -1].float(), -1)
    picked = logps.gather(-1, ids[:, longest_p:, None]).squeeze(-1)
    return [picked[i, : len(c)] for i, (_, c) in enumerate(rows)]


def ragged_groups(vocab=97, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def ids(n):
        return torch.randint(3, vocab, (n,), generator=generator).tolist()

    return [
        PromptGroup(ids(p), [ids(c) for c in lengths]) for p, lengths in ((17, (5, 9, 1)), (23, (4, 4, 12)), (9, (7,)))
    ]


def alike_groups():
    """Prompts with an opening in common, one of them nothing but the opening and one token."""
    opening = list(range(40, 51))
    return [
        PromptGroup(opening + list(g.prompt)[cut:], g.completions)
        for g, cut in zip(ragged_groups(), (0, 0, 8), strict=True)
    ]


def dense_alike_groups():
    return [PromptGroup([7, 8, 9, *g.prompt], g.completions) for g in dense_groups()]


def dense_groups():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 97, (2, 16 + 3 * 8), generator=generator).tolist()
    return [PromptGroup(row[:16], [row[16 + 8 * i : 24 + 8 * i] for i in range(3)]) for row in ids]


def compare(model, groups, **options):
    model.zero_grad()
    expected = stock(model, groups)
    weights = [torch.randn(len(e), generator=torch.Generator().manual_seed(i)) for i, e in enumerate(expected)]
    sum((e * w).sum() for e, w in zip(expected, weights, strict=True)).backward()
    gradient = torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.requires_grad])
    model.zero_grad()
    found = completion_logprobs(model, groups, **options)
    sum((f * w).sum() for f, w in zip(found, weights, strict=True)).backward()
    ours = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    assert max((f - e).abs().max().item() for f, e in zip(found, expected, strict=True)) < 1e-5
    assert ((ours - gradient).norm() / gradient.norm()).item() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("make", [ragged_groups, dense_groups, alike_groups, dense_alike_groups])
def test_equal_to_stock(architecture, make):
    compare(tiny_model(architecture), make())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_completion_with_a_prompt_to_itself_goes_on_from_it_on_a_gpu(architecture, monkeypatch):
    monkeypatch.setattr(shared_prompt, "few_launches", lambda device: True)
    groups = [PromptGroup(g.prompt, g.completions[:1]) for g in alike_groups()]
    layout = PackedLayout(groups, torch.device("cpu"))
    assert layout.opening == 0 and layout.prompt_tokens == layout.input_ids.shape[1] == sum(g.tokens for g in groups)
    compare(tiny_model(architecture), groups)
    several = PackedLayout(alike_groups(), torch.device("cpu"))
    assert several.opening and several.prompt_tokens < several.input_ids.shape[1]
    empty = [PromptGroup(groups[0].prompt, [[]]), groups[1]]
    found = completion_logprobs(tiny_model(architecture), empty)
    assert [len(one) for one in found] == [0, len(groups[1].completions[0])]
    assert torch.allclose(found[1], stock(tiny_model(architecture), groups[1:2])[0], atol=1e-5)


class Operations(TorchDispatchMode):
    """Counts what is computed; views of a tensor launch nothing."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def test_one_sequence_takes_fewer_operations_of_a_layer(monkeypatch):
    groups, of_a_layer = [PromptGroup(g.prompt, g.completions[:1]) for g in alike_groups()], []
    for few in (False, True):
        monkeypatch.setattr(shared_prompt, "few_launches", lambda device, few=few: few)
        counts = []
        for layers in (1, 2):
            model = tiny_model("llama", num_hidden_layers=layers)
            with Operations() as operations:
                torch.cat(completion_logprobs(model, groups)).sum().backward()
            counts.append(operations.count)
        of_a_layer.append(counts[1] - counts[0])
    assert of_a_layer[1] < 2 / 3 * of_a_layer[0]


def test_a_shared_opening_runs_once():
    groups = alike_groups()
    layout = PackedLayout(groups, torch.device("cpu"))
    assert layout.opening == 11
    assert layout.input_ids.numel() == sum(group.tokens for group in groups) - 2 * 11


def test_equal_with_lora():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(2))
    compare(model, ragged_groups())


def test_equal_with_gradient_checkpointing():
    model = tiny_model("qwen3").train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compare(model, ragged_groups())


def test_entropy_and_temperature():
    model, groups = tiny_model("llama"), ragged_groups()
    logps, entropies = completion_logprobs_and_entropies(model, groups, temperature=0.7)
    p, c = list(groups[0].prompt), list(groups[0].completions[1])
    logits = model(input_ids=torch.tensor([p + c])).logits[0, len(p) - 1 : -1] / 0.7
    expected = torch.log_softmax(logits, -1)
    assert torch.allclose(logps[1], expected.gather(1, torch.tensor(c)[:, None]).squeeze(1), atol=1e-5)
    assert torch.allclose(entropies[1], -(expected.exp() * expected).sum(-1), atol=1e-4)


def test_model_is_left_as_it_was():
    model = tiny_model("llama")
    before = model.config._attn_implementation
    with pytest.raises(IndexError):
        completion_logprobs(model, [PromptGroup([10**6], [[3, 4]])])
    assert model.config._attn_implementation == before
    assert "forward" not in vars(model.get_output_embeddings())


def test_a_window_shorter_than_the_text_is_refused():
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}
    with pytest.raises(ModelError, match="window"):
        completion_logprobs(MistralForCausalLM(MistralConfig(**sizes, **heads)), ragged_groups())


def test_micro_batches_cover_everything_once_within_budget():
    groups = [
        PromptGroup(list(range(1, p)), [list(range(1, c))] * 3)
        for p, c in ((30, 5), (10, 9), (50, 20), (9, 3), (31, 5))
    ]
    batches = micro_batches(groups, 100, torch.device("cpu"))
    assert sorted(i for batch in batches for i in batch) == list(range(5))
    assert max(map(len, batches)) > 1
    for batch in batches:
        together = [groups[i] for i in batch]
        shared = common_opening([group.prompt for group in together])
        assert len(batch) == 1 or sum(group.tokens - shared for group in together) + shared <= 100


@pytest.mark.parametrize("alone", [10, 6, 0])
def test_no_row_is_over_the_budget_whether_its_opening_is_shared_or_not(monkeypatch, alone):
    """The first groups have one completion each, the others two: only batches of the first are joined on a GPU."""
    cpu, opening = torch.device("cpu"), list(range(40, 70))
    groups = [PromptGroup([*opening, 3, n], [[n, 4, 5]] * (1 if n < alone else 2)) for n in range(10)]
    shared = micro_batches(groups, 100, cpu)
    monkeypatch.setattr(shared_prompt, "few_launches", lambda device: True)
    few = micro_batches(groups, 100, cpu)
    assert sorted(i for batch in few for i in batch) == list(range(10))
    assert (few == shared) == (alone == 0) and len(few) >= len(shared)
    for batch in few:
        assert PackedLayout([groups[i] for i in batch], cpu).input_ids.shape[1] <= 100


SHARDED = """
import sys
sys.path.insert(0, sys.argv[1])
from test_llm_shared_prompt import compare_sharded
compare_sharded()
"""


def compare_sharded():
    """In two processes: weights sharded by FSDP2 (`fully_shard`) give the gradient that whole ones give."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    dist.init_process_group("gloo")
    for architecture in ("llama", "llama-tied", "qwen3"):
        whole, model = tiny_model(architecture), tiny_model(architecture)
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
        groups = ragged_groups(seed=dist.get_rank())
        for m in (whole, model):
            sum(x.sum() for x in completion_logprobs(m, groups)).backward()
        for p, q in zip(model.parameters(), whole.parameters(), strict=True):
            assert isinstance(p, DTensor)
            dist.all_reduce(q.grad)
            assert torch.allclose(p.grad.full_tensor(), q.grad / dist.get_world_size(), atol=1e-6), architecture
    dist.destroy_process_group()


@pytest.mark.slow
def test_weights_sharded_by_fsdp2(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(SHARDED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29615"]
    done = subprocess.run(
        [*launcher, str(script), str(Path(__file__).parent)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
