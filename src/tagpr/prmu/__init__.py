"""The personalization reward model with user embeddings (PRMU, the paper's section 3.3).

Light to import: names are loaded on first use, so `tagpr --help` never waits for torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "PRMU": "score",
    "PRMUSettings": "settings",
    "Pair": "data",
    "Past": "past_pairs",
    "PairSet": "data",
    "Rollout": "data",
    "build_pairs": "pairs",
    "choose_examples": "questions",
    "diagnose": "diagnose",
    "make_rollouts": "policy_rollouts",
    "past_of": "past_pairs",
    "read_pairs": "data",
    "train_prmu": "trainer",
    "write_pairs": "data",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll] (one list of names, above)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
