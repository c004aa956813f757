"""The arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a bundled recipe.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. sft.epochs=1 seed=3.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds the run folders.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
OnError = Annotated[
    Literal["stop", "skip"] | None,
    typer.Option(
        "--on-error",
        help="At a bad line of the data: stop, or leave it out and list it with its reason in rejects.jsonl.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
