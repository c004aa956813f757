"""How long work reports where it stands. Showing it is the command line's (`tagpr.cli.progress`)."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note)."""


def silent(done: int, total: int, note: str = "") -> None:
    """A progress callback that shows nothing."""
