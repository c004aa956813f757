"""Readers of histories, splits without leakage, and the bundled sample.

Names are imported when first used: reading a recipe needs only the settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tagpr.data.settings import DataSettings, SourceSettings

if TYPE_CHECKING:
    from tagpr.data.examples import read_examples, write_examples
    from tagpr.data.load import load_splits
    from tagpr.data.split import Splits

__all__ = ["DataSettings", "SourceSettings", "Splits", "load_splits", "read_examples", "write_examples"]

_HOMES = {"Splits": "split", "load_splits": "load", "read_examples": "examples", "write_examples": "examples"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tagpr.data' has no attribute {name!r}")
    return getattr(import_module(f"tagpr.data.{_HOMES[name]}"), name)
