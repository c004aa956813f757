"""tagpr: train a language model to reason about one person, in tagged steps, from that person's history (TagPR)."""

__version__ = "0.1.0"
