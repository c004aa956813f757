"""What every command that opens a run has in common: progress and log lines on the terminal, and Ctrl-C."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tagpr import processes
from tagpr.cli.options import Overrides, Quiet, RecipeArgument, RunsOption
from tagpr.cli.progress import terminal
from tagpr.errors import RecipeError

if TYPE_CHECKING:
    from tagpr.runs import Run


@dataclass(frozen=True)
class RunOptions:
    """What every command that opens a run is told on the command line."""

    recipe: str
    overrides: tuple[str, ...]
    runs: Path
    quiet: bool

    @contextmanager
    def opened(self, *further: str, shared: bool = False) -> "Iterator[Run]":
        """The run, with further overrides. Interrupted, the command says that it can be continued; exit code 130.

        shared: whether the command can be divided among the processes of a launcher; others are refused (RecipeError).
        """
        from tagpr.runs import Run
        from tagpr.runs.run import show_nothing

        if processes.count() > 1 and not shared:
            raise RecipeError("this command is one process; launch only `tagpr run` and the stages with torchrun")
        with logged(self.quiet or not processes.is_first()):
            try:
                show = show_nothing if self.quiet else terminal
                yield Run.open(self.recipe, [*self.overrides, *further], self.runs, show)
            except KeyboardInterrupt:
                typer.echo("stopped; the same command continues from here", err=True)
                raise typer.Exit(130) from None


def _options(
    recipe: RecipeArgument, overrides: Overrides = None, runs: RunsOption = Path("runs"), quiet: Quiet = False
) -> RunOptions:
    return RunOptions(recipe, tuple(overrides or ()), runs, quiet)


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer: RECIPE [KEY=VALUE]... --runs --quiet, and the options that `command` has of its own.

    command: takes `RunOptions` first.
    """
    shared, (_, *own) = signature(_options).parameters, signature(command).parameters.values()

    @wraps(command)
    def run_command(**values: Any) -> None:
        command(_options(**{name: values.pop(name) for name in shared}), **values)

    found = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in (*shared.values(), *own)]
    run_command.__dict__["__signature__"] = Signature(found)
    run_command.__annotations__ = {parameter.name: parameter.annotation for parameter in found}
    return run_command


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
