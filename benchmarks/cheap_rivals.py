"""What needs no language model, by the number of labels: linear models, the teacher of the chains, the rules.

    PYTHONPATH=benchmarks python benchmarks/cheap_rivals.py --task package-section     # minutes on one core
    PYTHONPATH=benchmarks python benchmarks/cheap_rivals.py --task package-changelog
    PYTHONPATH=benchmarks python benchmarks/cheap_rivals.py --task movie-tagging --shared FOLDER

The tasks, held-out questions and rivals of `real_people.py`; learned from 160, 320 and 960 labels (those of its seed)
and from all there are. The teacher's accuracy is a ceiling of what SFT on its chains comes to; of label tasks it is
asked with a sentence encoder too. Writes benchmarks/results/cheap-rivals.json, a task and seed at a time: what other
calls measured stays.
"""

from dataclasses import asdict
from typing import Any

from more_samples import ENCODER
from real_tasks import TASKS, open_run, parser_of
from results_file import add_results
from rivals import marked, rivals, taught
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.statistics import mean_interval, paired_bootstrap

LABELS = (160, 320, 960, 0)
"""0: all."""
PAIRS = [
    ("linear, text and history", "linear, text"),
    ("teacher", "linear, text and history"),
    ("teacher", "linear, habits"),
    ("teacher with an encoder", "teacher"),
    ("teacher with an encoder", "linear, text and history"),
]


def figures(run: Run, card: str) -> dict[str, Any]:
    """Correctness with its interval over users, and the paired differences."""
    users, scores = [example.user_id for example in run.data[card].heldout], rivals(run, card)
    if run.data[card].task.labels:
        scores["teacher with an encoder"] = marked(run, card, taught(run, card, ENCODER))
    return {
        "labels": len(run.train[card]),
        "questions": len(users),
        "users": len(set(users)),
        "correctness": {name: asdict(mean_interval(own, users)) for name, own in scores.items()},
        "differences": {
            f"{a} minus {b}": asdict(paired_bootstrap(scores[a], scores[b], users))
            for a, b in PAIRS
            if a in scores and b in scores
        },
    }


def main() -> None:
    """Measure and add the task to the file."""
    parser = parser_of(__doc__, sorted(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = {}
    for labels in LABELS:
        run = open_run(arguments.task, arguments.seed, 1, arguments.shared, arguments.runs, labels)
        make(run, "data")
        found[f"{labels or 'all'} labels"] = figures(run, TASKS[arguments.task].card)
    add_results("cheap_rivals", arguments.task, f"seed {arguments.seed}", found)


if __name__ == "__main__":
    main()
