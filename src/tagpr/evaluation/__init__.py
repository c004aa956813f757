"""Predict, score and compare systems on held-out examples; the paper's analyses and sweeps. Light to import."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagpr.evaluation.evaluate import evaluate_systems
    from tagpr.evaluation.predict import predict
    from tagpr.evaluation.predictions import Prediction, read_predictions
    from tagpr.evaluation.results import Results
    from tagpr.evaluation.scoring import SystemAnswers, score
    from tagpr.evaluation.settings import EvaluationSettings

__all__ = [
    "EvaluationSettings",
    "Prediction",
    "Results",
    "SystemAnswers",
    "evaluate_systems",
    "predict",
    "read_predictions",
    "score",
]

_HOMES = {
    "EvaluationSettings": "settings",
    "Prediction": "predictions",
    "evaluate_systems": "evaluate",
    "predict": "predict",
    "read_predictions": "predictions",
    "Results": "results",
    "SystemAnswers": "scoring",
    "score": "scoring",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
