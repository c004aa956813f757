"""Choosing the sub-profile p_u of a prompt."""

from typing import TYPE_CHECKING

from tagpr.profiles.settings import ProfileSettings, Retriever

if TYPE_CHECKING:
    from tagpr.profiles.retrieval import choose

__all__ = ["ProfileSettings", "Retriever", "choose"]


def __getattr__(name: str) -> object:
    """Load on first use: recipes need only the settings."""
    if name == "choose":
        from tagpr.profiles.retrieval import choose

        return choose
    raise AttributeError(f"module 'tagpr.profiles' has no attribute {name!r}")
