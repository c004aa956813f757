"""Decoding on one GPU: steps recorded once, steps launched kernel by kernel, and transformers' own `generate`.

    PYTHONPATH=benchmarks python benchmarks/bench_recorded.py        # a minute on an H100 or H200

A model of SmolLM2-135M's shape with random weights in bf16: what it says does not change what a step costs. A small
step of RL: four prompts of 300 tokens, eight completions of 48 new tokens each, sampled. The median of three, the three
taken in turn. Writes benchmarks/results/recorded-steps.json.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from results_file import write_results
from tagpr.engine import generation
from tagpr.engine.types import Sampling

PROMPTS, SAMPLES = 4, 8
PROMPT, NEW, ROUNDS = 300, 48, 3
NEVER = 10**6
"""An end token that no model draws: all completions are equally long."""


def model() -> LlamaForCausalLM:
    """SmolLM2-135M's shape."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
    )
    made = LlamaForCausalLM(config).eval()
    cast("torch.nn.Module", made).to("cuda", torch.bfloat16)
    return made


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes, to the end of what it launched."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Measure and write the file."""
    if not torch.cuda.is_available():
        sys.exit("bench_recorded.py: needs a GPU; torch finds none")
    gpu = torch.cuda.get_device_name()
    made = model()
    draw = torch.Generator().manual_seed(1)
    ids = [torch.randint(3, 49000, (PROMPT,), generator=draw).tolist() for _ in range(PROMPTS)]
    rows = torch.tensor(ids, device="cuda").repeat_interleave(SAMPLES, 0)

    def ours(devices: tuple[str, ...]) -> object:
        generation.RECORDED_ON = devices
        return generation.generate(made, ids, Sampling(NEW, SAMPLES), end_ids=[NEVER], batch_size=len(rows))

    def stock() -> object:
        how: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": True, "top_k": 0, "pad_token_id": 0}
        return cast("Any", made).generate(rows, attention_mask=torch.ones_like(rows), **how)

    ways: dict[str, Callable[[], object]] = {
        "recorded": lambda: ours(("cuda",)),
        "launched": lambda: ours(()),
        "transformers": stock,
    }
    for call in ways.values():
        call()  # warm-up
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, call in ways.items():
            taken[way].append(seconds(call))
    median = {way: statistics.median(own) for way, own in taken.items()}
    figures = {
        "tokens_per_second": {way: len(rows) * NEW / own for way, own in median.items()},
        "times as fast as launched": median["launched"] / median["recorded"],
        "times as fast as transformers": median["transformers"] / median["recorded"],
    }
    size = f"{PROMPTS} prompts, {SAMPLES} completions each"
    write_results("recorded-steps", "python benchmarks/bench_recorded.py", {"gpu": gpu, size: figures})


if __name__ == "__main__":
    main()
