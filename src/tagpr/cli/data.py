"""`tagpr data`: run the stage, check a file, adapt public raw files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tagpr.cli.options import AsJson, OnError
from tagpr.cli.stages import stage_group
from tagpr.errors import DataError

data = stage_group("data")


@data.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A file or folder of histories, in any of the known formats.")],
    task: Annotated[
        str, typer.Option("--task", help="Card by whose labels and fields to read; guessed if absent.")
    ] = "",
    fields: Annotated[list[str] | None, typer.Option("--field", help="OURS=THEIRS, e.g. --field input=text.")] = None,
    format: Annotated[str, typer.Option("--format", help="A reader's name, or yours as file.py:Name.")] = "auto",
    on_error: OnError = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file is, count what it holds, and name its problems.

    Problems that are alike stand together with their first line; `--json` lists every line.
    Under `--on-error skip` what a run would leave out is written to FILE.rejects.jsonl in the working directory.
    """
    from tagpr.data.check import check, render_check
    from tagpr.data.rejects import write_rejects

    result = check(path, task, _pairs(fields or []), format)
    skip = on_error == "skip"
    written = Path(f"{path.stem}.rejects.jsonl")
    if skip and result.rejects:
        write_rejects(written, result.rejects)
    if as_json:
        rows = {"path": str(path), "format": result.format, "task": result.task, "counts": result.counts}
        text = json.dumps({**rows, "problems": result.problems}, ensure_ascii=False)
    else:
        text = render_check(result)
        if skip and result.rejects:
            text += f"\n  left out: {len(result.rejects)}, with reasons in {written}"
    typer.echo(text)
    if not (result.ok or skip):
        raise typer.Exit(2)


def _pairs(fields: list[str]) -> dict[str, str]:
    """`--field OURS=THEIRS`, checked like a recipe's `fields`."""
    from pydantic import ValidationError

    from tagpr.data.settings import SourceSettings

    names = dict(pair.split("=", 1) for pair in fields if "=" in pair)
    if len(names) != len(fields):
        raise DataError("--field: write OURS=THEIRS, e.g. --field input=text")
    try:
        return SourceSettings(task="any", fields=names).fields
    except ValidationError as error:
        raise DataError(f"--field: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _rewriter(model: str, base_url: str, out: Path) -> Callable[[list[str]], list[str]]:
    from tagpr.clients.settings import CallSettings, GeneratorSettings
    from tagpr.data.adapters.tweets import rewriter
    from tagpr.engine.cached_model import CachedModel

    settings = GeneratorSettings.model_validate(
        {"model": model, "temperature": 0, **({"base_url": base_url} if base_url else {})}
    )
    out.mkdir(parents=True, exist_ok=True)
    return rewriter(CachedModel(settings, CallSettings(), out / "replies.sqlite"))


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


@data.command("import")
def data_import(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="ChatGPT's or Claude's archive, Telegram's JSON, mbox.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="JSONL file for the result.")],
    scrub: Annotated[
        bool, typer.Option("--scrub", help="Replace names, addresses and numbers (see docs/data.md).")
    ] = False,
    names: Annotated[list[str] | None, typer.Option("--name", help="With --scrub: a name that occurs.")] = None,
    names_model: Annotated[
        str, typer.Option("--names-model", help="With --scrub: an installed spaCy model that finds names and places.")
    ] = "",
) -> None:
    """Read what you downloaded of yourself: every reply with what it answers, as JSONL for `tagpr new`."""
    from tagpr.data.imports import read_export, write_replies

    if (names or names_model) and not scrub:
        raise DataError("--name and --names-model do nothing without --scrub; add it")
    export = read_export(path)
    replies = list(export.replies)
    if scrub:
        from tagpr.data.imports.scrub import Scrubber

        replies = Scrubber([*export.names, *(names or ())], names_model).replies(replies)
    write_replies(out, replies)
    users = len({reply.user_id for reply in replies})
    typer.echo(f"{path}: {export.format}, {len(replies)} replies of {users} users{', scrubbed' if scrub else ''}")
    typer.echo(f"wrote {out}")
    typer.echo(f"next: tagpr new {out}")
