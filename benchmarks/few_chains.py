"""Few chains, many labels: SFT on the chains of 160 labels, then RL on the questions of all 960.

    PYTHONPATH=benchmarks python benchmarks/few_chains.py --task package-changelog   # an hour on one core
    PYTHONPATH=benchmarks python benchmarks/few_chains.py --task package-section --seed 0 1 2

Chains cost a teacher, labels do not. Where SFT had the chains of all labels, RL adds nothing (rl-over-sft.json,
real-people.json); does it where chains are few? Five epochs of SFT, of which the weights with the least loss on
held-out training users are kept; 160 steps of RL of 32 completions without a reward model (gamma 0), of which the
weights with the best R_v on other held-out training users are kept. Settled before the first step; nothing was chosen
by the test questions. Both tasks are bundled. Test questions: of package-section the 652 held-out ones; of
package-changelog the 926 of `rl_over_sft.py`. Beside them SFT on all 960 labels in as many steps as SFT on chains.

Writes benchmarks/results/few-chains.json, a call at a time: what other calls measured stays. Several seeds are trained
one after the other, and then also taken together: the interval over users is then that of these trainings' mean.
Killed, the same command goes on.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

import real_tasks
from changelog_rl import curve
from on_gpu import trained_on
from real_tasks import NOTES, RL
from real_tasks import RECIPE as REAL
from results_file import add_results
from rl_over_sft import PER_USER, difference, scores, test_questions
from tagpr.evaluation.predictions import Prediction
from tagpr.experiments.interview import Interview
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.stages import StageName

LABELS = 960
CHAINS = 160
TASKS = {
    "package-changelog": replace(
        real_tasks.TASKS["package-changelog"],
        source={"min_history": 3},
        recipe=NOTES | {"profile": {"retriever": "recency", "k": 5}, "prompt": {"max_prompt_tokens": 320}},
    ),
    "package-section": real_tasks.TASKS["package-section"],
}
"""The data and prompts of the quickstart, and of `real_people.py`."""
STAGES: dict[StageName, dict[str, Any]] = {
    "guided": RL | {"heldout_prompts": 96, "steps": 120},
    "exploratory": RL | {"heldout_prompts": 96, "steps": 40, "learning_rate": 1.5e-5},
}
SYSTEMS = {"label SFT": "labels", "SFT on few chains": "sft", "guided RL": "guided", "TagPR": "final"}


def open_run(task: str, seed: int, runs: Path) -> Run:
    """The task's run."""
    name = f"few-chains-{task}-{seed}"
    recipe: dict[str, Any] = {**REAL, **STAGES, **TASKS[task].blocks(), "name": name, "seed": seed}
    recipe["data"] = {"sources": [TASKS[task].data(LABELS)]}
    recipe["chains"] = REAL["chains"] | {"examples_per_task": CHAINS}
    recipe["sft"] = REAL["sft"] | {"epochs": 5}
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return Run.open(path, runs=runs)


def answers(
    run: Run, task: str, systems: Mapping[str, str], checkpoints: Mapping[str, Path]
) -> dict[str, list[Prediction]]:
    """Every system's greedy answers to the test questions, in one order, by its row's name in `systems`."""
    interview = Interview(run, checkpoints)
    asked = test_questions(run, PER_USER) if task == "package-changelog" else run.data[task].heldout
    found = {}
    for row, system in systems.items():
        questions = interview.questions(system, task, asked)
        rows = interview.answers("few-chains", system, task, {"own": questions})["own"]
        found[row] = sorted(rows, key=lambda one: one.id)
    return found


def compared(rows: dict[str, list[Prediction]], metric: str) -> dict[str, Any]:
    """Every system's figures and the paired differences."""
    pairs = [
        ("TagPR", "SFT on few chains"),
        ("guided RL", "SFT on few chains"),
        ("TagPR", "guided RL"),
        ("TagPR", "label SFT"),
    ]
    return {
        "questions": len(rows["TagPR"]),
        "users": len({row.user_id for row in rows["TagPR"]}),
        "metric": metric,
        "systems": {name: scores(own, metric) for name, own in rows.items()},
        "differences": {f"{a} minus {b}": asdict(difference(rows[a], rows[b], metric)) for a, b in pairs},
    }


def figures(run: Run, task: str, rows: dict[str, list[Prediction]], metric: str) -> dict[str, Any]:
    """The comparison, how SFT went, and the curves of RL."""
    sft = run.manifest("sft")
    assert sft is not None
    return compared(rows, metric) | {
        "labels": len(run.train[task]),
        "sft": asdict(sft.metrics),
        "trained on": trained_on(),
        "curves": {stage: curve(run.folder.stage(stage)) for stage in STAGES},
    }


def main() -> None:
    """Train, answer and add the calls to the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="package-changelog")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    task, each = arguments.task, []
    for seed in arguments.seed:
        run = open_run(task, seed, arguments.runs)
        make(run, "data", "chains", "sft", "labels", "guided", "exploratory")
        metric = run.data[task].task.metrics[0]
        each.append(answers(run, task, SYSTEMS, run.checkpoints(tuple(SYSTEMS.values()))))
        add_results("few_chains", task, f"seed {seed}", figures(run, task, each[-1], metric))
    if len(each) > 1:
        rows = {name: [row for one in each for row in one[name]] for name in SYSTEMS}
        by_seed = {name: [fmean(row.scores[metric] for row in one[name]) for one in each] for name in SYSTEMS}
        seeds = f"seed {' '.join(map(str, arguments.seed))}"
        add_results("few_chains", task, seeds, compared(rows, metric) | {"by seed": by_seed})


if __name__ == "__main__":
    main()
