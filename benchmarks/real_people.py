"""Real people, equal labels, equal steps: label SFT, SFT on chains, the two mixed, and RL after the chains.

    PYTHONPATH=benchmarks python benchmarks/real_people.py --task package-section      # an hour on one core
    PYTHONPATH=benchmarks python benchmarks/real_people.py --task package-changelog
    PYTHONPATH=benchmarks python benchmarks/real_people.py --task movie-tagging --shared FOLDER
    PYTHONPATH=benchmarks python benchmarks/real_people.py --task review-rating --shared FOLDER
    PYTHONPATH=benchmarks python benchmarks/real_people.py --task package-section --labels all --seed 0 1 2  # a GPU

The packages are bundled; the others are made of raw files that you downloaded (MovieLens 10M's tags with TMDB's
overviews; Yelp's reviews), whose folder is given by --shared or TAGPR_SHARED_DATA. All learn from the same labels: 960
at most, or another number, or all (`--seed` draws them and all else). The three SFTs take as many optimizer steps (more
with --epochs) and keep the weights with the least loss on the same held-out training users: 12, of all labels 24. RL
has no reward model here (gamma 0), so that the rows of three tasks fit into three hours of one core; its steps have 32
completions each, of all labels too. Of the users of MovieLens and Yelp it takes four prompts each at most. Beside them
the cheap rivals: logistic regression of the text, and of the text and the history (of changelogs: over the counted
habits of the shown notes); the teacher of the chains; the rules without a model, the nearest item among them.

Writes benchmarks/results/real-people.json, a call at a time: what other calls measured stays. Of several seeds all SFTs
come first, then all RL, and what every seed has is also taken together: the interval over users is then that of these
trainings' mean. Killed, the same command goes on.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from applied_by_rule import applied_by_rule
from on_gpu import trained_on
from real_tasks import LABELS, STAGES, TASKS, number_of, open_run, parser_of
from results_file import add_results
from rivals import rivals
from rl_over_sft import heldout_curve
from scores import Scores, add_together, compared
from tagpr.chains.evidence.habits import rewrites
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import with_other_history
from tagpr.experiments.interview import Interview
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant


def mixed_variant(epochs: float = 1) -> Variant:
    """Every chain row and as many label rows, half the epochs of them: as many steps as on chains alone."""
    return Variant("mixed", ("sft.mix=0.5", f"sft.epochs={epochs / 2}"), shared=("data", "chains"), last="sft")


def figures(run: Run, card: str, found: Scores) -> dict[str, Any]:
    """The comparison, and how the systems were trained."""
    stages = {name: run.manifest(name) for name in ("sft", "labels", *STAGES)}
    return compared(found) | {
        "labels": len(run.train[card]),
        "metric": run.data[card].task.metrics[0],
        "of the chains": found.chains,
        "training": {name: asdict(made.metrics) for name, made in stages.items() if made is not None},
        "RL on held-out training users": {name: heldout_curve(run.folder.stage(name)) for name in STAGES},
        "cpu_seconds": {name: round(made.measured.cpu_seconds) for name, made in stages.items() if made is not None},
        "trained on": trained_on(),
    }


def answers(run: Run, system: str, card: str, other_history: bool = False) -> list[Prediction]:
    """A trained system's answers to the held-out questions, or to them with the history of another user each."""
    interview = Interview(run, run.checkpoints((system,)))
    asked = interview.heldout(card)
    if other_history:
        asked = with_other_history(asked, run.seed)[0]
    questions = {"asked": interview.questions(system, card, asked)}
    return interview.answers("real-people", system, card, questions)["asked"]


def measured(run: Run, card: str, epochs: int, add: Callable[[dict[str, Any]], None]) -> Iterator[Scores]:
    """Train and ask: the two SFTs, then RL, then the mixed SFT. After each, `add` is given the figures so far."""
    make(run, "data", "chains", "sft", "labels")
    heldout = run.data[card].heldout
    found = Scores([example.user_id for example in heldout], rivals(run, card))

    def ask(row: str, system: str) -> None:
        own = answers(run, system, card)
        found.add(row, own, heldout)
        if rewrites(run.tasks[card]) and system != "labels":
            found.of[f"{row}, applied by rule"] = applied_by_rule(run, card, own)

    ask("label SFT", "labels")
    ask("SFT on chains", "sft")
    add(figures(run, card, found))
    yield found
    make(run, *STAGES)
    ask("TagPR", "final")
    found.add("TagPR, another user's history", answers(run, "final", card, other_history=True), heldout)
    add(figures(run, card, found))
    yield found
    found.add("mixed SFT", answers(make_variant(run, mixed_variant(epochs)), "sft", card), heldout)
    add(figures(run, card, found))
    yield found


def main() -> None:
    """Train, evaluate and add the calls to the file."""
    parser = parser_of(__doc__, sorted(TASKS))
    parser.add_argument("--labels", type=number_of, default=LABELS, help="learned from at most, or all")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=1, help="of the SFTs, that of the labels too")
    arguments = parser.parse_args()
    task, labels, epochs = arguments.task, arguments.labels, arguments.epochs
    call = f", labels {labels or 'all'}" * (labels != LABELS) + f", epochs {epochs}" * (epochs > 1)
    card, seeds, calls = TASKS[task].card, arguments.seed, []
    for seed in seeds:
        run = open_run(task, seed, epochs, arguments.shared, arguments.runs, labels)
        calls.append(measured(run, card, epochs, partial(add_results, "real_people", task, f"seed {seed}{call}")))
    for each in zip(*calls, strict=True):  # the SFTs of every seed, then the RL of every seed
        add_together("real_people", task, seeds, call, each)


if __name__ == "__main__":
    main()
