"""GRPO steps with shared prompts against TRL's own GRPOTrainer: same process, model, prompts, seeds and settings.

    make bench-rl                                   # or: python benchmarks/bench_rl.py
    python benchmarks/bench_rl.py --device cuda     # make bench-rl DEVICE=cuda
    python benchmarks/bench_rl.py --jobs 8          # a machine of many cores: cells side by side, two cores each
    python benchmarks/bench_rl.py --model FOLDER --cells 256/90/5   # a real model, e.g. SmolLM2-135M

A cell is prompt/completion/G. Measured: a whole step (generation, rewards, two updates) and loss + backward on the same
batch, alternating between the two trainers, medians; the difference of log-probabilities and gradients on it; and
for the main cell the peak memory of each trainer in a process of its own. Every figure is stock over shared.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

MAIN = (1024, 192, 5)
CELLS = [(p, 192, g) for p in (256, 1024, 4096) for g in (2, 5, 8)]


def build_trainer(kind, cell, device, model_folder, out):
    """One of the two trainers; prompts are ids drawn at random, so that lengths are exact."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from tagpr.llm.models import load_tokenizer
    from tagpr.llm.tiny import build_tiny_model
    from tagpr.training.trl_trainer import SharedPromptGRPOTrainer

    p, c, g = cell
    torch.manual_seed(0)
    if model_folder:
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        tokenizer = load_tokenizer(model_folder)
    else:
        shape = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 8}
        shape |= {"num_key_value_heads": 4, "head_dim": 32, "vocab_size": 8192, "tie_word_embeddings": True}
        model = Qwen3ForCausalLM(Qwen3Config(**shape, max_position_embeddings=8192))
        tokenizer = load_tokenizer(build_tiny_model(Path(out) / "tokenizer"))
    vocabulary = model.config.vocab_size
    per_update = 2 if p < 4096 else 1  # prompts an update
    ids = torch.randint(5, vocabulary, (64, p), generator=torch.Generator().manual_seed(1)).tolist()

    class Exact:
        def _tokenize_prompts(self, prompts):
            return [ids[int(text)] for text in prompts], None, {}

    base = SharedPromptGRPOTrainer if kind == "shared" else GRPOTrainer
    chosen = type(kind, (Exact, base), {})
    bf16 = device == "cuda"
    arguments = GRPOConfig(
        output_dir=str(Path(out) / kind),
        per_device_train_batch_size=per_update * g,
        steps_per_generation=2,
        gradient_accumulation_steps=1,
        num_generations=g,
        max_completion_length=c,
        importance_sampling_level="sequence",
        loss_type="grpo",
        beta=0.0,
        epsilon=3e-4,
        epsilon_high=4e-4,
        top_k=0,
        learning_rate=1e-6,
        max_steps=1000,
        logging_steps=1000,
        report_to="none",
        save_strategy="no",
        use_cpu=device == "cpu",
        bf16=bf16,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=1,
    )

    class Clock(TrainerCallback):
        def __init__(self):
            self.times = []

        def on_step_end(self, args, state, control, **_):
            synchronise(device)
            self.times.append(time.perf_counter())
            control.should_training_stop = state.global_step >= trainer.until

    def reward(completion_ids, **_):
        return [float(torch.tensor(row, dtype=torch.float32).std()) for row in completion_ids]

    trainer = chosen(
        model=model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(64)]}),
        processing_class=tokenizer,
    )
    trainer.until = 0
    trainer.clock = Clock()
    trainer.add_callback(trainer.clock)
    trainer.per_update = per_update
    return trainer


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()


def time_steps(trainer, rollouts):
    """Seconds of each rollout (generation, rewards, two updates), the first left out."""
    trainer.clock.times.clear()
    trainer.until = 2 * (rollouts + 1)
    trainer.train()
    ends = trainer.clock.times[1::2]
    return [b - a for a, b in itertools.pairwise(ends)]


def time_loss(trainers, cell, device, repeats):
    """Loss + backward of both trainers on one batch; largest log-prob difference and relative gradient difference."""
    shared = trainers["shared"]
    shared.model.train()
    rows = [{"prompt": str(i)} for i in range(shared.per_update) for _ in range(cell[2])]
    batch = shared._generate_and_score_completions(rows)
    for trainer in trainers.values():
        trainer.model.load_state_dict(shared.model.state_dict())
        trainer.current_gradient_accumulation_steps = 1

    def stock_step():
        t = trainers["stock"]
        with t.compute_loss_context_manager():
            loss = t.compute_loss(t.model, batch)
        t.accelerator.backward(loss)

    def shared_step():
        shared._buffered_inputs, shared._step = [batch, batch], 1
        shared.training_step(shared.model, None)

    seconds, gradients = {"stock": [], "shared": []}, {}
    for _ in range(repeats + 1):
        for kind, step in (("stock", stock_step), ("shared", shared_step)):
            trainers[kind].model.train()
            trainers[kind].model.zero_grad()
            synchronise(device)
            begun = time.perf_counter()
            step()
            synchronise(device)
            seconds[kind].append(time.perf_counter() - begun)
            gradients[kind] = torch.cat([p.grad.flatten().float() for p in trainers[kind].model.parameters()])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logps = [
            t._get_per_token_logps_and_entropies(t.model, ids, mask, batch["completion_ids"].shape[1])[0]
            * batch["completion_mask"]
            for t in trainers.values()
        ]
    a, b = gradients["stock"], gradients["shared"]
    return (
        {kind: statistics.median(values[1:]) for kind, values in seconds.items()},
        {
            "logprob_difference": (logps[0] - logps[1]).abs().max().item(),
            "relative_gradient_difference": ((a - b).norm() / a.norm()).item(),
        },
    )


def measure(cell, device, model_folder, rollouts, repeats):
    """All figures of one cell."""
    with tempfile.TemporaryDirectory() as out:
        trainers = {kind: build_trainer(kind, cell, device, model_folder, out) for kind in ("stock", "shared")}
        steps = {"stock": [], "shared": []}
        for kind, trainer in trainers.items():
            steps[kind] += time_steps(trainer, rollouts)
        loss, differences = time_loss(trainers, cell, device, repeats)
    middle = {kind: statistics.median(values) for kind, values in steps.items()}
    p, c, g = cell
    return {
        "prompt": p,
        "completion": c,
        "G": g,
        "step_seconds": {k: round(v, 4) for k, v in middle.items()},
        "loss_backward_seconds": {k: round(v, 4) for k, v in loss.items()},
        "step_speedup": round(middle["stock"] / middle["shared"], 3),
        "loss_backward_speedup": round(loss["stock"] / loss["shared"], 3),
        "bound": round(g * (p + c) / (p + g * c), 3),
        **differences,
    }


def peak_memory(kind, cell, device, model_folder):
    """Peak MiB of one trainer over two rollouts (in a process of its own)."""
    with tempfile.TemporaryDirectory() as out:
        trainer = build_trainer(kind, cell, device, model_folder, out)
        time_steps(trainer, 1)
        if device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(arguments, cores):
    """Run this file for one cell, pinned to `cores` where given; returns its JSON."""
    command = [sys.executable, __file__, *arguments]
    environment = dict(os.environ)
    if cores:
        command = ["taskset", "-c", cores, *command]
        environment["OMP_NUM_THREADS"] = str(len(cores.split(",")))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--model", default="", help="a model folder instead of the 7M random Qwen3")
    parser.add_argument("--cells", default="", help="prompt/completion/G, comma separated")
    parser.add_argument("--rollouts", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", default="", help="results file; default rl or rl-cuda, and none for chosen cells")
    parser.add_argument("--one", default="", help="internal: measure one cell and print JSON")
    parser.add_argument("--memory", default="", help="internal: peak memory of stock or shared in the cell --one")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.one:
        cell = tuple(map(int, options.one.split("/")))
        if options.memory:
            print(json.dumps(peak_memory(options.memory, cell, options.device, options.model)))
        else:
            print(json.dumps(measure(cell, options.device, options.model, options.rollouts, options.repeats)))
        return
    cells = [tuple(map(int, text.split("/"))) for text in options.cells.split(",")] if options.cells else CELLS
    shared = ["--device", options.device, "--model", options.model]
    shared += ["--rollouts", str(options.rollouts), "--repeats", str(options.repeats)]
    lanes = [f"{2 * i},{2 * i + 1}" for i in range(options.jobs)] if options.jobs > 1 else [""]
    free = list(lanes)

    def one(cell, memory=""):
        lane = free.pop()
        try:
            arguments = [*shared, "--one", "/".join(map(str, cell)), "--memory", memory]
            found = child(arguments, lane)
        finally:
            free.append(lane)
        print(cell, memory, json.dumps(found), flush=True)
        return found

    with ThreadPoolExecutor(len(lanes)) as pool:
        table = list(pool.map(one, cells))
        main_cell = MAIN if MAIN in cells else cells[0]
        memory = dict(zip(("stock", "shared"), pool.map(one, [main_cell] * 2, ("stock", "shared")), strict=True))
    main_row = table[cells.index(main_cell)]
    figures = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "model": Path(options.model).name or "Qwen3 architecture, 6.8M parameters, random",
        "main_cell": "/".join(map(str, main_cell)),
        "step_speedup": main_row["step_speedup"],
        "loss_backward_speedup": main_row["loss_backward_speedup"],
        "peak_memory_mib": {k: round(v) for k, v in memory.items()},
        "lowest_step_speedup": min(row["step_speedup"] for row in table),
        "lowest_loss_backward_speedup": min(row["loss_backward_speedup"] for row in table),
        "cells": table,
    }
    name = options.name or ("" if options.cells else "rl-cuda" if options.device == "cuda" else "rl")
    print(json.dumps({k: v for k, v in figures.items() if k != "cells"}, indent=1))
    if name:
        from results_file import write_results

        print(write_results(name, f"python benchmarks/bench_rl.py {' '.join(sys.argv[1:])}".strip(), figures))


if __name__ == "__main__":
    main()
