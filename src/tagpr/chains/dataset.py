"""`chains.parquet`: the kept chains of a run, written and read here and nowhere else."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tagpr.chains.chain import Chain
from tagpr.chains.steps import Row, read_parquet, write_parquet
from tagpr.errors import DataError
from tagpr.stages import made_again

CHAINS = pa.schema(
    [
        ("example_id", pa.string()),
        ("task", pa.string()),
        ("user_id", pa.string()),
        ("sample", pa.int32()),
        ("completion", pa.string()),
        ("answer", pa.string()),
        ("score", pa.float64()),
        ("judge", pa.int32()),
        ("tags", pa.list_(pa.string())),
    ]
)
"""Columns of `chains.parquet`."""


def write_chains(folder: Path, chains: Iterable[Chain]) -> None:
    """Write `chains.parquet` in `folder`, atomically; `datasets.load_dataset(folder)` reads it."""
    write_parquet(folder / "chains.parquet", [asdict(chain) for chain in chains], CHAINS)


def chains_folder(folder: Path) -> Path:
    """Where the chains are, if `folder` is a run's folder or the chains' own."""
    within = folder / "chains"
    return within if within.is_dir() and not (folder / "chains.parquet").is_file() else folder


def read_chains(folder: Path) -> list[Chain]:
    """The chains of `folder`, in order. Raises DataError if there is no such file or it has other columns."""
    path = folder / "chains.parquet"
    rows = read_parquet(path)
    found = pq.read_schema(path)
    for column in CHAINS:
        if column.name not in found.names or found.field(column.name).type != column.type:
            raise DataError(f"{path}: no column {column.name!r} of type {column.type}; {made_again(path)}")
    return [chain_of(row) for row in rows]


def chain_of(row: Row) -> Chain:
    """A row of stage 0's last step as a `Chain`."""
    return Chain(tags=tuple(row["tags"]), **{name: row[name] for name in CHAINS.names if name != "tags"})


def completions_by_example(chains: Sequence[Chain]) -> dict[tuple[str, str], list[str]]:
    """The texts to learn, those of one example together, by (task, example id)."""
    found: dict[tuple[str, str], list[str]] = {}
    for chain in chains:
        found.setdefault((chain.task, chain.example_id), []).append(chain.completion)
    return found
