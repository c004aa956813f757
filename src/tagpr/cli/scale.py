"""`tagpr plan` and `tagpr launch`: whether a run fits into given GPUs, and starting it on them."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from tagpr.cli.options import Overrides, RecipeArgument, RunsOption
from tagpr.training.scale.launch import Launch, LaunchConfig, launch_command

Config = Annotated[LaunchConfig, typer.Option("--config", help="How weights and batches are divided.")]


def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs in all.")] = 1,
    gpu_memory: Annotated[float, typer.Option("--gpu-memory", min=1, help="Memory of one, in GiB.")] = 80.0,
    config: Annotated[LaunchConfig, typer.Option("--config", help="ddp holds whole weights on every GPU.")] = "fsdp2",
) -> None:
    """Say what the training stages need of each GPU, before anything is loaded; fails, with the fix, if too much."""
    from tagpr.experiments.plan import plan_run
    from tagpr.runs import Run
    from tagpr.training.scale.plan import Hardware

    found = plan_run(Run.open(recipe, overrides or ()), Hardware(gpus, gpu_memory, gpus > 1 and config != "ddp"))
    typer.echo("\n".join(found.lines()))
    found.require()


def launch(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    config: Config = "fsdp2",
    runs: RunsOption = Path("runs"),
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="In all; as the config says.")] = None,
    rank: Annotated[int, typer.Option("--machine-rank", min=0, help="This machine's number, from 0.")] = 0,
    address: Annotated[str | None, typer.Option("--main-address", help="Address of machine 0.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the command and do not run it.")] = False,
) -> None:
    """Run every stage of a recipe with accelerate: one command per machine, the run folder on a disk they share."""
    words = launch_command(Launch(config, processes, rank, address), recipe, overrides or (), runs)
    typer.echo(shlex.join(words), err=not show)
    if not show:
        os.execv(words[0], words)
