"""`make bench-method`: the table for a sceptic, on three worlds.

{label, chain, mixed} SFT x {without, with RL} x labels x worlds x seeds, every cell with the same labels, optimizer
steps and rule of stopping (`microworld/cells.py`). Cells stand in `--folder`, each written when it is done: killed, the
same command goes on; a second process of the same command takes the cells that the first has not begun. After every
cell `results/method.json` holds what is there so far. One thread per process.
"""

import argparse
import logging
import os
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from filelock import FileLock, Timeout

from microworld.cells import STARTS, Cell, Settings, build_base, run_cell
from microworld.summary import markdown, summarise
from microworld.worlds import WORLDS
from results_file import write_results
from tagpr.files import read_json, write_json

LABELS = (320, 1536, 160)
"""In the order in which they are run."""


def main() -> None:
    """Run what is missing, seed by seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/method"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--labels", type=int, nargs="+", default=list(LABELS))
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--table-only", action="store_true", help="summarise the finished cells, run none")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    folder, settings = arguments.folder, Settings()
    cells = [
        Cell(world, labels, start, seed)
        for seed, labels, world, start in product(arguments.seeds, arguments.labels, arguments.worlds, STARTS)
    ]
    if not arguments.table_only:
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "base.lock"):
            model = build_base(folder / "base", settings.pretraining, _tell)
        for cell in cells:
            _run(cell, folder, model, settings)
    path = write_table(folder, settings)
    print(markdown(read_json(path)["figures"]["table"]), path, sep="\n\n")


def _run(cell: Cell, folder: Path, model: Path, settings: Settings) -> None:
    """Run a cell unless it is done or another process is at it."""
    result = folder / "cells" / f"{cell.name}.json"
    try:
        with FileLock(folder / "cells" / f"{cell.name}.lock", timeout=0):
            if result.is_file():
                return
            found = run_cell(cell, model, folder / "work" / cell.name, settings)
            write_json(result, asdict(cell) | found)
    except Timeout:
        return
    numbers = [f"{found[key]['accuracy']:.3f}" for key in ("without_rl", "with_rl")]
    sys.stderr.write(f"{cell.name}: {' -> '.join(numbers)} in {found['cpu_seconds']['all']:.0f} CPU s\n")
    write_table(folder, settings)


def write_table(folder: Path, settings: Settings) -> Path:
    """`results/method.json` of the cells that are done."""
    cells = [read_json(path) for path in sorted((folder / "cells").glob("*.json"))]
    return write_results("method", "make bench-method", summarise(cells) | {"settings": asdict(settings)})


def _tell(done: int, total: int, note: str) -> None:
    if done % 100 == 0:
        sys.stderr.write(f"base {done}/{total} {note}\n")


if __name__ == "__main__":
    main()
