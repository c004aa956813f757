"""`tagpr export`: a trained checkpoint for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from tagpr.cli.ask import RunArgument, SystemOption
from tagpr.cli.session import logged


def export(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    system: SystemOption = None,
    push: Annotated[
        str, typer.Option("--push", metavar="OWNER/NAME", help="Upload it to the hub, private if new (HF_TOKEN).")
    ] = "",
) -> None:
    """Write an ordinary Hugging Face folder with a model card, the prompt's templates and an example that builds it."""
    from tagpr.serve.export import export as write
    from tagpr.serve.export import push as upload

    with logged(quiet=True):
        written = write(run, folder, system)
        typer.echo(f"wrote {written}: checkpoint, README.md, prompt.json, prompt_example.py")
        if push:
            typer.echo(f"pushed to {upload(written, push)}")
