"""Answers in chunks, each saved when it is there, so that a kill costs at most one; shared by models and systems.

Each finished chunk is one file beside the target, written atomically; several processes can share the chunks (`shard`);
whoever finds all of them complete joins them. What a chunk holds depends on the caller's order alone, so a resumed run
batches, and hence answers, exactly as an undisturbed one.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tagpr.evaluation.predictions import Prediction, read_predictions, write_predictions
from tagpr.files import write_text
from tagpr.progress import Progress


def in_chunks(
    ids: Sequence[str],
    order: Sequence[int],
    chunk: int,
    answer: Callable[[list[int], Progress], list[Prediction]],
    out: Path,
    fingerprint: str,
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> list[Prediction]:
    """Answer the examples `ids` in the given order of positions; write `out` with one Prediction per example.

    answer: positions of one chunk and a progress callback -> their predictions. fingerprint: a digest of all that
    decides the answers; parts with another one are not used. shard: (i, n) answers every n-th chunk; with n > 1 the
    list is empty until the last process has finished. Returns the predictions in the order of `ids`.
    """
    if is_complete(out, fingerprint):
        return read_predictions(out)
    parts = out.with_name(f".{out.stem}-{fingerprint}.parts")
    chunks = [list(order[i : i + chunk]) for i in range(0, len(order), chunk)]
    mine = [number for number in range(len(chunks)) if number % shard[1] == shard[0]]
    done, total = 0, sum(len(chunks[number]) for number in mine)

    def report(part: int, _: int = 0, note: str = "") -> None:
        if progress is not None:
            progress(min(total, done + part), total, note)

    for number in mine:
        part = parts / f"{number:05d}.jsonl"
        if not part.is_file():
            write_predictions(part, answer(chunks[number], report))
        done += len(chunks[number])
        report(0)
    if not all((parts / f"{number:05d}.jsonl").is_file() for number in range(len(chunks))):
        return []
    by_id = {row.id: row for number in range(len(chunks)) for row in read_predictions(parts / f"{number:05d}.jsonl")}
    rows = [by_id[name] for name in ids]
    write_predictions(out, rows)
    write_text(_kept_fingerprint(out), fingerprint + "\n")
    shutil.rmtree(parts, ignore_errors=True)
    return rows


def is_complete(out: Path, fingerprint: str) -> bool:
    """Does `out` hold answers made from exactly this, so that no model has to be loaded?"""
    origin = _kept_fingerprint(out)
    return out.is_file() and origin.is_file() and origin.read_text() == fingerprint + "\n"


def _kept_fingerprint(out: Path) -> Path:
    """Where the fingerprint of a predictions file is kept."""
    return out.with_name(f".{out.stem}.fingerprint")
