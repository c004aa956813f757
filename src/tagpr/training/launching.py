"""The processes of an RL stage; launches that would do something else than was requested are refused.

`accelerate launch --cpu --num_processes 2` starts one process, and accelerate's FSDP flags become plain data
parallelism on CPUs; both without a word.
"""

import os
from pathlib import Path

import torch

from tagpr import processes
from tagpr.errors import RecipeError


def asked_processes() -> int | None:
    """Processes the launcher was told to start: TAGPR_PROCESSES, or --num_processes of an `accelerate launch` that
    started this process (Linux); None if nothing says.
    """
    if said := os.environ.get("TAGPR_PROCESSES"):
        return int(said)
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return None
    if "launch" not in words or not any("accelerate" in word for word in words):
        return None
    for flag in ("--num_processes", "--num-processes"):
        for place, word in enumerate(words):
            value = words[place + 1] if word == flag else word.removeprefix(f"{flag}=")
            if (word == flag or word.startswith(f"{flag}=")) and value.isdigit():
                return int(value)
    return None


def refuse_fewer_processes(running: int) -> None:
    """Raise RecipeError if another number of processes was requested than runs."""
    asked = asked_processes()
    if asked is not None and asked != running:
        raise RecipeError(
            f"{asked} processes were requested but {running} run; `accelerate launch --cpu --num_processes N` starts "
            "one, use torchrun --nproc_per_node N"
        )


def join_processes() -> tuple[int, int]:
    """(rank, processes) of a stage of `train_gspo`; joins the group that torchrun announces, which is all it knows.

    Raises RecipeError if the launcher requested sharding or another number of processes than it started.
    """
    if name := processes.sharding():
        raise RecipeError(f"{name} was requested, but rl.engine=local holds whole weights; set rl.engine to trl")
    world = processes.count()
    refuse_fewer_processes(world)
    processes.join()
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def summed(value: float, world: int) -> float:
    """The sum of `value` over all `world` processes."""
    if world == 1:
        return value
    total = torch.tensor(value, device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(total)
    return total.item()
