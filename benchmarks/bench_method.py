"""`make bench-method`: the table for a sceptic, on three worlds.

{label, chain, mixed} SFT x {without, with RL} x labels x worlds x seeds, every cell with the same labels, optimizer
steps and rule of stopping (`microworld/cells.py`). Cells stand in `--folder`, each written when it is done: killed, the
same command goes on; a second process of the same command takes the cells that the first has not begun. After every
one `results/method.json`, `docs/method.md` and `docs/method.svg` hold what is there so far. One thread per process.
Beside the table stand chains of few of the labelled questions, label SFT with more steps, and chains with other tags.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from filelock import FileLock, Timeout

from microworld.cell import STARTS, WITHOUT_RL, Cell, Settings, Start
from microworld.cell_data import CellData
from microworld.cells import build_base, run_rl, run_sft
from microworld.page import write_page
from microworld.summary import summarise
from microworld.worlds import FIRST_FORMS, WORLDS
from results_file import write_results
from tagpr.errors import RunError
from tagpr.files import read_json, write_json

LABELS = (160, 320, 1536)
BOTH: tuple[Start, ...] = ("label", "chain")
ASIDE: tuple[tuple[str, int, Start], ...] = (
    ("counting", 1536, "few"),
    *((world, 1536, "label-long") for world in WORLDS),
    ("counting", 320, "shuffled"),
    ("counting", 320, "untagged"),
    *((world, labels, "first-form") for world in FIRST_FORMS for labels in LABELS),
)
"""Cells beside the table: world, number of labels, what SFT learns from."""


def main() -> None:
    """Run what is missing, seed by seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/method"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--labels", type=int, nargs="+", default=list(LABELS))
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--starts", nargs="+", help="only these: label, chain, mixed, few, ...")
    parser.add_argument("--table-only", action="store_true", help="summarise the finished cells, run none")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    folder, settings = arguments.folder, Settings()
    table = product(arguments.worlds, arguments.labels, STARTS)
    aside = [cell for cell in ASIDE if cell[0] in arguments.worlds and cell[1] in arguments.labels]
    parts = [[Cell(*cell, seed) for seed in arguments.seeds for cell in part] for part in (list(table), aside)]
    parts = [[cell for cell in part if cell.start in (arguments.starts or (cell.start,))] for part in parts]
    if not arguments.table_only:
        for stage in ("sft", "rl", "policies"):
            (folder / stage).mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "base.lock"):
            _same_settings(folder / "settings.json", settings)
            model = build_base(folder / "base", settings.pretraining, _tell)
        for cells in parts:
            for cell in cells:
                _run(folder, cell, "sft", lambda cell, policy: run_sft(cell, model, policy, settings), settings)
            for cell in cells:
                if cell.start not in WITHOUT_RL:
                    _run(folder, cell, "rl", lambda cell, policy: run_rl(cell, policy, settings), settings)
    write_table(folder, settings)


def _same_settings(path: Path, settings: Settings) -> None:
    """Raises RunError if the folder's cells were made with other settings."""
    if not path.is_file():
        write_json(path, asdict(settings))
    elif read_json(path) != asdict(settings):
        raise RunError(f"{path}: the cells there were made with other settings; remove the folder or give another one")


def _run(folder: Path, cell: Cell, stage: str, run: Callable[[Cell, Path], dict[str, Any]], settings: Settings) -> None:
    """Run a stage of a cell unless it is done or another process is at it."""
    result, policy = folder / stage / f"{cell.name}.json", folder / "policies" / cell.name
    if stage == "rl" and not (folder / "sft" / result.name).is_file():
        return  # another process is at its SFT; the next run of the command finds it
    try:
        with FileLock(result.with_suffix(".lock"), timeout=0):
            if result.is_file():
                return
            found = run(cell, policy)
            write_json(result, asdict(cell) | found)
    except Timeout:
        return
    sys.stderr.write(f"{stage} {cell.name}: {found}\n")
    write_table(folder, settings)


def write_table(folder: Path, settings: Settings) -> None:
    """`results/method.json` and the page of the cells that are done."""
    trained = sorted((folder / "sft").glob("*.json"))
    cells = [read_json(path) | _if_there(folder / "rl" / path.name) for path in trained]
    figures = summarise(cells) | {"settings": asdict(settings), "row_tokens": _row_tokens(folder / "base", settings)}
    path = write_results("method", "make bench-method", figures)
    write_page(read_json(path)["figures"])


def _row_tokens(model: Path, settings: Settings) -> dict[str, dict[str, float]]:
    """Mean tokens of what SFT learns from, prompt and completion, by world: those of label and of chain rows."""
    if not (model / "config.json").is_file():
        return {}
    cells = (
        (world, start, CellData(Cell(world, LABELS[0], start, 0), model, settings))
        for world in WORLDS
        for start in BOTH
    )
    found: dict[str, dict[str, float]] = {}
    for world, start, data in cells:
        lengths = [len(row.prompt_ids) + len(row.completion_ids[0]) for row in data.rows()]
        found.setdefault(world, {})[start] = round(sum(lengths) / len(lengths), 1)
    return found


def _if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _tell(done: int, total: int, note: str) -> None:
    if done % 100 == 0:
        sys.stderr.write(f"base {done}/{total} {note}\n")


if __name__ == "__main__":
    main()
