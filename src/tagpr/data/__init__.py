"""Readers of histories, splits without leakage, and the bundled sample."""

from tagpr.data.settings import DataSettings, SourceSettings

__all__ = ["DataSettings", "SourceSettings", "Splits", "load_splits", "read_examples", "write_examples"]


def __getattr__(name: str) -> object:
    if name == "load_splits":
        from tagpr.data.load import load_splits

        return load_splits
    if name == "Splits":
        from tagpr.data.split import Splits

        return Splits
    if name in ("read_examples", "write_examples"):
        from tagpr.data import examples

        return getattr(examples, name)
    raise AttributeError(f"module 'tagpr.data' has no attribute {name!r}")
