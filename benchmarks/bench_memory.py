"""Memory of an SFT process over 2,000 optimizer steps of varying lengths; each part is a process of its own.

    make bench-memory    # or: python benchmarks/bench_memory.py; about ten minutes on one core

A three-layer random Llama (hidden 192, 8,192 tokens) learns groups of 1 to 3 chains under prompts of 64 to 500 tokens,
one group per step, in the arithmetic that the machine is fast in. What is resident is read after every step
(`/proc/self/status`); the file has it at every 100th, the peak, and the growth after the first 500 steps. Other work on
the machine (`load_average`, over the last minute) changes the seconds and not the memory.
`after` is the SFT stage as the pipeline runs it, `before` the same of commit BEFORE, which kept kernels for 1,024
shapes; it is checked out beside this repository for the time it takes, and left out if the history does not have it.
"""

import argparse
import contextlib
import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

COMMAND = "make bench-memory"
REPOSITORY = Path(__file__).resolve().parents[1]
BEFORE = "41a80df"
"""The last commit before the memory was bounded."""
STEPS, BATCH = 2000, 1
SETTLED = 500
"""Steps after which memory should no longer grow: every length has been seen."""


def resident_mib(field: str = "VmRSS") -> float:
    """This process's resident memory (`VmHWM`: its highest so far)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def build_policy(folder: Path) -> Path:
    """A random Llama with a real vocabulary's size; the tokenizer is the tiny one, which no text passes through."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    try:
        from tagpr.engine.tiny import build_tiny_model
    except ImportError:  # older code
        from tagpr.llm.tiny import build_tiny_model

    build_tiny_model(folder)
    shape = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 6}
    shape |= {"num_key_value_heads": 2, "vocab_size": 8192, "tie_word_embeddings": True}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=2048)).save_pretrained(folder)
    return folder


def groups(count: int) -> list:
    """Prompts and chains of random ids; lengths differ from step to step."""
    try:
        from tagpr.training.rows import TrainingRow
    except ImportError:  # older code
        from tagpr.training.sft import ChainGroup as TrainingRow

    draw = random.Random(0)

    def ids(low: int, high: int) -> list[int]:
        return [draw.randrange(5, 8192) for _ in range(draw.randint(low, high))]

    return [TrainingRow(ids(64, 500), [ids(16, 120) for _ in range(draw.randint(1, 3))]) for _ in range(count)]


def train(policy: Path, steps: int, out: Path, progress: Callable[[int, int, str], None]) -> None:
    """The SFT stage's training, today's or that of older code, which was given the folder by itself."""
    from tagpr.training.settings import SFTSettings
    from tagpr.training.sft import train_sft

    settings = SFTSettings(
        learning_rate=1e-4, epochs=1, batch_size=BATCH, save_steps=10 * steps, tokens_per_forward=2048
    )
    rows = groups(steps * BATCH)
    if "out" in inspect.signature(train_sft).parameters:
        train_sft(policy, rows, settings, out, progress=progress)
    else:
        from tagpr.progress import StageContext

        train_sft(policy, rows, settings, StageContext(out, progress=progress))


def measure(steps: int) -> dict:
    """Train in this process; returns what was resident over the steps."""
    try:
        from tagpr.memory import keep_freed_memory
    except ImportError:  # older code
        from tagpr.llm.memory import keep_freed_memory
    keep_freed_memory()
    load = round(os.getloadavg()[0], 1)
    series: list[float] = []

    def progress(done: int, total: int, note: str) -> None:
        series.append(resident_mib())
        if done % 100 == 0:
            sys.stderr.write(f"{done}/{total} {series[-1]:.0f} MiB\n")

    with tempfile.TemporaryDirectory() as folder:
        policy = build_policy(Path(folder) / "policy")
        started = time.monotonic()
        train(policy, steps, Path(folder) / "out", progress)
        seconds = time.monotonic() - started
    settled = min(SETTLED, len(series) // 2)
    return {
        "steps": len(series),
        "seconds": round(seconds, 1),
        "load_average": {"at_start": load, "at_end": round(os.getloadavg()[0], 1)},
        "resident_mib": {str(i + 1): round(series[i]) for i in range(99, len(series), 100)},
        "peak_mib": round(resident_mib("VmHWM")),
        "growth_after_settling_mib": round(max(series[settled:]) - max(series[:settled])),
        "last_minus_settled_mib": round(series[-1] - series[settled]),
    }


def git(*arguments: str) -> subprocess.CompletedProcess:
    """Git in this repository, quietly."""
    return subprocess.run(["git", "-C", REPOSITORY, *arguments], capture_output=True, check=False)


@contextlib.contextmanager
def older_source() -> Iterator[Path | None]:
    """The source folder of BEFORE, for as long as the context lasts; None if the history does not have it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "older"
        if git("worktree", "add", "--detach", str(place), BEFORE).returncode:
            yield None
            return
        try:
            yield place / "src"
        finally:
            git("worktree", "remove", "--force", str(place))


def part(source: Path, steps: int) -> dict:
    """`measure` in a new process, of the package in `source`."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, __file__, "--worker", "--steps", str(steps)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure both parts and write benchmarks/results/memory.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments.steps)))
        return
    from results_file import write_results

    figures = {"after": part(REPOSITORY / "src", arguments.steps)}
    with older_source() as source:
        if source is None:
            sys.stderr.write(f"commit {BEFORE} is not in this repository's history: no figures of before\n")
        else:
            figures["before"] = {"commit": BEFORE} | part(source, arguments.steps)
    write_results("memory", COMMAND, figures)


if __name__ == "__main__":
    main()
