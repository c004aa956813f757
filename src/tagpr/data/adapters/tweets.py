"""Tweets of many users: a neutral text, written by an LLM, back into the user's own tweet (LaMP-7's shape).

The file's texts are Python bytes literals and carry no dates, so the split is a seeded random one.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tagpr.clients.types import Reply, Request
from tagpr.data.adapters import raw_file
from tagpr.data.formats.delimited import csv_rows
from tagpr.data.rejects import Rejects
from tagpr.engine.cached_model import CachedModel
from tagpr.errors import DataError

REQUEST = "Rewrite this post in plain, neutral words. Keep the meaning, drop the style. Answer with the text only.\n\n"
"""The request to the LLM, followed by the tweet (a chat endpoint takes it as text, never as control tokens)."""


def rewriter(generator: CachedModel) -> Callable[[list[str]], list[str]]:
    """A `rewrite` for `tweet_rows` by any text generator; a text it refuses comes back empty and is left out."""

    def rewrite(texts: list[str]) -> list[str]:
        requests = [Request(({"role": "user", "content": REQUEST + text},)) for text in texts]
        replies = generator.generate(requests)
        return [reply.content if isinstance(reply, Reply) else "" for reply in replies]

    return rewrite


def tweets(raw: Path) -> list[tuple[str, str]]:
    """(user id, text) of every readable line."""
    found = []
    for _, row in csv_rows(raw_file(raw, "*_tweets_per_user.csv"), Rejects(skip=True), delimiter=","):
        text, user = list(row.values())[:2]
        if text.startswith(("b'", 'b"')):
            try:
                text = ast.literal_eval(text).decode("utf-8", "replace")
            except (SyntaxError, ValueError):
                continue
        text = " ".join(text.split())
        if text:
            found.append((user, text))
    return found


def tweet_rows(raw: Path, rewrite: Callable[[list[str]], list[str]]) -> list[dict[str, Any]]:
    """One row a tweet; `rewrite` turns all texts into neutral ones, in order (cached and resumable on its side)."""
    found = tweets(raw)
    neutral = rewrite([text for _, text in found])
    if len(neutral) != len(found):
        raise DataError(f"adapter tweets: {len(neutral)} rewrites came back for {len(found)} tweets")
    return [
        {"user_id": user, "id": str(i), "input": plain.strip(), "output": text}
        for i, ((user, text), plain) in enumerate(zip(found, neutral, strict=True))
        if plain.strip()
    ]
