"""`make bench-microworld`: the whole paper on the microworld, with its ablations, each with as many optimizer steps.

Runs stand in `--folder` and are continued there: killed, the same command goes on; complete, it only reads. What the
world is stands in `microworld/`, what came out in docs/microworld.md. Quality, not time: a busy machine only slows it.
"""

import argparse
import logging
from pathlib import Path

from microworld.build import Scale
from microworld.table import make_table
from results_file import write_results

SEEDS = [0, 1, 2]


def main() -> None:
    """Run, print the table, write `results/microworld.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/microworld"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    found = make_table(arguments.folder, arguments.seeds, Scale(), arguments.processes)
    for name, row in found["variants"].items():
        cells = (f"{row[key]['mean']:7.3f} ± {row[key]['standard_error']:.3f}" for key in ("accuracy", "format_rate"))
        print(f"{name:<26}", *cells)
    for name, row in found["differences"].items():
        low, high = row["interval"]["low"], row["interval"]["high"]
        print(f"{name:<36} {row['mean']:+.3f} ± {row['standard_error']:.3f} [{low:+.3f}, {high:+.3f}]")
    command = "make bench-microworld"
    if arguments.seeds != SEEDS:
        command = f"python benchmarks/bench_microworld.py --seeds {' '.join(map(str, arguments.seeds))}"
    print(write_results("microworld", command, found))


if __name__ == "__main__":
    main()
