"""What every command that opens a run has in common: progress and log lines on the terminal, and Ctrl-C."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from tagpr import processes
from tagpr.cli.progress import terminal
from tagpr.errors import RecipeError
from tagpr.runs import Run
from tagpr.runs.run import show_nothing


@contextmanager
def opened(
    recipe: str, overrides: Sequence[str] | None, runs: Path, quiet: bool = False, shared: bool = False
) -> Iterator[Run]:
    """The run of a recipe. Interrupted, the command says that it can be continued and ends with exit code 130.

    shared: whether the command can be divided among the processes of a launcher; others are refused (RecipeError).
    """
    if processes.count() > 1 and not shared:
        raise RecipeError("this command is one process; launch only `tagpr run` and the stages with torchrun")
    with logged(quiet or not processes.is_first()):
        try:
            yield Run.open(recipe, overrides or (), runs, show_nothing if quiet else terminal)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command continues from here", err=True)
            raise typer.Exit(130) from None


@contextmanager
def logged(quiet: bool) -> Iterator[None]:
    """The package's log on standard error, one line per message; only warnings if `quiet`."""
    logger, handler = logging.getLogger("tagpr"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
