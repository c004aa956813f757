"""`tagpr export verl` and `tagpr import verl`: an RL stage trained by verl somewhere else."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tagpr.cli.session import RunOptions, with_run_options
from tagpr.errors import RecipeError

if TYPE_CHECKING:
    from tagpr.runs import Run

StageOption = Annotated[Literal["guided", "exploratory"], typer.Option("--stage", help="Which of the two RL stages.")]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="The folder of the export; runs/NAME/verl/STAGE if absent.")
]


@with_run_options
def export_stage(options: RunOptions, stage: StageOption = "guided", folder: FolderOption = None) -> None:
    """Write an RL stage for verl, rows and a configuration that names our reward. The recipe has `rl.engine: verl`."""
    from tagpr.pipeline.verl_stage import export_verl

    with options.opened() as run:
        written = export_verl(_on_verl(run), stage, _folder(run, stage, folder))
    typer.echo(f"wrote {written.path}: {written.config.name}, {written.train.name}")
    typer.echo(f"train it in verl's environment: python -m tagpr.training.verl {written.path}")
    typer.echo(f"then: tagpr import verl {options.recipe} {written.checkpoints} --stage {stage}")


bring_back = typer.Typer(no_args_is_help=True, help="Put an RL stage that was trained elsewhere into a run.")


@bring_back.callback()
def _import() -> None:
    """A group, so that `verl` stays a word of the command."""


@bring_back.command("verl")
@with_run_options
def import_stage(
    options: RunOptions,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="verl's global_step_N, the folder of several, or a Hugging Face folder."
        ),
    ],
    stage: StageOption = "guided",
    folder: FolderOption = None,
) -> None:
    """Put a checkpoint of verl in a stage's place, as fp32 safetensors with its log; `tagpr run` goes on from there."""
    from tagpr.pipeline import bring
    from tagpr.pipeline.verl_stage import import_verl
    from tagpr.training.verl.layout import VerlFolder

    with options.opened() as run:
        exported = VerlFolder(_folder(_on_verl(run), stage, folder))
        manifest = bring(run, stage, partial(import_verl, stage=stage, checkpoint=checkpoint, exported=exported))
    typer.echo(f"{run.folder.stage(stage)}: {manifest.metrics}")


def _on_verl(run: "Run") -> "Run":
    if run.recipe.rl.engine != "verl":
        raise RecipeError(f"{run.source}: rl.engine is {run.recipe.rl.engine}; add rl.engine=verl")
    return run


def _folder(run: "Run", stage: str, given: Path | None) -> Path:
    return given or run.folder.path / "verl" / stage
