"""Commands that run a stage of a recipe, and the groups of stages that have subcommands of their own."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from tagpr.cli.options import AsJson, OnError, Overrides, Quiet, RecipeArgument, RunsOption


class StageGroup(TyperGroup):
    """A stage's verb that has subcommands too: `tagpr chains RECIPE` means `tagpr chains run RECIPE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


class ReportGroup(StageGroup):
    """`tagpr report RUN...` takes run folders as well as a recipe."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if args and Path(args[0]).is_dir():
            args = ["folders", *args]
        return super().parse_args(ctx, args)


def stage_command(stage: str | None, text: str) -> Any:
    """A command that runs one stage of a recipe, or (None) all of them."""

    def command(
        recipe: RecipeArgument,
        overrides: Overrides = None,
        runs: RunsOption = Path("runs"),
        on_error: OnError = None,
        quiet: Quiet = False,
        as_json: AsJson = False,
    ) -> None:
        from tagpr.pipeline import run_recipe

        skip = [f"data.on_error={on_error}"] if on_error else []
        run_recipe(recipe, [*(overrides or []), *skip], runs, only=stage, quiet=quiet, as_json=as_json)

    command.__doc__ = text
    return command


def stage_group(stage: str, text: str, cls: type[StageGroup] = StageGroup) -> typer.Typer:
    """The group of a stage; its subcommand `run` is what the stage's name alone does."""
    group = typer.Typer(cls=cls, no_args_is_help=True, help=f"{text} `tagpr {stage} RECIPE` runs the stage.")
    group.command("run")(stage_command(stage, text))
    return group
