"""Whether `forget` can read all files that it will have to, found out before it rewrites the first of them."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tagpr.clients.cache import ReplyCache
from tagpr.engine.checkpoint_files import check_weights
from tagpr.errors import RunError
from tagpr.files import read_json
from tagpr.runs.layout import RunFolder
from tagpr.stages import made_again, stage_folder


def need_readable(folder: RunFolder, caches: Iterable[Path]) -> None:
    """Raises RunError, or ModelError for weights of the reward model, naming a damaged file or cache and the fix."""
    from pyarrow import ArrowException

    prmu = folder.model("prmu")
    for path in sorted(path for path in folder.path.rglob("*") if path.is_file()):
        read = _READERS.get(path.suffix)
        if read is None or (path.parent.name == "model" and path.parent != prmu):
            continue
        try:
            read(path)
        except (OSError, ValueError, csv.Error, ArrowException) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(f"{path}: damaged ({reason}); {_fix(path)}") from None
    check_weights(prmu)
    for path in caches:
        ReplyCache(path).close()


def _fix(path: Path) -> str:
    """Files of a model need each other: one alone is not to be deleted."""
    if path.parent.name == "model" or stage_folder(path) is None:
        return made_again(path, "delete it")
    return f"delete it, or {made_again(path)}"


def _jsonl(path: Path) -> None:
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                json.loads(line)


def _csv(path: Path) -> None:
    with open(path, encoding="utf-8") as lines:
        for _ in csv.reader(lines):
            pass


def _parquet(path: Path) -> None:
    import pyarrow.parquet as pq

    pq.read_table(path)


_READERS: dict[str, Callable[[Path], object]] = {
    **{".jsonl": _jsonl, ".csv": _csv, ".json": read_json, ".parquet": _parquet}
}
"""By a file's ending; the other kinds can be read whatever they hold."""
