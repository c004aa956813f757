"""Choosing the sub-profile p_u of a prompt."""

from tagpr.profiles.settings import ProfileSettings, Retriever

__all__ = ["ProfileSettings", "Retriever", "choose"]


def __getattr__(name: str) -> object:
    if name == "choose":
        from tagpr.profiles.retrieval import choose

        return choose
    raise AttributeError(f"module 'tagpr.profiles' has no attribute {name!r}")
