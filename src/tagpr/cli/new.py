"""`tagpr new`: a recipe for a file."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tagpr.data.proposal import Role
    from tagpr.new.plan import Plan


def new(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSONL, JSON, CSV, TSV or Parquet, or a known benchmark.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The recipe to write; FILE's name if absent.")] = None,
    user: Annotated[str, typer.Option("--user", help="Column that says whose row it is.")] = "",
    shown: Annotated[str, typer.Option("--input", help="Column that the model is shown.")] = "",
    output: Annotated[str, typer.Option("--output", help="Column that it is to write.")] = "",
    date: Annotated[str, typer.Option("--date", help="Column with the date.")] = "",
) -> None:
    """Read a file of histories and write a recipe for it, with a task card if it holds labels or ratings."""
    from tagpr.new.write import name_of, write_recipe

    recipe = out or Path(f"{name_of(file)}.yaml")
    given: dict[Role, str] = {"user_id": user, "input": shown, "output": output, "date": date}
    plan = _decided(file, {role: column for role, column in given.items() if column}, name_of(recipe))
    written = write_recipe(plan, recipe)
    _say(plan)
    for path in filter(None, (written.card, written.recipe)):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: tagpr run {written.recipe}")


def _decided(file: Path, given: "Mapping[Role, str]", name: str) -> "Plan":
    """The plan; on a terminal what the file does not say is asked."""
    from tagpr.new.plan import UndecidedError, plan_recipe

    while True:
        try:
            return plan_recipe(file, given, name)
        except UndecidedError as error:
            question = next((one for one in error.questions if one.candidates), None)
            if question is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
                raise
            typer.echo(f"{file}: {question.why}")
            for number, column in enumerate(question.candidates, 1):
                typer.echo(f"  {number}  {column}")
            column = ""
            while column not in question.candidates:
                answer = str(typer.prompt("which column (its number or name)"))
                place = int(answer) if answer.isdecimal() else 0
                column = question.candidates[place - 1] if 0 < place <= len(question.candidates) else answer
            given = {**given, question.role: column}


def _say(plan: "Plan") -> None:
    """What was decided and what the file holds."""
    typer.echo(f"{plan.path}: {plan.found.reader.says}")
    if plan.columns:
        roles = ("user_id", "input", "output", "date")
        typer.echo("  " + ", ".join(f"{role}: {plan.columns.get(role, 'none')}" for role in roles))
    labels = f" ({', '.join(plan.task.labels[:8])}{', ...' if len(plan.task.labels) > 8 else ''})" if plan.card else ""
    tokens = f", ROUGE in {plan.rouge_tokens} tokens" if plan.rouge_tokens else ""
    typer.echo(f"  task: {plan.task.kind}{labels}{tokens}")
    for name, value in plan.found.counts.items():
        typer.echo(f"  {name}: {value}")
    if plan.found.problems:
        typer.echo(f"  left out: {len(plan.found.problems)} (tagpr data check --json names every line)")
