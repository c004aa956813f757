"""The paper's Table 1, for comparison with your own results, and which of its cells cannot be right."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml


@dataclass(frozen=True)
class Published:
    """Table 1 as printed."""

    source: str
    systems: Mapping[str, Mapping[str, Mapping[str, float]]]  # [system][task][metric]

    def of(self, system: str, task: str) -> Mapping[str, float]:
        """The printed values of a system on a task, by metric; empty if the table has none."""
        return self.systems.get(system, {}).get(task, {})


@cache
def published() -> Published:
    """The data file that comes with the package."""
    text = (resources.files("tagpr.evaluation") / "published_table1.yaml").read_text(encoding="utf-8")
    read = yaml.safe_load(text)
    systems: dict[str, dict[str, dict[str, float]]] = {}
    for name, values in read["systems"].items():
        for (task, metric), value in zip(read["columns"], values, strict=True):
            systems.setdefault(name, {}).setdefault(task, {})[metric] = value
    return Published(read["source"], systems)


def impossible(scores: Mapping[str, float], digits: int = 3) -> bool:
    """Whether a printed RMSE cannot belong to its MAE: for whole ratings RMSE² = mean e² >= mean |e| = MAE.

    Both are taken at the friendly end of their rounding to `digits` digits.
    """
    if "mae" not in scores or "rmse" not in scores:
        return False
    half = 0.5 * 10**-digits
    return (scores["rmse"] + half) ** 2 < scores["mae"] - half
