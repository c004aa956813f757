"""`tagpr export`: a trained checkpoint for other tools, or an RL stage for verl."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tagpr.cli.ask import RunArgument, SystemOption
from tagpr.cli.session import logged
from tagpr.cli.verl import export_stage


class ExportGroup(TyperGroup):
    """`tagpr export RUN DIR` means `tagpr export checkpoint RUN DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # Any: click's context, or that of typer's copy of it
        """Read `RUN DIR` as `checkpoint RUN DIR`."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["checkpoint", *args]
        return super().parse_args(ctx, args)


export = typer.Typer(
    cls=ExportGroup,
    no_args_is_help=True,
    help="Write a checkpoint as an ordinary Hugging Face folder (`tagpr export RUN DIR`), or an RL stage for verl.",
)
export.command("verl")(export_stage)


@export.command("checkpoint")
def checkpoint(
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
