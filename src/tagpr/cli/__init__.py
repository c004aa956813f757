"""The command line. No logic here: each command parses its arguments and calls one function of the library.

A user's mistake ends with one line on standard error and exit code 2; Ctrl-C with exit code 130, and a rerun continues;
a comparison with a failed row with exit code 1.
"""

import os
import sys
import warnings
from io import TextIOWrapper

from tagpr import processes
from tagpr.cli.commands import app
from tagpr.errors import TagPRError
from tagpr.files import no_space, not_permitted

__all__ = ["app", "main"]


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
        app()
    except TagPRError as error:
        sys.stderr.write(f"error: {_speaker()}{error}\n")
        sys.exit(2)
    except Exception as error:
        if no_space(error):
            reason = "no space left on the disk; free some, and the same command continues"
        elif isinstance(error, OSError) and not_permitted(error):
            reason = f"{error.filename}: {error.strerror}; name a folder that can be written"
        else:
            raise
        sys.stderr.write(f"error: {_speaker()}{reason}\n")
        sys.exit(2)


def _speaker() -> str:
    return "" if processes.is_first() else f"process {processes.rank()}: "
