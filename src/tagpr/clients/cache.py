"""Replies on disk: one SQLite file keyed by the whole request, safe to share between processes and to kill at any time.

A reply is committed as soon as it is there. The key covers everything that shapes a reply (endpoint, model, messages,
sampling, sample number) and nothing else; no secret is part of a request, so none reaches the file.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Reply, Request
from tagpr.errors import RunError


def default_cache() -> Path:
    """`calls.sqlite` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagpr" / "calls.sqlite"


class ReplyCache:
    """A key-value table of replies. Use as a context manager or call `close`."""

    _BATCH = 500

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._use_write_ahead_log()
            self.connection.execute("PRAGMA synchronous=NORMAL")
            # checkpoints wait for the disk and hold all calls up: have them rarely, or at the end
            self.connection.execute("PRAGMA wal_autocheckpoint=20000")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, content TEXT, reasoning TEXT,"
                " finished INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise RunError(f"{path}: not a usable cache file ({error}); delete it or name another one") from None

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
        self.connection.close()

    def get(self, key: bytes) -> Reply | None:
        """The reply to one request, also one that another process wrote a moment ago."""
        row = self.connection.execute(
            "SELECT content, reasoning, finished, prompt_tokens, completion_tokens FROM replies WHERE key = ?", (key,)
        ).fetchone()
        return _reply(row) if row else None

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Reply]:
        """The known replies among `keys`."""
        found: dict[bytes, Reply] = {}
        for start in range(0, len(keys), self._BATCH):
            batch = keys[start : start + self._BATCH]
            marks = ",".join("?" * len(batch))
            for row in self.connection.execute(
                "SELECT content, reasoning, finished, prompt_tokens, completion_tokens, key FROM replies"
                f" WHERE key IN ({marks})",
                batch,
            ):
                found[row[5]] = _reply(row)
        return found

    def put_many(self, replies: Sequence[tuple[bytes, Reply]]) -> None:
        """Store several replies, all or none."""
        self.connection.execute("BEGIN IMMEDIATE")
        for key, reply in replies:
            self.put(key, reply)
        self.connection.execute("COMMIT")

    def put(self, key: bytes, reply: Reply) -> Reply:
        """Store one reply and return the one that is stored: the first, where two processes asked at once, so that
        both go on with the same."""
        done = self.connection.execute(
            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)",
            (key, reply.content, reply.reasoning, reply.finished, reply.prompt_tokens, reply.completion_tokens),
        )
        return reply if done.rowcount else self.get(key) or reply


def _reply(row: Sequence[Any]) -> Reply:
    return Reply(row[0], row[1], bool(row[2]), row[3], row[4])


def request_body(
    settings: GeneratorSettings, messages: Sequence[Mapping[str, str]], sample: int | None = None
) -> dict[str, Any]:
    """The JSON body of a chat completion request. Where sampling, the sample number is the seed, for servers that heed
    it: rollouts of one prompt differ even where a server repeats itself."""
    return {
        "model": settings.model,
        "messages": [dict(message) for message in messages],
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        **({"seed": sample} if sample is not None and settings.temperature > 0 else {}),
        **settings.extra_body,
    }


def request_keys(settings: GeneratorSettings, requests: Sequence[Request]) -> list[bytes]:
    """One key a request: SHA-256 over endpoint, body and sample number."""
    where = settings.base_url if settings.backend == "openai" else ""
    head = json.dumps([settings.backend, where, request_body(settings, ())], sort_keys=True)
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
