"""The command line. No logic here: each command parses its arguments and calls one function of the library.

A user's mistake ends with one line on standard error and exit code 2; Ctrl-C with exit code 130, and a rerun continues;
a comparison with a failed row with exit code 1.
"""

import os
import sys
import warnings
from io import TextIOWrapper
from typing import cast

import typer

from tagpr import processes
from tagpr.cli.commands import app
from tagpr.errors import TagPRError
from tagpr.files import no_space, not_permitted

__all__ = ["app", "main"]

_UsageError = typer.BadParameter.__mro__[1]
"""Typer's, by its public heir: it is in click or in Typer's own copy of click, by version."""


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot print a character prints its number
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app(prog_name="tagpr", standalone_mode=False))  # None, or the code of a `typer.Exit`
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        if reason:
            sys.stderr.write(f"error: {_speaker()}{reason}\n")
        sys.exit(2)


def _reason(error: Exception) -> str | None:
    """What the user can do something about, in one line; "" if all is said, None for a fault of ours."""
    if isinstance(error, TagPRError):
        return str(error)
    if isinstance(error, typer.Abort):
        return "no answer was given"
    if isinstance(error, _UsageError):
        return _refusal(cast("typer.BadParameter", error))
    if no_space(error):
        return "no space left on the disk; free some, and the same command continues"
    if isinstance(error, OSError) and not_permitted(error):
        return f"{error.filename}: {error.strerror}; name a folder that can be written"
    return None


def _refusal(error: typer.BadParameter) -> str:
    """What Typer refuses, where it would print a box of several lines."""
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed
        return ""
    command = error.ctx.command_path if error.ctx else "tagpr"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{command}: {message[:1].lower()}{message[1:]} (see `{command} --help`)"


def _speaker() -> str:
    return "" if processes.is_first() else f"process {processes.rank()}: "
