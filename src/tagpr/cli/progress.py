"""Progress of long work on standard error: a bar with the time left on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tagpr.progress import Progress, clock

_LINE_EVERY = 20.0  # seconds between lines if there is no terminal


@contextmanager
def terminal(name: str) -> Iterator[Progress]:
    """Show the progress of a piece of work."""
    if sys.stderr.isatty():
        with _bar(name) as callback:
            yield callback
    else:
        yield _lines(name)


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None, note="")

        def callback(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total or None, note=note)

        yield callback


def _lines(name: str) -> Progress:
    started = last = time.monotonic()
    origin: tuple[int, str] | None = None  # where this execution (perhaps resumed) began, and in which phase

    def callback(done: int, total: int, note: str = "") -> None:
        nonlocal started, last, origin
        now = time.monotonic()
        if origin is None or done < origin[0] or note.split(" ")[0] != origin[1]:
            origin, started = (done, note.split(" ")[0]), now  # a new phase counts from its own start
        if now - last < _LINE_EVERY or not total:
            return
        last = now
        gone = done - origin[0]
        left = f", {clock((now - started) * (total - done) / gone)} left" if gone > 0 else ""
        sys.stderr.write(f"{name}: {done}/{total}{left}{' ' + note if note else ''}\n")
        sys.stderr.flush()

    return callback
