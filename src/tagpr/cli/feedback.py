"""`tagpr feedback` and `tagpr update`: what users said of answers, and learning from it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tagpr.cli.ask import RunArgument
from tagpr.cli.options import AsJson
from tagpr.cli.session import logged

if TYPE_CHECKING:
    from tagpr.serve.user_rows import Agreement


def feedback(
    run: RunArgument,
    user: Annotated[str | None, typer.Option("--user", help="Only this user's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, one JSON object per line.")] = False,
) -> None:
    """List what users said of answers; `--json` exports it with the prompts as they were shown."""
    from tagpr.serve.feedback import FeedbackStore
    from tagpr.serve.served_run import ServedRun
    from tagpr.serve.store import feedback_path

    path = feedback_path(ServedRun.open(run))
    store = FeedbackStore(path) if path.is_file() else None
    found = [] if store is None else list(store.all(user))
    for one in found:
        if as_json:
            typer.echo(json.dumps(asdict(one), ensure_ascii=False))
        else:
            texts = [f"{side}: {_short(text)}" for side, text in (("+", one.chosen), ("-", one.rejected)) if text]
            typer.echo(f"{one.date}  {one.user}  {one.rating}  {_short(one.question)}  {'  '.join(texts)}")
    if not found and not as_json:
        typer.echo("no feedback yet")
    if store is not None:
        store.close()


def update(run: RunArgument, as_json: AsJson = False) -> None:
    """Learn from stored feedback: fit the users' rows of the reward model, and write the next training's files."""
    from tagpr.serve.update import update as learn

    with logged(quiet=True):
        done = learn(run)
    if as_json:
        typer.echo(json.dumps(asdict(done), default=str, ensure_ascii=False))
        return
    typer.echo(
        f"{done.judgements} judgements: {done.pairs} pairs, {done.corrections} corrected answers, "
        f"{done.single} without another side" + (f", {len(done.refused)} corrections refused" if done.refused else "")
    )
    for refused in done.refused:
        typer.echo(
            f"  refused: {refused.user}  {_short(refused.question)}  +: {_short(refused.answer)}  ({refused.why})"
        )
    for one in done.fitted:
        typer.echo(f"{one.user}: row {'made and ' if one.new else ''}fitted on {one.trained} pairs")
        typer.echo(f"  held-out pairs  {_change(one.before, one.after)}")
        typer.echo(f"  fitted pairs    {_change(one.fit_before, one.fit_after)}")
    if not done.fitted:
        typer.echo("no row was fitted: the run has no reward model with users, or there is no pair")
    typer.echo("for the next training:")
    if done.pairs:
        typer.echo(f"  prmu.pairs.path={done.pairs_file.resolve()}")
    if done.corrections:
        typer.echo(f"  data.corrections={done.corrections_file.resolve()}")


def _change(before: "Agreement", after: "Agreement") -> str:
    if not before.pairs:
        return "none: too few pairs to hold one out"
    return (
        f"{before.right} -> {after.right} of {before.pairs} ordered as the user did, "
        f"mean margin {before.margin:+.3f} -> {after.margin:+.3f}"
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:60]} ..."
