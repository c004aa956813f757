"""What RL is made of, one choice at a time: chains of few questions, RL with the labels of all, in the counting world.

    make bench-method && PYTHONPATH=benchmarks .venv/bin/python benchmarks/rl_choices.py    # 15 minutes

Starts from the policies that `make bench-method` left for its row `few`. Every variant samples as many completions as
the first one, from the same questions with the same seeds; the last weights are kept. Results stand in
`--folder`/choices: killed, the same command goes on. Writes benchmarks/results/rl-choices.json: accuracy on the test
questions before and after, and every variant minus the first, paired by seed.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from microworld.cell import FEW, Cell, Settings
from microworld.cells import rl_settings, run_rl
from microworld.summary import interval
from results_file import write_results
from tagpr.files import read_json, write_json

BASIS = "G 8, groups that differ in R_v, linear decay, batch scale"
CHOICES: dict[str, dict[str, Any]] = {
    BASIS: {},
    "groups: all": {"groups": "all"},
    "decay: none": {"decay": "none"},
    "G 5": {"group_size": 5, "prompts_per_step": 24},
    "G 16": {"group_size": 16, "prompts_per_step": 8},
}
"""What each changes. G 5 has 120 completions per step instead of 128 and so many more steps (`same_completions`)."""


def same_completions(settings: Settings, change: dict[str, Any]) -> dict[str, Any]:
    """The change with the steps that make its completions those of the first variant."""
    basis = rl_settings(settings, few=True)
    steps = basis.steps or 1
    total = steps * basis.group_size * basis.prompts_per_step
    own = basis.model_copy(update=change)
    return change | {"steps": round(total / (own.group_size * own.prompts_per_step))}


def main() -> None:
    """Run what is missing and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/method"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    settings, folder = Settings(), arguments.folder
    (folder / "choices").mkdir(exist_ok=True)
    for seed in arguments.seeds:
        cell = Cell("counting", 1536, FEW, seed)
        for number, change in enumerate(CHOICES.values()):
            result = folder / "choices" / f"{number}-{seed}.json"
            if not result.is_file():
                changed = {"keep": "last", "heldout_every": 0} | same_completions(settings, change)
                rl = rl_settings(settings, few=True).model_copy(update=changed)
                write_json(result, run_rl(cell, folder / "policies" / cell.name, settings, rl))
    write_results("rl-choices", "python benchmarks/rl_choices.py", figures(folder, arguments.seeds))


def figures(folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Accuracies and their differences, with t intervals over seeds."""
    start = [read_json(folder / "sft" / f"{Cell('counting', 1536, FEW, seed).name}.json") for seed in seeds]
    before = [row["without_rl"]["accuracy"] for row in start]
    after = {
        name: [read_json(folder / "choices" / f"{number}-{seed}.json")["with_rl"]["accuracy"] for seed in seeds]
        for number, name in enumerate(CHOICES)
    }
    return {
        "before RL": interval(before),
        "after RL": {name: interval(values) for name, values in after.items()},
        "minus before RL": {
            name: interval([a - b for a, b in zip(values, before, strict=True)]) for name, values in after.items()
        },
        "minus the first": {
            name: interval([a - b for a, b in zip(values, after[BASIS], strict=True)])
            for name, values in after.items()
            if name != BASIS
        },
    }


if __name__ == "__main__":
    main()
