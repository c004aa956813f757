"""Predict, score and compare systems on held-out examples; the paper's analyses and sweeps. Light to import."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "EvaluationSettings": "settings",
    "Prediction": "predictions",
    "evaluate_systems": "evaluate",
    "predict": "predict",
    "read_predictions": "predictions",
    "Results": "results",
    "SystemAnswers": "scoring",
    "score": "scoring",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
