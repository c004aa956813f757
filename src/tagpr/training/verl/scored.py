"""Every completion that verl sampled, with its reward: noted by the reward manager, read when the stage comes back."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tagpr.training.verl.layout import METRICS, SCORED


@dataclass(frozen=True)
class Scored:
    """One completion of one step."""

    step: int
    """From 1; 0 for the evaluation before the first."""
    heldout: bool
    """Whether it is a greedy answer on a held-out row."""
    row: int
    """Its prompt's place in the exported file."""
    prompt: str
    """verl's id of the prompt in this step."""
    session: int
    """Its number in the group."""
    length: int
    """In tokens."""
    finished: bool
    """Whether the policy ended it."""
    parts: Mapping[str, float]
    """The reward and its parts."""
    text: str


def append(path: Path, scored: Scored) -> None:
    """Add a line to a file of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(scored), ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class StepLog:
    """What a step left behind."""

    metrics: Mapping[str, float]
    """verl's, by its names; none if a kill came before they were written."""
    sampled: tuple[Scored, ...]
    heldout: tuple[Scored, ...]


def read_steps(log: Path) -> dict[int, StepLog]:
    """The steps that verl logged in all launches; of a step taken twice (after a kill) the later launch counts."""
    steps: dict[int, StepLog] = {}
    for folder in sorted(path for path in log.glob("*") if path.is_dir()):
        sampled: dict[int, list[Scored]] = {}
        heldout: dict[int, list[Scored]] = {}
        for row in _whole_lines(folder / SCORED):
            scored = Scored(**row)
            (heldout if scored.heldout else sampled).setdefault(scored.step, []).append(scored)
        metrics = {int(row["step"]): _finite(row["data"]) for row in _whole_lines(folder / METRICS)}
        # verl logs a step after its checkpoint: killed between the two, it leaves completions without metrics
        for step in metrics.keys() | sampled.keys():
            before = steps.get(step, StepLog({}, (), ()))
            found = metrics.get(step, {})
            if step not in sampled:  # an evaluation alone, as before the first step of every launch
                found = {**before.metrics, **found}
            steps[step] = StepLog(
                found, tuple(sampled.get(step, before.sampled)), tuple(heldout.get(step, before.heldout))
            )
    return steps


def _finite(data: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in data.items() if isinstance(v, int | float) and math.isfinite(v)}


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSONL file that may end in the middle of one, or not be there."""
    if path.is_file():
        with path.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.endswith("\n"))
