"""The command line. No logic here: each command parses its arguments and calls one function of the library.

A user's mistake ends with one line on standard error and exit code 2; Ctrl-C with exit code 130, and a rerun continues.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tagpr.errors import TagPRError


class StageGroup(TyperGroup):
    """A stage's verb that has subcommands too: `tagpr chains RECIPE` means `tagpr chains run RECIPE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Train a language model to reason about one person, in tagged steps, from that person's history.",
)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a bundled recipe.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. sft.epochs=1 seed=3.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds the run folders.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from tagpr import __version__

        typer.echo(f"tagpr {__version__}")
        raise typer.Exit()


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Run every stage of a recipe that is missing or out of date, and print the results."""
    from tagpr.pipeline import run_recipe

    run_recipe(recipe, overrides or [], runs, quiet=quiet, as_json=as_json)


@app.command()
def recipes() -> None:
    """List the bundled recipes."""
    from tagpr.recipe import bundled_recipes

    for name in bundled_recipes():
        typer.echo(name)


def _stage_command(stage: str, text: str) -> Any:
    def command(
        recipe: RecipeArgument,
        overrides: Overrides = None,
        runs: RunsOption = Path("runs"),
        quiet: Quiet = False,
        as_json: AsJson = False,
    ) -> None:
        from tagpr.pipeline import run_recipe

        run_recipe(recipe, overrides or [], runs, only=stage, quiet=quiet, as_json=as_json)

    command.__doc__ = text
    return command


def _stage_group(stage: str, text: str) -> typer.Typer:
    group = typer.Typer(cls=StageGroup, no_args_is_help=True, help=f"{text} `tagpr {stage} RECIPE` runs the stage.")
    group.command("run")(_stage_command(stage, text))
    app.add_typer(group, name=stage)
    return group


data = _stage_group("data", "Read histories and questions, split them.")
chains = _stage_group("chains", "Stage 0: tagged reasoning chains from a teacher, filtered.")
prmu = _stage_group("prmu", "The personalization reward model with user embeddings.")
report = _stage_group("report", "The HTML report of a run.")
app.command("sft")(_stage_command("sft", "Stage 1: supervised fine-tuning on the chains."))
app.command("guided")(_stage_command("guided", "Stage 2: guided RL with the full reward."))
app.command("exploratory")(_stage_command("exploratory", "Stage 3: exploratory RL with the foundation reward."))
app.command("evaluate")(_stage_command("evaluate", "Answer the held-out examples with every system and score them."))


@data.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A file or folder of histories, in any of the known formats.")],
    task: Annotated[
        str, typer.Option("--task", help="Card by whose labels and fields to read; guessed if absent.")
    ] = "",
    fields: Annotated[list[str] | None, typer.Option("--field", help="OURS=THEIRS, e.g. --field input=text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file is, count what it holds, and name every problem with its line."""
    from tagpr.data.check import print_check

    if not print_check(path, task, fields or [], as_json=as_json):
        raise typer.Exit(2)


tasks = typer.Typer(invoke_without_command=True, help="The task cards: list them, or show one.")
app.add_typer(tasks, name="tasks")


@tasks.callback()
def tasks_list(context: typer.Context) -> None:
    """List the bundled task cards."""
    if context.invoked_subcommand is None:
        from tagpr.prompts.show import task_lines

        typer.echo("\n".join(task_lines()))


@tasks.command("show")
def tasks_show(name: Annotated[str, typer.Argument(help="Name of a bundled card, or path of a .yaml card.")]) -> None:
    """Show a card and the prompt it makes of an invented example."""
    from tagpr.chains.vocabulary import load_vocabulary
    from tagpr.prompts.show import show_task

    typer.echo(show_task(name, load_vocabulary(None).names))


def main() -> None:
    """Entry point of `tagpr`."""
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_DISABLED": "true",
    }.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except TagPRError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
