"""Chains for nearly every label: the teacher tries 96 times an example, where `real_people.py` lets it try 12 times.

    PYTHONPATH=benchmarks python benchmarks/more_samples.py --task package-section      # an hour on one core

Only chains that end in the right label are learned from, so SFT on chains sees fewest of the labels that its teacher
finds hardest, and label SFT sees them all. Is that why it is behind? All else as in `real_people.py`: 960 labels, both
SFTs in equally many steps, stopped on the same 12 held-out training users. No RL.

Writes benchmarks/results/more-samples.json, a call at a time: what other calls measured stays. Killed, the same command
goes on.
"""

import argparse
import os
from functools import partial
from pathlib import Path

from real_people import LABEL_TASKS, LABELS, RECIPE, TASKS, measured, open_run
from results_file import add_results

SAMPLES = 96


def main() -> None:
    """Train the two SFTs, ask them, and add the call to the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=LABEL_TASKS, default="package-section")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data")))
    arguments = parser.parse_args()
    task, seed = arguments.task, arguments.seed
    RECIPE["chains"]["samples"] = SAMPLES
    run = open_run(task, seed, 1, arguments.shared, arguments.runs / f"samples-{SAMPLES}", LABELS)
    next(measured(run, TASKS[task].card, 1, partial(add_results, "more_samples", task, f"seed {seed}")))


if __name__ == "__main__":
    main()
