"""What each stage says of itself in its manifest: one frozen model per stage. Dicts of them exist in the file alone."""

from dataclasses import dataclass

from pydantic import ConfigDict, RootModel

from tagpr.data.report import SplitReport
from tagpr.prmu.metrics import PRMUMetrics
from tagpr.stages import StageName
from tagpr.training.metrics import RLMetrics, SFTMetrics


class DataMetrics(RootModel[dict[str, SplitReport]]):
    """Counts of every source, by task."""

    model_config = ConfigDict(frozen=True)


class ChainMetrics(RootModel[dict[str, int]]):
    """Rows that each step left, by the step's name."""

    model_config = ConfigDict(frozen=True)


class EvaluationMetrics(RootModel[dict[str, dict[str, dict[str, float]]]]):
    """Values by task, system and metric."""

    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True)
class ReportMetrics:
    """A page says nothing of itself."""


StageMetrics = DataMetrics | ChainMetrics | SFTMetrics | PRMUMetrics | RLMetrics | EvaluationMetrics | ReportMetrics

METRICS: dict[StageName, type[StageMetrics]] = {
    "data": DataMetrics,
    "chains": ChainMetrics,
    "sft": SFTMetrics,
    "labels": SFTMetrics,
    "prmu": PRMUMetrics,
    "guided": RLMetrics,
    "exploratory": RLMetrics,
    "evaluate": EvaluationMetrics,
    "report": ReportMetrics,
}
