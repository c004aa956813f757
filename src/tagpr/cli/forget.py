"""`tagpr forget`: take a user out of a run."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from tagpr.cli.ask import RunArgument
from tagpr.cli.session import logged


def forget(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user to forget.")],
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as one JSON object.")] = False,
) -> None:
    """Take a user out of a run's files and say, file by file, what was removed and what the weights may still hold."""
    from tagpr.serve.forget import forget as take_out

    with logged(quiet=True):
        done = take_out(run, user)
    if as_json:
        typer.echo(json.dumps(asdict(done), default=str, ensure_ascii=False))
        return
    for removal in done.removals:
        typer.echo(f"{removal.path}: {removal.what}")
    for sentence in done.in_weights:
        typer.echo(f"the weights may still hold something: {sentence}")
    for path in done.left:
        typer.echo(f"{path}: still holds the id or a text of the user, and is of no known kind; remove it by hand")
    if done.in_weights:
        typer.echo("to be rid of that too, take the user out of the recipe's source files and run the recipe again")
