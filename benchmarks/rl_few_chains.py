"""Does RL add to SFT if chains are few? SFT on the chains of 240 labels, RL on all 960, on a task of real people.

    PYTHONPATH=benchmarks python benchmarks/rl_few_chains.py --task review-rating --shared FOLDER  # an hour, one core

Chains are dear: somebody has to write them. Labels are not. So SFT learns from the chains of a quarter of the training
labels here, twice over, with the weights that have the least loss on held-out training users; RL learns from all
of them, up to four of a user. Tasks, prompts and raw files are those of real_people.py, whose data stage is taken.

Writes benchmarks/results/rl-few-chains.json, a task and seed at a time: SFT, RL and their difference with an interval
over users, and the curve on held-out training users. Killed, the same command goes on.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from real_people import TASKS, open_run
from results_file import RESULTS, write_results
from rl_over_sft import heldout_curve
from tagpr.experiments.interview import Interview
from tagpr.files import read_json
from tagpr.pipeline import make_variant
from tagpr.runs import Run, Variant
from tagpr.statistics import mean_interval, paired_bootstrap

SYSTEMS = ("sft", "final")
CHAINS = 240
FEW = Variant(
    "few-chains",
    (
        f"chains.examples_per_task={CHAINS}",
        "sft.epochs=2",
        "sft.heldout_every=30",
        "guided.steps=60",
        "guided.oversample=2",
        "exploratory.steps=20",
        "exploratory.oversample=2",
    ),
    shared=("data",),
)


def figures(run: Run, card: str) -> dict[str, Any]:
    """What SFT and RL after it are worth on the held-out questions."""
    interview = Interview(run, run.checkpoints(SYSTEMS))
    scores, systems, users = {}, {}, []
    for name in SYSTEMS:
        asked = interview.questions(name, card, interview.heldout(card))
        rows = interview.answers("rl-few-chains", name, card, {"own": asked})["own"]
        users = [row.user_id for row in rows]
        scores[name] = [row.correctness for row in rows]
        claims = sum(row.claims for row in rows)
        systems[name] = {
            "correctness": asdict(mean_interval(scores[name], users)),
            "metrics": {key: sum(row.scores[key] for row in rows) / len(rows) for key in rows[0].scores},
            "true_claims": sum(row.true_claims for row in rows) / claims if claims else None,
            "format_rate": sum(row.format_ok for row in rows) / len(rows),
            "cut_off": sum(row.finished is False for row in rows),
        }
    stages = {name: run.manifest(name) for name in ("sft", "guided", "exploratory")}
    return {
        "questions": len(users),
        "users": len(set(users)),
        "labels": len(run.train[card]),
        "labels with a chain": CHAINS,
        "systems": systems,
        "differences": {"final minus sft": asdict(paired_bootstrap(scores["final"], scores["sft"], users))},
        "RL on held-out training users": {
            name: heldout_curve(run.folder.stage(name)) for name in ("guided", "exploratory")
        },
        "cpu_seconds": {name: round(found.measured.cpu_seconds) for name, found in stages.items() if found is not None},
    }


def main() -> None:
    """Train, answer and add the task and seed to the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="review-rating")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data")))
    arguments = parser.parse_args()
    run = open_run(arguments.task, arguments.seed, arguments.shared, arguments.runs)
    found = figures(make_variant(run, FEW), TASKS[arguments.task][0])
    path = RESULTS / "rl-few-chains.json"
    kept = read_json(path)["figures"] if path.is_file() else {}
    kept.setdefault(arguments.task, {})[f"seed {arguments.seed}"] = found
    calls = [f"python benchmarks/rl_few_chains.py --task {t} --seed {s[5:]}" for t, own in kept.items() for s in own]
    write_results("rl-few-chains", "; ".join(calls), kept)


if __name__ == "__main__":
    main()
