"""`samples.parquet`: the completions of every RL step with what they were paid, and for which parts.

Every step is first a file of its own beside the checkpoints, written whole or not at all; the finished stage joins
them. A killed stage writes the steps after its last checkpoint again, with the same content.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import torch
from torch import Tensor

from tagpr.training.rollout import Rollout

PARTS = {"verifiable": "r_v", "repetition": "r_rep", "format": "r_f", "tag": "r_tag", "prmu": "r_prmu"}
"""The composite reward's parts (eq. 5) and their columns; null if the reward does not tell them."""

_COLUMNS = [
    ("step", arrow.int32()),
    ("task", arrow.string()),
    ("example_id", arrow.string()),
    ("user_id", arrow.string()),
    ("completion", arrow.string()),
    ("reward", arrow.float64()),
    ("advantage", arrow.float64()),
    *((column, arrow.float64()) for column in PARTS.values()),
]

Sample = dict[str, int | float | str | None]


class SampleLog:
    """Keeps up to `limit` completions of each step; only process 0 writes."""

    def __init__(self, out: Path, limit: int, rank: int = 0, world: int = 1) -> None:
        self.out, self.limit, self.rank, self.world = out, limit, rank, world
        self.parts = out / "checkpoints" / "samples"

    def write(self, step: int, rollout: Rollout, advantages: Tensor) -> None:
        """Keep the completions of `step` (from 1); advantages (groups, G)."""
        if not self.limit:
            return
        rows = samples(step, rollout, advantages, self.limit // self.world)
        if self.world > 1:
            everyone: list[list[Sample]] = [[] for _ in range(self.world)]
            torch.distributed.all_gather_object(everyone, rows)
            rows = [row for share in everyone for row in share]
        if not self.rank:
            others = sorted({key for row in rows for key in row} - {name for name, _ in _COLUMNS})
            schema = arrow.schema([*_COLUMNS, *((name, arrow.float64()) for name in others)])
            _write(arrow.Table.from_pylist(rows, schema=schema), self._part(step))

    def finish(self, steps: int) -> None:
        """Join the first `steps` steps in `out/samples.parquet`."""
        parts = [self._part(step) for step in range(1, steps + 1)]
        if not self.rank and self.limit and (there := [path for path in parts if path.is_file()]):
            tables = [parquet.read_table(path) for path in there]
            _write(arrow.concat_tables(tables, promote_options="default"), self.out / "samples.parquet")

    def _part(self, step: int) -> Path:
        return self.parts / f"{step:06d}.parquet"


def samples(step: int, rollout: Rollout, advantages: Tensor, limit: int) -> list[Sample]:
    """One row per completion of the first whole groups, at most `limit` of them."""
    rows: list[Sample] = []
    for g, texts in enumerate(rollout.texts):
        if len(rows) + len(texts) > limit:
            break
        row = rollout.rows[g]
        about = {"task": row.task or None, "example_id": row.example_id or None, "user_id": row.user_id or None}
        for i, text in enumerate(texts):
            place = g * len(texts) + i
            parts = {PARTS.get(name, f"r_{name}"): values[place] for name, values in rollout.components.items()}
            paid = {"reward": rollout.rewards[g][i], "advantage": float(advantages[g][i])}
            rows.append({"step": step, **about, "completion": text, **paid, **parts})
    return rows


def _write(table: arrow.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.tmp")
    parquet.write_table(table, work)
    os.replace(work, path)
