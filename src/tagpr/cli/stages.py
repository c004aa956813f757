"""Commands that run a stage of a recipe, and the groups of stages that have subcommands of their own."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from tagpr import processes
from tagpr.cli.options import AsJson, OnError
from tagpr.cli.session import RunOptions, with_run_options
from tagpr.cli.show import print_results
from tagpr.stages import SUMMARIES, StageName


class StageGroup(TyperGroup):
    """A stage's verb that has subcommands too: `tagpr chains RECIPE` means `tagpr chains run RECIPE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: click's context, or that of typer's copy of it
        """Read `RECIPE` as `run RECIPE`."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


class ReportGroup(StageGroup):
    """`tagpr report RUN...` takes run folders as well as a recipe."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a folder as `folders FOLDER`."""
        if args and Path(args[0]).is_dir():
            args = ["folders", *args]
        return super().parse_args(ctx, args)


def stage_command(stage: StageName | None, text: str) -> Callable[..., None]:
    """A command that runs one stage of a recipe, or (None) all of them."""

    def command(options: RunOptions, on_error: OnError = None, as_json: AsJson = False) -> None:
        from tagpr.evaluation.results import Results
        from tagpr.pipeline import make

        with options.opened(*([f"data.on_error={on_error}"] if on_error else []), shared=True) as run:
            began = time.monotonic()
            manifests = make(run) if stage is None else make(run, stage)
            seconds = round(time.monotonic() - began, 1)
        if not processes.is_first():
            return
        if as_json:
            made = {name: manifest.model_dump(mode="json") for name, manifest in manifests.items()}
            typer.echo(
                json.dumps({"run": str(run.folder.path), "seconds": seconds, "stages": made}, ensure_ascii=False)
            )
            return
        if stage in (None, "evaluate") and not options.quiet:
            print_results(Results.read(run.folder.results))
        if stage in (None, "report"):
            typer.echo(f"report: {run.folder.report}")

    command.__doc__ = text
    return with_run_options(command)


def stage_group(stage: StageName, cls: type[StageGroup] = StageGroup) -> typer.Typer:
    """The group of a stage; its subcommand `run` is what the stage's name alone does."""
    text = SUMMARIES[stage]
    group = typer.Typer(cls=cls, no_args_is_help=True, help=f"{text} `tagpr {stage} RECIPE` runs the stage.")
    group.command("run")(stage_command(stage, text))
    return group
