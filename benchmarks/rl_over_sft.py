"""Does the quickstart's RL add to its SFT start? Asked on many more of its maintainers' notes than the held-out ones.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/rl_over_sft.py     # about 15 minutes on one core

An interval over 257 held-out notes is too wide for a gain of .02. The data stage drew some of 6,612 notes for training;
of the others the test questions take, per user, up to `PER_USER` notes that no trained prompt shows. They are in time
between the user's other notes, so that nothing but their number speaks for them. Label SFT, SFT on chains and final
answer them; killed, the same command goes on. What the run's evaluate stage has answered is taken from there.

Writes benchmarks/results/rl-over-sft.json: exact match of the three, the differences paired by question with an
interval over users, in all and by where the questions come from, and what RL's rollouts found.
"""

import argparse
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from statistics import fmean

import pyarrow.parquet as parquet

from results_file import write_results
from tagpr.chains.grammar import parse_response
from tagpr.data import load_splits
from tagpr.evaluation.predictions import Prediction
from tagpr.experiments.interview import Interview
from tagpr.files import read_json
from tagpr.runs import Run
from tagpr.statistics import Interval, mean_interval, paired_bootstrap
from tagpr.tasks.types import Example

TASK = "package-changelog"
SYSTEMS = ("labels", "sft", "final")
PER_USER = 3


def test_questions(run: Run, per_user: int) -> list[Example]:
    """The held-out questions, then up to `per_user` others of each user, drawn by the run's seed.

    Those were neither trained on nor shown in a trained prompt.
    """
    splits = run.data[TASK]
    sources = tuple(s.model_copy(update={"max_train": None}) for s in run.recipe.data.sources if s.task == TASK)
    every = load_splits(run.recipe.data.model_copy(update={"sources": sources}), run.seed, run.base)[TASK]
    known = {example.id for example in splits.train}
    for example in splits.train:
        known |= {f"{example.user_id}-{entry.id}" for entry in run.prompts.build(splits.task, example).entries}
    others = defaultdict[str, list[Example]](list)
    for example in every.train:
        if example.id not in known:
            others[example.user_id].append(example)
    draw = Random(run.seed)
    chosen = [one for _, own in sorted(others.items()) for one in draw.sample(own, min(per_user, len(own)))]
    return [*splits.heldout, *chosen]


def answers(run: Run, checkpoints: Mapping[str, Path]) -> dict[str, list[Prediction]]:
    """Each checkpoint's greedy answers to the test questions, by question; what the run has answered is not redone."""
    interview, asked, found = Interview(run, checkpoints), test_questions(run, PER_USER), {}
    for name in checkpoints:
        questions = interview.questions(name, TASK, asked)
        rows = interview.answers("rl-over-sft", name, TASK, {"own": questions})["own"]
        found[name] = sorted(rows, key=lambda row: row.id)
    return found


def difference(ours: Sequence[Prediction], theirs: Sequence[Prediction], metric: str = "exact") -> Interval:
    """One's metric minus the other's, paired by question, interval over users."""
    assert [row.id for row in ours] == [row.id for row in theirs]
    right = ([row.scores[metric] for row in rows] for rows in (ours, theirs))
    return paired_bootstrap(*right, [row.user_id for row in ours])


def scores(rows: Sequence[Prediction], metric: str = "exact") -> dict[str, object]:
    """What one system's answers are worth."""
    return {
        metric: asdict(mean_interval([row.scores[metric] for row in rows], [row.user_id for row in rows])),
        "format_rate": fmean(row.format_ok for row in rows),
        "true_claims": sum(row.true_claims for row in rows) / max(1, sum(row.claims for row in rows)),
        "chain_tokens": fmean(row.chain_tokens for row in rows),
        "cut_off": sum(row.finished is False for row in rows),
    }


def heldout_curve(folder: Path) -> list[Mapping[str, float]]:
    """R_v, true claims and length on held-out training users at every evaluation of a stage of RL."""
    tables = [(int(path.stem.split("-")[1]), read_json(path)) for path in sorted((folder / "heldout").glob("*.json"))]
    keys = ("verifiable", "evidence", "length")
    return [{"step": step} | {k: sum(t[k]) / len(t[k]) for k in keys if k in t} for step, t in tables]


def groups(run: Run, samples: Path) -> list[dict[str, float]]:
    """Of the groups of every third of the steps: answers that are right, also by majority vote; groups with one right
    answer at least (pass@G), with right and wrong ones, with right ones only.
    """
    found = defaultdict[tuple[int, str], list[tuple[str, bool]]](list)
    for row in parquet.read_table(samples).to_pylist():
        text = parse_response(row["completion"], run.vocabulary).answer
        found[row["step"], row["example_id"]].append((text, row["r_v"] == 1))
    steps = max(step for step, _ in found)
    thirds = [[own for (step, _), own in found.items() if 3 * (step - 1) // steps == third] for third in range(3)]
    return [
        {
            "groups": len(third),
            "right": fmean(right for own in third for _, right in own),
            "majority": fmean(dict(own)[Counter(text for text, _ in own).most_common(1)[0][0]] for own in third),
            "one right": fmean(any(right for _, right in own) for own in third),
            "all right": fmean(all(right for _, right in own) for own in third),
            "mixed": fmean(len({right for _, right in own}) > 1 for own in third),
        }
        for third in thirds
    ]


def main() -> None:
    """Answer what is missing and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    run = Run.open("quickstart", runs=arguments.runs)
    run.require("sft", "labels", "guided", "exploratory", "evaluate")
    rows = answers(run, run.checkpoints(SYSTEMS))
    heldout = {example.id for example in run.data[TASK].heldout}
    parts = {
        "all": rows,
        "held-out": {name: [row for row in own if row.id in heldout] for name, own in rows.items()},
        "others": {name: [row for row in own if row.id not in heldout] for name, own in rows.items()},
    }
    figures = {
        "questions": {
            part: {
                "questions": len(own["sft"]),
                "users": len({row.user_id for row in own["sft"]}),
                **{
                    f"{a} minus {b}": asdict(difference(own[a], own[b]))
                    for a, b in (("final", "sft"), ("final", "labels"), ("sft", "labels"))
                },
                "systems": {name: scores(found) for name, found in own.items()},
            }
            for part, own in parts.items()
            if own["sft"]
        },
        "rollouts by thirds of the steps": {
            stage: groups(run, run.folder.stage(stage) / "samples.parquet") for stage in ("guided", "exploratory")
        },
    }
    write_results("rl-over-sft", "make run && python benchmarks/rl_over_sft.py", figures)


if __name__ == "__main__":
    main()
