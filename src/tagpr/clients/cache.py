"""Replies on disk: one SQLite file keyed by the whole request, safe to share between processes and to kill at any time.

A reply is committed as soon as it is there. The key covers everything that shapes a reply (endpoint, model, messages,
sampling, sample number) and nothing else; no secret is part of a request, so none reaches the file.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tagpr.clients.replies import clean_text
from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Reply, Request
from tagpr.errors import RunError
from tagpr.files import cache_folder


def default_cache() -> Path:
    """`calls.sqlite` in the cache folder (`tagpr.files.cache_folder`)."""
    return cache_folder() / "calls.sqlite"


_COLUMNS = "content, reasoning, finished, prompt_tokens, completion_tokens"


class ReplyCache:
    """A key-value table of replies. Use as a context manager or call `close`.

    Everything raises RunError, in one line naming the file, if that is damaged, foreign, full or not writable.
    """

    _BATCH = 500

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: the folder cannot be made ({error.strerror}); name another cache") from None
        with self._named():
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._use_write_ahead_log()
            self.connection.execute("PRAGMA synchronous=NORMAL")
            # checkpoints wait for the disk and hold all calls up: have them rarely, or at the end
            self.connection.execute("PRAGMA wal_autocheckpoint=20000")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, content TEXT, reasoning TEXT,"
                " finished INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER) WITHOUT ROWID"
            )
            self.connection.execute(f"SELECT key, {_COLUMNS} FROM replies LIMIT 1").fetchone()  # another tool's table?

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RunError(f"{self.path}: not a usable cache file ({error}); delete it or name another one") from None

    def _use_write_ahead_log(self) -> None:
        """Of two processes that make a new file WAL at the same moment, one is told "locked" at once."""
        until = time.monotonic() + 60
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                if time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def get(self, key: bytes) -> Reply | None:
        """The reply to one request, also one that another process wrote a moment ago."""
        with self._named():
            row = self.connection.execute(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (key,)).fetchone()
        return self._reply(row) if row else None

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The known replies among `keys`."""
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), self._BATCH):
            batch = keys[start : start + self._BATCH]
            marks = ",".join("?" * len(batch))
            with self._named():
                query = f"SELECT {_COLUMNS}, key FROM replies WHERE key IN ({marks})"
                rows = self.connection.execute(query, batch).fetchall()
            found |= {row[5]: self._reply(row) for row in rows}
        return found

    def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """Store several replies, all or none."""
        with self._named():
            self.connection.execute("BEGIN IMMEDIATE")
        for key, reply in replies:
            self.put(key, reply)
        with self._named():
            self.connection.execute("COMMIT")

    def put(self, key: bytes, reply: Reply) -> Reply:
        """Store one reply and return the one that is stored: the first, if two processes called at once, so that
        both go on with the same.
        """
        with self._named():
            done = self.connection.execute(
                "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)",
                (key, reply.content, reply.reasoning, reply.finished, reply.prompt_tokens, reply.completion_tokens),
            )
        return reply if done.rowcount else self.get(key) or reply

    def forget(self, holds: Callable[[str], bool]) -> int:
        """Remove every reply whose text `holds` something, from the disk too; returns how many that were."""
        with self._named():
            self.connection.execute("PRAGMA secure_delete=ON")
            rows = self.connection.execute("SELECT key, content, reasoning FROM replies")
            keys = [(key,) for key, content, reasoning in rows if holds(f"{content}\n{reasoning}")]
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("DELETE FROM replies WHERE key = ?", keys)
            self.connection.execute("COMMIT")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds pages from before
        return len(keys)

    def _reply(self, row: Sequence[object]) -> Reply:
        content, reasoning, finished, *counts = row[:5]
        numbers = [count for count in counts if isinstance(count, int)]
        if not isinstance(content, str) or not isinstance(reasoning, str) or len(numbers) != 2:
            raise RunError(f"{self.path}: a row of another tool's or a damaged one; delete it or name another one")
        return Reply(content, reasoning, bool(finished), *numbers)


def request_body(
    settings: GeneratorSettings, messages: Sequence[Mapping[str, str]], sample: int | None = None
) -> dict[str, object]:
    """The JSON body of a chat completion request. When sampling, the sample number is the seed, for servers that heed
    it: rollouts of one prompt differ even if a server repeats itself.
    """
    sampled = settings.seed is not None and settings.temperature != 0
    fields: dict[str, object] = {
        "model": settings.model,
        "messages": [{name: clean_text(text) for name, text in message.items()} for message in messages],
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        settings.max_tokens_field: settings.max_new_tokens,
        "seed": sample if sampled else None,
    }
    if settings.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in (fields | settings.extra_body).items() if value is not None}


def request_keys(settings: GeneratorSettings, requests: Sequence[Request]) -> list[bytes]:
    """One key per request: SHA-256 over endpoint, body and sample number.

    Of a model that runs here `settings.model` is not a path but what is there (`tagpr.engine.cached_model`).
    """
    remote = settings.engine == "endpoint"
    where = settings.base_url if remote else ""
    body = request_body(settings.model_copy(update={"stream": False}), ())  # how a reply travels does not shape it
    head = json.dumps(["openai" if remote else settings.engine, where, body], sort_keys=True)
    keys = []
    last: tuple[Mapping[str, str], ...] | None = None
    base = hashlib.sha256()
    for request in requests:
        if request.messages is not last:  # rollouts of one prompt follow each other and share the object
            last = request.messages
            base = hashlib.sha256(head.encode())
            base.update(
                json.dumps([dict(m) for m in last], sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
            )
        one = base.copy()
        one.update(b"%d" % request.sample)
        keys.append(one.digest())
    return keys
