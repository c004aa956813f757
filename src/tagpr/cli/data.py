"""`tagpr data`: run the stage, check a file, adapt public raw files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tagpr.cli.options import AsJson, OnError
from tagpr.cli.stages import stage_group

data = stage_group("data", "Read histories and questions, split them.")


@data.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A file or folder of histories, in any of the known formats.")],
    task: Annotated[
        str, typer.Option("--task", help="Card by whose labels and fields to read; guessed if absent.")
    ] = "",
    fields: Annotated[list[str] | None, typer.Option("--field", help="OURS=THEIRS, e.g. --field input=text.")] = None,
    on_error: OnError = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file is, count what it holds, and name every problem with its line."""
    from tagpr.data.check import print_check

    if not print_check(path, task, fields or [], skip=on_error == "skip", as_json=as_json):
        raise typer.Exit(2)


def _rewriter(model: str, base_url: str, out: Path) -> Any:
    from tagpr.clients.settings import CallSettings, GeneratorSettings
    from tagpr.data.adapters.tweets import rewriter
    from tagpr.engine.generator import make_generator

    settings = GeneratorSettings(model=model, temperature=0, **({"base_url": base_url} if base_url else {}))
    out.mkdir(parents=True, exist_ok=True)
    return rewriter(make_generator(settings, CallSettings(), out / "replies.sqlite"))


@data.command("adapt")
def data_adapt(
    name: Annotated[str, typer.Argument(help="movielens, yelp, huffpost, acl-titles, acl-citations or tweets.")],
    raw: Annotated[Path, typer.Argument(help="Folder with the raw files as downloaded.")],
    out: Annotated[Path, typer.Argument(help="Folder for the result.")],
    model: Annotated[str, typer.Option("--model", help="Tweets: the LLM that writes the neutral texts.")] = "",
    base_url: Annotated[str, typer.Option("--base-url", help="Tweets: its OpenAI-compatible endpoint.")] = "",
) -> None:
    """Make a LaMP-shaped task from public raw files that you downloaded."""
    from tagpr.data.adapters import adapt

    report = adapt(name, raw, out, _rewriter(model, base_url, out) if model else None)
    typer.echo(", ".join(f"{key} {value}" for key, value in report.items()) + f" -> {out}")
