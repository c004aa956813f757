"""What long work is given: the folder it writes to, its seed, and a callback for its progress.

Showing progress is the command line's (`tagpr.cli.progress`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note)."""


def silent(done: int, total: int, note: str = "") -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True)
class StageContext:
    """What a stage, or another long piece of work, is given by whoever starts it."""

    out: Path
    """The folder it writes into; what a killed execution left there is still there."""
    seed: int = 0
    progress: Progress = silent


def clock(seconds: float) -> str:
    """`75` -> `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
