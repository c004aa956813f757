"""Real people: eight sampled answers put to the vote, of SFT on chains and of label SFT.

    PYTHONPATH=benchmarks python benchmarks/votes.py --task package-section      # over an hour on one core
    PYTHONPATH=benchmarks python benchmarks/votes.py --task package-changelog --seed 0 1 2

A chain is drawn, and another draw may decide otherwise. Self-consistency (Wang et al. 2022, arXiv 2203.11171) draws
several and takes the commonest answer; by evidence an answer counts for the share of its claims that are true. Does
that bring SFT on chains above label SFT, and what does the same cost and gain there? Is it a confidence how many agree?
960 labels, equal steps, no RL.
Package sections and movie tags have the teacher of `more_samples.py` (an encoder, 96 tries), package sections its
answer weight too; the other tasks are as in `real_people.py`. Eight samples at temperature 0.7, set before the first
run; no other was tried.

Writes benchmarks/results/votes.json, a call at a time: what other calls measured stays. Several seeds are taken
together too. Killed, the same command goes on.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from more_samples import run_of
from on_gpu import trained_on
from real_people import answers
from real_tasks import LABELS, TASKS, open_run, parser_of
from results_file import add_results
from rivals import rivals
from scores import Scores, add_together, compared
from tagpr.evaluation.evaluate import best_of_rows, checkpoint_system
from tagpr.evaluation.heldout import Heldout
from tagpr.evaluation.predict import model_key
from tagpr.evaluation.predictions import Prediction
from tagpr.pipeline import make
from tagpr.progress import silent
from tagpr.runs import Run
from tagpr.statistics import STANDARD, Floats, bootstrap_sums, percentile_interval
from tagpr.tasks.types import Example

VOTES, TEMPERATURE = 8, 0.7
ANSWER_WEIGHT = {"package-section": 10.0, "movie-tagging": 1.0}
"""Of the tasks whose teacher has an encoder and 96 tries; the others are those of `real_people.py`."""
ROWS = {"labels": "label SFT", "sft": "SFT on chains"}
WAYS = {"majority": "vote of 8", "evidence": "vote of 8 by evidence", "likelihood": "likeliest of 8"}
PAIRS = [
    (f"SFT on chains{own}", f"label SFT{other}")
    for own in ("", *(f", {way}" for way in WAYS.values()))
    for other in ("", ", vote of 8")
]
PAIRS += [(f"{row}, {way}", row) for row in ROWS.values() for way in WAYS.values()]
PAIRS += [("SFT on chains, vote of 8 by evidence", "SFT on chains, vote of 8")]
PAIRS += [("SFT on chains, vote of 8 by evidence", rule) for rule in ("linear, text and history", "linear, habits")]


def trained(task: str, seed: int, shared: Path, runs: Path) -> Run:
    """The run with both SFTs."""
    if task in ANSWER_WEIGHT:
        run = run_of(task, seed, shared, runs, True, ANSWER_WEIGHT[task], LABELS, 1)
    else:
        run = open_run(task, seed, 1, shared, runs, LABELS)
    make(run, "data", "chains", "sft", "labels")
    return run


def votes(run: Run, name: str, card: str) -> dict[str, Sequence[Prediction]]:
    """Way of choosing -> what is chosen of eight sampled answers of the system `name`."""
    settings = run.recipe.evaluate.model_copy(
        update={"best_of": VOTES, "best_of_temperature": TEMPERATURE, "best_of_by": tuple(WAYS)}
    )
    checkpoint = run.checkpoints((name,))[name]
    system = checkpoint_system(name, checkpoint, run.context())
    asked = {card: Heldout(run.data[card].task, run.data[card].heldout)}
    out = run.folder.analyses / "votes"
    rows = best_of_rows(system, model_key(checkpoint, settings), None, asked, settings, out, silent)
    return {way: row.predictions[card] for row in rows for way in WAYS if row.name.endswith(way)}


def confidence(chosen: Sequence[Prediction]) -> dict[str, Any]:
    """Is the share of the draws that agree a confidence? `auc`: that of a right answer is larger than a wrong one's.

    Intervals over users.
    """
    levels = np.array([round(VOTES * one.extra["agreement"]) for one in chosen])
    right = np.array([one.correctness == 1 for one in chosen])
    columns = np.column_stack([(levels == n) & own for own in (right, ~right) for n in range(VOTES + 1)]).astype(float)
    users = [one.user_id for one in chosen]
    sums = np.vstack([columns.sum(0), bootstrap_sums(columns, users, STANDARD)])
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of none or all right
        found = {
            "auc": area(*np.split(sums, 2, axis=1)),
            "right where all agree": sums[:, VOTES] / (sums[:, VOTES] + sums[:, -1]),
            "all agree": (sums[:, VOTES] + sums[:, -1]) / sums.sum(1),
        }
    return {
        name: asdict(percentile_interval(float(values[0]), values[1:][np.isfinite(values[1:])]))
        for name, values in found.items()
        if np.isfinite(values[0])
    }


def area(right: Floats, wrong: Floats) -> Floats:
    """The area under the curve of (resamples, levels) counts: how often a right one is above a wrong one, ties half."""
    below = np.cumsum(wrong, axis=1) - wrong / 2
    return (right * below).sum(1) / (right.sum(1) * wrong.sum(1))


def tokens(answered: Sequence[Prediction]) -> float:
    """Mean tokens of an answer."""
    return fmean(one.tokens for one in answered)


def measured(run: Run, card: str) -> tuple[Scores, dict[str, Any], dict[str, Any]]:
    """Scores of every row, what the answers cost, and what agreement says of those that were put to the vote."""
    heldout: Sequence[Example] = run.data[card].heldout
    found = Scores([example.user_id for example in heldout], rivals(run, card))
    cost, sure = {}, {}
    for name, row in ROWS.items():
        own = answers(run, name, card)
        found.add(row, own, heldout)
        cost[row] = tokens(own)
        for way, chosen in votes(run, name, card).items():
            found.add(f"{row}, {WAYS[way]}", chosen, heldout)
            if way != "likelihood":
                sure[f"{row}, {WAYS[way]}"] = confidence(chosen)
    return found, cost, sure


def main() -> None:
    """Train, ask and add the calls to the file."""
    parser = parser_of(__doc__, sorted(TASKS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    task, each = arguments.task, list[Scores]()
    for seed in arguments.seed:
        run = trained(task, seed, arguments.shared, arguments.runs)
        found, cost, sure = measured(run, TASKS[task].card)
        own = {"of the chains": found.chains, "tokens of one answer": cost, "agreement": sure}
        own |= {"trained on": trained_on()}
        add_results("votes", task, f"seed {seed}", compared(found, PAIRS) | own)
        each.append(found)
    add_together("votes", task, arguments.seed, "", each, PAIRS)


if __name__ == "__main__":
    main()
