"""Few labels of real people: label SFT and SFT on chains, both from 160 labels, beside the rivals without a model.

    PYTHONPATH=benchmarks python benchmarks/few_labels.py --task package-section     # an hour on one core
    PYTHONPATH=benchmarks python benchmarks/few_labels.py --task movie-tagging --shared FOLDER

The tasks, prompts and rivals of `real_people.py`, where both sides have 960 labels. Eight epochs of SFT on chains, as
many steps on labels; both keep the weights with the least loss on the same 12 held-out training users. No RL. Writes
benchmarks/results/few-labels.json, a task and seed at a time: what other calls measured stays. Killed, the same command
goes on.
"""

from dataclasses import asdict
from typing import Any

from on_gpu import trained_on
from real_people import LABEL_TASKS, TASKS, open_run, parser_of
from results_file import add_results
from rivals import rivals
from tagpr.experiments.interview import Interview
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.statistics import mean_interval, paired_bootstrap

LABELS, EPOCHS = 160, 8
SYSTEMS = {"label SFT": "labels", "SFT on chains": "sft"}
PAIRS = [
    ("SFT on chains", "label SFT"),
    ("SFT on chains", "teacher"),
    ("label SFT", "teacher"),
    ("label SFT", "linear, text and history"),
    ("label SFT", "user-majority"),
    ("SFT on chains", "user-majority"),
]


def figures(run: Run, card: str) -> dict[str, Any]:
    """Ask both models; correctness with its interval over users, and the paired differences."""
    interview, heldout = Interview(run, run.checkpoints(tuple(SYSTEMS.values()))), run.data[card].heldout
    users, scores, chains = [example.user_id for example in heldout], rivals(run, card), {}
    for row, system in SYSTEMS.items():
        questions = interview.questions(system, card, heldout)
        found = {one.id: one for one in interview.answers("few-labels", system, card, {"own": questions})["own"]}
        scores[row] = [found[example.id].correctness for example in heldout]
        claims = sum(one.claims for one in found.values())
        if claims:
            chains = {
                "format_rate": sum(one.format_ok for one in found.values()) / len(found),
                "true_claims": sum(one.true_claims for one in found.values()) / claims,
            }
    stages = {system: run.manifest(system) for system in ("sft", "labels")}
    return {
        "questions": len(heldout),
        "users": len(set(users)),
        "labels": len(run.train[card]),
        "correctness": {name: asdict(mean_interval(own, users)) for name, own in scores.items()},
        "of the chains": chains,
        "differences": {f"{a} minus {b}": asdict(paired_bootstrap(scores[a], scores[b], users)) for a, b in PAIRS},
        "training": {name: asdict(made.metrics) for name, made in stages.items() if made is not None},
        "trained on": trained_on(),
    }


def main() -> None:
    """Train, ask and add the task and seed to the file."""
    parser = parser_of(__doc__, LABEL_TASKS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = open_run(arguments.task, arguments.seed, EPOCHS, arguments.shared, arguments.runs, LABELS)
    make(run, "data", "chains", "sft", "labels")
    add_results("few_labels", arguments.task, f"seed {arguments.seed}", figures(run, TASKS[arguments.task].card))


if __name__ == "__main__":
    main()
