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
SAME: dict[str, Any] = {"keep": "last", "heldout_every": 0, "oversample": 1}
"""Of all: one rollout per step, so that groups without variance of R_v cost their completions too."""


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
                changed = SAME | same_completions(settings, change)
                rl = rl_settings(settings, few=True).model_copy(update=changed)
                write_json(result, run_rl(cell, folder / "policies" / cell.name, settings, rl))
    write_results("rl-choices", "python benchmarks/rl_choices.py", figures(folder, arguments.seeds))


def figures(folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Accuracies and their differences, with t intervals over the seeds that each variant has been run with."""
    before = {
        seed: read_json(folder / "sft" / f"{Cell('counting', 1536, FEW, seed).name}.json")["without_rl"]["accuracy"]
        for seed in seeds
    }
    after: dict[str, dict[int, float]] = {}
    for number, name in enumerate(CHOICES):
        paths = {seed: folder / "choices" / f"{number}-{seed}.json" for seed in seeds}
        after[name] = {seed: read_json(path)["with_rl"]["accuracy"] for seed, path in paths.items() if path.is_file()}
    return {
        "before RL": interval(list(before.values())),
        "after RL": {name: interval(list(values.values())) for name, values in after.items()},
        "minus before RL": {name: _minus(values, before) for name, values in after.items()},
        "minus the first": {name: _minus(values, after[BASIS]) for name, values in after.items() if name != BASIS},
    }


def _minus(values: dict[int, float], reference: dict[int, float]) -> dict[str, Any]:
    return interval([values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())])


if __name__ == "__main__":
    main()
