"""Few labels of real people: label SFT and SFT on chains, both from 160 labels, beside the rivals without a model.

    PYTHONPATH=benchmarks python benchmarks/few_labels.py --task package-section     # an hour on one core
    PYTHONPATH=benchmarks python benchmarks/few_labels.py --task movie-tagging --shared FOLDER

The tasks, prompts and rivals of `real_people.py`, where both sides have 960 labels. Eight epochs of SFT on chains, as
many steps on labels; both keep the weights with the least loss on the same 12 held-out training users. No RL. Writes
benchmarks/results/few-labels.json, a task and seed at a time: what other calls measured stays. Killed, the same command
goes on.
"""

from typing import Any

from real_people import measured
from real_tasks import LABEL_TASKS, TASKS, open_run, parser_of
from results_file import add_results
from scores import differences

LABELS, EPOCHS = 160, 8
RIVALS = [(model, rival) for model in ("label SFT", "SFT on chains") for rival in ("teacher", "user-majority")]
"""Compared here besides the pairs of `real_people.py`: what few labels are to be held against."""


def main() -> None:
    """Train, ask and add the task and seed to the file."""
    parser = parser_of(__doc__, LABEL_TASKS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    task, seed, own = arguments.task, arguments.seed, dict[str, Any]()
    run = open_run(task, seed, EPOCHS, arguments.shared, arguments.runs, LABELS)
    found = next(measured(run, TASKS[task].card, EPOCHS, own.update))
    own["differences"] |= differences(found, RIVALS)
    add_results("few_labels", task, f"seed {seed}", own)


if __name__ == "__main__":
    main()
