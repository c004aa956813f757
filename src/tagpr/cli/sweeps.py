"""`tagpr sweep`: the evaluation or the training of a run again, over one setting."""

from typing import Annotated

import typer

from tagpr.cli.parsing import parse_weights, whole_numbers
from tagpr.cli.session import RunOptions, with_run_options

sweep = typer.Typer(no_args_is_help=True, help="Repeat the evaluation of a run over one setting.")
Systems = Annotated[str, typer.Option("--systems", help="Comma-separated: base, sft, guided, final.")]


@sweep.command("profile-length")
@with_run_options
def sweep_profile_length(
    options: RunOptions,
    lengths: Annotated[str, typer.Option("--lengths", help="Comma-separated numbers of items.")] = "2,4,8,16,32",
    systems: Systems = "base,sft,final",
) -> None:
    """Quality by the number of history items shown (the paper's figure 4, top)."""
    from tagpr.experiments.robustness import profile_length

    with options.opened() as run:
        typer.echo(profile_length(run, whole_numbers(lengths), systems.split(",")))


@sweep.command("retriever")
@with_run_options
def sweep_retriever(
    options: RunOptions,
    retrievers: Annotated[str, typer.Option("--retrievers", help="Comma-separated.")] = "recency,bm25,dense,random",
    systems: Systems = "base,sft,final",
) -> None:
    """Quality by how history items are chosen (the paper's figure 4, bottom)."""
    from tagpr.experiments.robustness import retriever

    with options.opened() as run:
        typer.echo(retriever(run, retrievers.split(","), systems.split(",")))


@sweep.command("rewards")
@with_run_options
def sweep_rewards(
    options: RunOptions,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="ALPHA,BETA,GAMMA, once per setting; default: table 6's six.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Runs side by side.")] = 1,
) -> None:
    """Train and evaluate once per setting of the reward's weights (the paper's table 6)."""
    from tagpr.experiments.sensitivity import REWARD_WEIGHTS, rewards

    with options.opened() as run:
        typer.echo(rewards(run, parse_weights(weights) or REWARD_WEIGHTS, processes))
