"""Every system a personal model is compared with, behind one protocol: `fit(train)`, `predict(examples) -> answers`.

    from tagpr.systems import Answer, System

One file per system; `registry` knows their names, `protocol` says what a system is given and what it gives. Running and
scoring them is `tagpr.evaluation`'s (`tagpr compare`).
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Answer": "protocol",
    "Backbone": "backbone",
    "Context": "context",
    "Cost": "cost",
    "Decoding": "context",
    "System": "protocol",
    "Trained": "context",
    "load_system": "registry",
    "system_names": "registry",
}

__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll] (one list of names, above)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
