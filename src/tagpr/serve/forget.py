"""`forget`: a user leaves a run's files, row by row, and what cannot leave is said.

Rows of the user go from data, chains, pairs, samples, predictions and tables; the user's row leaves the reward model;
the report is written again; store and feedback are emptied of the user. Rows of others stay as they are.
What the weights of the policy hold cannot be taken out: `Forgotten.in_weights` says how much of their training it was.

What is searched for goes with the files, so it is written down before anything is removed: after a kill at any moment
the same command does the rest.
"""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from tagpr.clients.cache import ReplyCache
from tagpr.errors import DataError
from tagpr.files import read_json, read_jsonl, write_json, write_text
from tagpr.profiles.repository import ProfileRepository
from tagpr.runs.layout import RunFolder
from tagpr.runs.stage import locked
from tagpr.serve.feedback import FeedbackStore
from tagpr.serve.manifests import renew_manifests
from tagpr.serve.readable import need_readable
from tagpr.serve.reply_caches import reply_caches
from tagpr.serve.served_run import ServedRun
from tagpr.serve.store import feedback_path, has_store, open_store, place_of
from tagpr.serve.traces import Traces, find_traces


@dataclass(frozen=True)
class Removal:
    """What was taken out of one file."""

    path: Path
    what: str


@dataclass(frozen=True)
class Forgotten:
    """What became of a user."""

    user: str
    removals: tuple[Removal, ...]
    in_weights: tuple[str, ...]
    """What the policy's weights may still hold, a sentence for each stage that saw the user."""
    left: tuple[Path, ...] = ()
    """Files of a kind that is not known here and still hold the id or a text: to be removed by hand."""


def forget(run: str | Path, user: str) -> Forgotten:
    """Take a user out of a run folder.

    Raises DataError if the run knows no such user, RunError if it is in use, a cache of replies is not there
    or a file is damaged, ModelError if weights are: all files are read before the first is changed.
    """
    served = ServedRun.open(run)
    folder = served.folder
    note = folder.path / f".forgetting-{hashlib.sha256(user.encode()).hexdigest()[:16]}"
    with locked(folder.path), ExitStack() as opened:
        caches = reply_caches(folder)
        need_readable(folder, caches)
        store = opened.enter_context(closing(open_store(served))) if has_store(served) else None
        path = feedback_path(served)
        feedback = opened.enter_context(closing(FeedbackStore(path))) if path.is_file() else None
        continued = note.is_file()
        traces, in_weights = _search(served, user, store, feedback, note)
        removals = _files(folder, traces, continued)
        removals += _replies(caches, traces)
        renew_manifests(folder)
        if feedback is not None:
            removals.append(Removal(path, f"{feedback.delete_user(user)} judgements"))
        if store is not None:
            removals.append(Removal(place_of(served), f"{store.delete_user(user)} interactions"))
        note.unlink()
        left = tuple(path for path in sorted(folder.path.rglob("*")) if path.is_file() and _holds(path, traces))
    return Forgotten(user, tuple(removals), in_weights, left)


def _search(
    served: ServedRun, user: str, store: ProfileRepository | None, feedback: FeedbackStore | None, note: Path
) -> tuple[Traces, tuple[str, ...]]:
    """What tells the user's rows and what the weights may hold, with what an interrupted command noted of them.

    Noted again in `note`. Raises DataError for a user of whom there is nothing.
    """
    folder, noted = served.folder, read_json(note) if note.is_file() else None
    stored = [] if store is None else [item for _, _, item in store.export(None, user)]
    judgements = [] if feedback is None else list(feedback.all())
    traces = find_traces(folder, served.tasks, user, stored, judgements)
    known = stored or traces.examples or any(one.user == user for one in judgements) or _learned_from(folder, user)
    if noted is None and not known:
        raise DataError(f"{folder.path}: knows no user '{user}'")
    in_weights = _in_weights(folder, traces)
    if noted is not None:
        examples, texts = traces.examples.union(noted["examples"]), traces.texts.union(noted["texts"])
        traces = replace(traces, examples=examples, texts=texts)
        in_weights = tuple(dict.fromkeys([*noted["in_weights"], *in_weights]))
    write_json(note, {"examples": sorted(traces.examples), "texts": sorted(traces.texts), "in_weights": in_weights})
    return traces, in_weights


def _learned_from(folder: RunFolder, user: str) -> bool:
    """Whether the reward model has a row of the user, or pairs: judgements may be gone from the store since."""
    rows = folder.model("prmu") / "users.json"
    pairs = _users(folder.pairs)
    if folder.human_pairs.is_file():
        pairs += [pair["user_id"] for pair in read_jsonl(folder.human_pairs)]
    return user in pairs or (rows.is_file() and user in read_json(rows))


def _files(folder: RunFolder, traces: Traces, continued: bool) -> list[Removal]:
    """The user's row of the reward model, rows and entries of all files, and the pages that are made of them."""
    removals = _prmu(folder, traces.user)
    for path in sorted(path for path in folder.path.rglob("*") if path.is_file()):
        clean = _CLEANERS.get(path.suffix)
        what = clean(path, traces) if clean and path.name != "manifest.json" and path.parent.name != "model" else ""
        if what:
            removals.append(Removal(path, what))
    return removals + (_pages(folder) if removals or continued else [])


def _jsonl(path: Path, traces: Traces) -> str:
    lines = _lines(path)
    kept = [line for line in lines if not (line.strip() and traces.within(json.loads(line)))]
    return _replaced(path, "".join(kept), len(lines) - len(kept))


def _lines(path: Path) -> list[str]:
    """With their ends. A text may hold what `str.splitlines` also cuts at, such as U+2028."""
    return list(StringIO(path.read_text(encoding="utf-8")))


def _csv(path: Path, traces: Traces) -> str:
    lines = _lines(path)
    names = next(csv.reader(lines[:1]), [])

    def row(line: str) -> dict[str, str]:
        return dict(zip(names, next(csv.reader([line]), []), strict=False))

    kept = lines[:1] + [line for line in lines[1:] if not traces.within(row(line))]
    return _replaced(path, "".join(kept), len(lines) - len(kept))


def _json(path: Path, traces: Traces) -> str:
    value = read_json(path)
    if not traces.within(value):
        return ""
    write_json(path, traces.without(value))
    return "entries of the user"


def _parquet(path: Path, traces: Traces) -> str:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    keep = [not traces.within(row) for row in table.to_pylist()]
    if all(keep):
        return ""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    pq.write_table(table.filter(keep), temporary)
    os.replace(temporary, path)
    return f"{len(keep) - sum(keep)} rows"


def _text(path: Path, traces: Traces) -> str:
    if not traces.in_text(path.read_text(encoding="utf-8", errors="replace")):
        return ""
    path.unlink()
    return "the whole file"


_CLEANERS: dict[str, Callable[[Path, Traces], str]] = {
    **{".jsonl": _jsonl, ".csv": _csv, ".json": _json, ".parquet": _parquet},
    **dict.fromkeys((".md", ".txt", ".svg", ".tex", ".yaml"), _text),
}
"""By a file's ending: takes the user out and says what that was, or "" for nothing."""


def _replaced(path: Path, text: str, removed: int) -> str:
    if not removed:
        return ""
    write_text(path, text)
    return f"{removed} rows"


def _prmu(folder: RunFolder, user: str) -> list[Removal]:
    """The user's row of the reward model; every other score stays the same to the bit."""
    path = folder.model("prmu")
    if not (path / "users.json").is_file() or user not in read_json(path / "users.json"):
        return []
    from tagpr.prmu.score import PRMU

    prmu = PRMU.from_pretrained(path, device="cpu", dtype="float32")  # as saved: no weight is rounded
    prmu.remove_user(user)
    prmu.save(path)
    return [Removal(path, "the user's embedding, name and encoded history")]


def _pages(folder: RunFolder) -> list[Removal]:
    """The report, written again; other pages hold packed cases and go."""
    from tagpr.report import write_report

    removals = []
    for page in sorted(folder.path.rglob("*.html")):
        if page != folder.report:
            page.unlink()
            removals.append(Removal(page, "the page; its command writes it again"))
    if folder.report.is_file():
        write_report(folder.path, folder.stage("report"))
        removals.append(Removal(folder.report, "the user's cases; written again"))
    return removals


def _replies(caches: Iterable[Path], traces: Traces) -> list[Removal]:
    """Replies of language models that quote the user; prompts are not kept there."""
    removals = []
    for path in caches:
        with ReplyCache(path) as cache:
            count = cache.forget(traces.in_text)
        if count:
            removals.append(Removal(path, f"{count} replies that quote the user"))
    return removals


_HEAD = 2**20
"""Bytes of a file of weights that are searched: its header and metadata."""


def _holds(path: Path, traces: Traces) -> bool:
    """Whether a file still holds the id or a text; of weights only the header is read, of Parquet the rows."""
    if path.parent.name == "model" and path.suffix != ".safetensors" and path.name != "users.json":
        return False  # a tokenizer's words, one of which may be the id
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return any(traces.within(row) for row in pq.read_table(path).to_pylist())
    with open(path, "rb") as stream:
        data = stream.read(_HEAD if path.suffix in (".safetensors", ".bin", ".pt", ".gguf") else -1)
    return traces.in_text(data.decode("utf-8", "replace"))


def _in_weights(folder: RunFolder, traces: Traces) -> tuple[str, ...]:
    files = {"sft": folder.chains, "guided": folder.stage("guided") / "samples.parquet"}
    files["exploratory"] = folder.stage("exploratory") / "samples.parquet"
    found = []
    for stage, path in files.items():
        users = _users(path)
        if own := users.count(traces.user):
            found.append(f"{stage}: {own} of the {len(users)} texts it learned from were about this user")
    return tuple(found)


def _users(path: Path) -> list[str]:
    """Whom the rows of a Parquet file are about; nobody if there is none."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["user_id"])["user_id"].to_pylist() if path.is_file() else []
