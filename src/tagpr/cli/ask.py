"""`tagpr ask`: one question, or a file of them, to a trained run."""

import json
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from tagpr.cli.session import logged
from tagpr.errors import DataError

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, runs/NAME, or the NAME alone.")]
TaskOption = Annotated[
    str | None, typer.Option("--task", help="The run's task; needed if the user has a history with several.")
]
SystemOption = Annotated[
    Literal["base", "sft", "guided", "final"] | None,
    typer.Option("--system", help="Which checkpoint answers; the last one trained if absent."),
]


def ask(
    run: RunArgument,
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="Whose question it is; a file of questions may name users.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION", help="The question, or its fields as a JSON object; - reads it from standard input."
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions", help="A file with one question per line, as text or as JSON; answers are JSON lines."
        ),
    ] = None,
    task: TaskOption = None,
    system: SystemOption = None,
    history_of: Annotated[
        str | None, typer.Option("--history-of", metavar="OTHER", help="Show this user's history instead.")
    ] = None,
    best_of: Annotated[
        int, typer.Option("--best-of", min=1, help="Draw so many answers and take the one that they agree on.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as one JSON object.")] = False,
) -> None:
    """Ask a trained run: the answer, the chain that led to it and the history items it used."""
    from tagpr.serve.model import PersonalModel, Query
    from tagpr.serve.question_files import read_queries

    template = Query(user or "", "", task, system, history_of, best_of=best_of)
    with logged(quiet=True), PersonalModel.load(run) as model:
        if questions is not None:
            queries = read_queries(questions, template)
        else:
            queries = [replace(template, question=_question(question))] if user else [template]
        if not all(query.user for query in queries):
            known = model.users(task)
            more = ", ..." if len(known) > 3 else ""
            raise DataError(f"ask: name a USER; the run knows {', '.join(known[:3])}{more} ({len(known)} users)")
        answers = model.ask_many(queries)
    if as_json or questions is not None:
        for answer in answers:
            typer.echo(json.dumps(asdict(answer), ensure_ascii=False))
        return
    from tagpr.cli.answer import print_answer

    print_answer(answers[0])


def _question(text: str | None) -> str | dict[str, str]:
    if text is None:
        raise DataError("ask: give a QUESTION, or a file of them with --questions")
    asked: str = sys.stdin.read() if text == "-" else text
    if asked.lstrip().startswith("{"):
        with suppress(ValueError):
            fields = json.loads(asked)
            if all(isinstance(value, str) for value in fields.values()):
                return fields
    return asked
