"""`tagpr plan`'s memory model against measured peaks: small models on CPUs, fp32, FSDP2 in one process and in two.

    python benchmarks/bench_plan.py     -> benchmarks/results/plan.json, with the plans of Qwen3-8B for three machines

A process builds the model, divides it (`fully_shard`, layer by layer, as accelerate does), makes two updates with AdamW
through the engine's own forward pass, and tells the peak of its resident memory above what it held before the model.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PretrainedConfig

from results_file import write_results
from tagpr import processes
from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs
from tagpr.experiments.plan import plan_run
from tagpr.runs import Run
from tagpr.training.scale.memory_model import Training
from tagpr.training.scale.plan import Hardware
from tagpr.training.scale.shape import Pass, shape_of

MIB = 2**20
SIZES = {
    "34M, 8 layers of 512": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "vocab_size": 8192},
    "60M, 4 layers of 1,024": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 4,
        "vocab_size": 8192,
    },
}
SHAPES = {"768 + 4 x 96": (768, 96, 4)}
"""Tokens of a prompt, of its completions, and how many."""
CASES = (
    ("34M, 8 layers of 512", "768 + 4 x 96", False),
    ("34M, 8 layers of 512", "768 + 4 x 96", True),
    ("60M, 4 layers of 1,024", "768 + 4 x 96", False),
)
"""Model, lengths, gradient checkpointing."""
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}
QWEN3_06B = QWEN3_8B | {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "tie_word_embeddings": True,
}


def small(size: dict[str, int], folder: Path) -> Path:
    """A folder with the configuration of a small Qwen3."""
    config = QWEN3_8B | size | {"num_attention_heads": size["hidden_size"] // 64, "head_dim": 64}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def resident(what: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def measure(folder: Path, shape: tuple[int, int, int], checkpointing: bool) -> None:
    """Print the peak of each process, above what it held before the model, as one line of JSON."""
    from transformers import AutoConfig

    processes.join()
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder)
    small_one = {
        "layer_types": None,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "vocab_size": 128,
    }
    tiny = type(config).from_dict(config.to_dict() | small_one | {"num_attention_heads": 1, "num_key_value_heads": 1})
    updates(tiny, (8, 4, 2), checkpointing, lambda: None)  # code and kernels are not the model's
    give_back()
    before = resident("VmRSS")
    updates(config, shape, checkpointing, lambda: Path("/proc/self/clear_refs").write_text("5"))
    peaks = processes.everyones(resident("VmHWM") - before)
    if processes.is_first():
        print(json.dumps(peaks))


def updates(
    config: PretrainedConfig, shape: tuple[int, int, int], checkpointing: bool, begin: Callable[[], object]
) -> None:
    """Two updates of a new model; `begin` is called when it has been divided."""
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in model.model.layers:
        fully_shard(layer, reshard_after_forward=True)
    fully_shard(model, reshard_after_forward=True)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    give_back()  # the whole model, before it was divided
    begin()
    prompt, completion, count = shape
    group = PromptGroup(range(1, prompt + 1), [range(1 + i, completion + 1 + i) for i in range(count)])
    for _ in range(2):
        logps = completion_logprobs(model, [group])
        (-torch.cat(logps).sum()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def give_back() -> None:
    """Return what is free to the kernel."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def planned(folder: Path, shape: tuple[int, int, int], gpus: int, checkpointing: bool) -> float:
    """The plan's bytes for the same update."""
    prompt, completion, count = shape
    training = Training(shape_of(str(folder)), gpus, sharded=True, bf16=False)
    group = PromptGroup(range(1, prompt + 1), [range(1, completion + 1)] * count)
    return training.state() + training.copies() + training.shape.activations([group], Pass(checkpointing=checkpointing))


def compare() -> dict[str, dict[str, float]]:
    """Measured and planned MiB of every case in one process and in two."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for label, words, checkpointing in CASES:
            folder, shape = small(SIZES[label], Path(name) / label.split(",")[0]), SHAPES[words]
            for count in (1, 2):
                command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
                command += [f"--nproc_per_node={count}", __file__, str(folder), *map(str, shape)]
                command.append(str(int(checkpointing)))
                # blocks of 64 KiB and more go back to the kernel at once, as the model counts them
                environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                measured = max(json.loads(done.stdout.splitlines()[-1])) / MIB
                plan = planned(folder, shape, count, checkpointing) / MIB
                key = f"{label}; {words}; {count} of FSDP2{'; checkpointing' if checkpointing else ''}"
                found[key] = {
                    "measured_mib": round(measured),
                    "planned_mib": round(plan),
                    "ratio": round(plan / measured, 3),
                }
                print(key, found[key], flush=True)
    return found


def plans() -> dict[str, list[str]]:
    """What `tagpr plan` says of Qwen3-8B on three machines."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, config in (("policy", QWEN3_8B), ("reward", QWEN3_06B)):
            (Path(name) / kind).mkdir()
            (Path(name) / kind / "config.json").write_text(json.dumps(config))
        own = [f"model={name}/policy", f"prmu.backbone={name}/reward"]
        for recipe, hardware in (
            ("lamp-qwen3-8b", Hardware(8, 80, True)),
            ("lamp-qwen3-8b-qlora", Hardware(1, 24, False)),
            ("lamp-qwen3-8b-nodes", Hardware(16, 80, True)),
        ):
            lines = plan_run(Run.open(recipe, own), hardware).lines()
            found[recipe] = [line.replace(f"{name}/policy", "Qwen3-8B") for line in lines]
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        words = [int(word) for word in sys.argv[2:]]
        measure(Path(sys.argv[1]), (words[0], words[1], words[2]), bool(words[3]))
    else:
        write_results("plan", "python benchmarks/bench_plan.py", {"update": compare(), "plans": plans()})
