"""The paper's Table 1, to stand beside one's own figures marked "published", and which of its cells cannot be right."""

from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def published() -> dict[str, Any]:
    """{"source": words, "systems": {SYSTEM: {TASK: {METRIC: value}}}} of the data file that comes with the package."""
    text = (resources.files("tagpr.evaluation") / "published_table1.yaml").read_text(encoding="utf-8")
    read = yaml.safe_load(text)
    systems: dict[str, dict[str, dict[str, float]]] = {}
    for name, values in read["systems"].items():
        for (task, metric), value in zip(read["columns"], values, strict=True):
            systems.setdefault(name, {}).setdefault(task, {})[metric] = value
    return {"source": read["source"], "systems": systems}


def impossible(scores: dict[str, float], digits: int = 3) -> bool:
    """Whether a printed RMSE cannot belong to its MAE: for whole ratings RMSE² = mean e² >= mean |e| = MAE.

    Both are taken at the friendly end of their rounding to `digits` digits.
    """
    if "mae" not in scores or "rmse" not in scores:
        return False
    half = 0.5 * 10**-digits
    return (scores["rmse"] + half) ** 2 < scores["mae"] - half
