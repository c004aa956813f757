"""What RL sampled: a seeded choice of completions per step with their rewards by part, from `STAGE/samples.parquet`.

Columns of the file: step, task, example_id, user_id, completion, reward, and one number per part of the reward (r_v,
r_rep, r_f, r_tag, r_prmu, ...) and advantage. Only chosen rows are kept; the file is read one row group at a time.
"""

import logging
import random
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

STEPS = 16  # shown of one stage, evenly over all
PER_STEP = 4  # completions
MAX_TEXT = 3000  # characters kept of one completion
FIXED = ("step", "task", "example_id", "user_id", "completion", "reward")


@dataclass(frozen=True)
class Sample:
    """One sampled completion."""

    task: str
    example_id: str
    user_id: str
    completion: str
    reward: float
    parts: dict[str, float]  # by name: the parts of the reward and the advantage


@dataclass(frozen=True)
class Samples:
    """One RL stage's choice."""

    stage: str
    total: int  # completions in the file
    parts: tuple[str, ...]
    steps: dict[int, list[Sample]]  # by step, the highest reward first


def read_samples(run: Path, seed: int = 0) -> list[Samples]:
    """The choice of every RL stage whose samples are there; a damaged file is logged and left out."""
    found = []
    for stage in ("guided", "exploratory"):
        path = run / stage / "samples.parquet"
        if path.is_file():
            try:
                found.append(_choose(path, stage, random.Random(f"{seed} {stage}")))
            except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors and OSErrors
                logger.warning("%s: left out of the report (%s)", path, " ".join(str(error).split())[:200])
    return found


def _choose(path: Path, stage: str, rng: random.Random) -> Samples:
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    names = parquet.read_schema(path).names
    missing = [name for name in FIXED if name not in names]
    if missing:
        raise KeyError(f"no column {', '.join(missing)}")
    parts = tuple(name for name in names if name not in FIXED)
    steps = [int(step) for step in parquet.read_table(path, columns=["step"])["step"].to_pylist()]
    shown = _spread(sorted(set(steps)))
    chosen = []
    for step in shown:
        rows = [i for i, own in enumerate(steps) if own == step]
        chosen += rng.sample(rows, min(PER_STEP, len(rows)))
    by_step: dict[int, list[Sample]] = {step: [] for step in shown}
    wanted, start = sorted(chosen), 0
    file = parquet.ParquetFile(path)
    for group in range(file.num_row_groups):
        length = file.metadata.row_group(group).num_rows
        inside = [i - start for i in wanted if start <= i < start + length]
        if inside:
            for row in compute.take(file.read_row_group(group), inside).to_pylist():
                numbers = {name: float(row[name]) for name in parts if row[name] is not None}
                by_step[int(row["step"])].append(
                    Sample(
                        str(row["task"]),
                        str(row["example_id"]),
                        str(row["user_id"]),
                        str(row["completion"])[:MAX_TEXT],
                        float(row["reward"]),
                        numbers,
                    )
                )
        start += length
    for samples in by_step.values():
        samples.sort(key=lambda sample: -sample.reward)
    return Samples(stage, len(steps), parts, by_step)


def _spread(steps: list[int]) -> list[int]:
    """At most `STEPS` of them, evenly, the first and the last among them."""
    if len(steps) <= STEPS:
        return steps
    return [steps[round(i * (len(steps) - 1) / (STEPS - 1))] for i in range(STEPS)]
