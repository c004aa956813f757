"""The command that runs `tagpr run` in several processes, by accelerate's launcher and one of `recipes/accelerate`.

Not here: what the processes then do together (`tagpr.processes`), and a scheduler such as Slurm, which starts this
command on every machine.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from tagpr.errors import RecipeError

LaunchConfig = Literal["ddp", "fsdp2", "zero3", "several-nodes"]
"""ddp: whole weights in every process of one machine. fsdp2, zero3: divided, on one. several-nodes: FSDP2 on two."""


@dataclass(frozen=True)
class Launch:
    """How many processes, where. None: as the configuration says."""

    config: LaunchConfig
    processes: int | None = None
    """Over all machines."""
    rank: int = 0
    """This machine's number."""
    address: str | None = None
    """Where machine 0 is."""


def config_file(name: LaunchConfig) -> Path:
    """accelerate's configuration of a launch."""
    return Path(str(resources.files("tagpr") / "recipes" / "accelerate" / f"{name}.yaml"))


def launch_command(launch: Launch, recipe: str, overrides: Sequence[str], runs: Path) -> list[str]:
    """The words of the command. Raises RecipeError if several machines have no address to meet at."""
    run = ["-m", "tagpr.cli", "run", recipe, *overrides, "--runs", str(runs)]
    several = launch.config == "several-nodes"
    if several and launch.address is None:
        raise RecipeError("--config several-nodes: machines meet at the first one; give --main-address ADDRESS")
    words = [sys.executable, "-m"]
    if launch.config == "ddp":
        each = "gpu" if launch.processes is None else str(launch.processes)
        return [*words, "torch.distributed.run", "--standalone", f"--nproc_per_node={each}", *run]
    words += ["accelerate.commands.launch", "--config_file", str(config_file(launch.config))]
    if launch.processes is not None:
        words += ["--num_processes", str(launch.processes)]
    if several:
        words += ["--machine_rank", str(launch.rank), "--main_process_ip", str(launch.address)]
    return [*words, *run]
