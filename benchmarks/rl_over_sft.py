"""Does the quickstart's RL add to its SFT start? Asked on many more of its maintainers' notes than the held-out ones.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/rl_over_sft.py     # about 15 minutes on one core

An interval over 257 held-out notes is too wide for a gain of .02. The data stage drew 960 of 6,612 notes for training;
of the others the test questions take, per user, up to `PER_USER` notes that no trained prompt shows. They are in time
between the user's other notes, so that nothing but their number speaks for them. Label SFT, SFT on chains and final
answer them in blocks, in random order; killed, the same command goes on. What the run's evaluate stage has answered
is taken from there.

Writes benchmarks/results/rl-over-sft.json: exact match of the three, the differences paired by question with an
interval over users, in all and by where the questions come from, and what RL's rollouts found.
"""

import argparse
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from statistics import fmean

import pyarrow.parquet as parquet

from results_file import write_results
from tagpr.chains.grammar import parse_response
from tagpr.data import load_splits
from tagpr.evaluation.evaluate import checkpoint_system
from tagpr.evaluation.heldout import Heldout, answer, answer_and_keep, token_count
from tagpr.evaluation.predict import model_key
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.runs import Run
from tagpr.statistics import Interval, mean_interval, paired_bootstrap
from tagpr.tasks.types import Example

TASK = "package-changelog"
SYSTEMS = ("labels", "sft", "final")
PER_USER, BLOCK = 3, 96


def test_questions(run: Run, per_user: int) -> list[Example]:
    """The held-out questions, then up to `per_user` others of each user in random order.

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
    draw.shuffle(chosen)
    return [*splits.heldout, *chosen]


def blocks(run: Run, questions: Sequence[Example], system: str) -> list[list[Example]]:
    """The questions that the evaluate stage has not answered, `BLOCK` at a time."""
    done = {row.id for row in read_predictions(run.folder.predictions / system / f"{TASK}.jsonl")}
    left = [question for question in questions if question.id not in done]
    return [left[i : i + BLOCK] for i in range(0, len(left), BLOCK)]


def answers(run: Run, systems: Sequence[str], most: int | None = None) -> dict[str, list[Prediction]]:
    """Each system's greedy answers, by question: the evaluate stage's, and those to at most `most` blocks of the other
    questions, which are kept in the run's folder.
    """
    folders = run.checkpoints(systems)
    asked = blocks(run, test_questions(run, PER_USER), systems[0])[:most]
    found = {}
    for name in systems:
        rows = list(read_predictions(run.folder.predictions / name / f"{TASK}.jsonl"))
        rows += ask(run, name, folders[name], asked, run.folder.path / "rl-over-sft" / name)
        found[name] = sorted(rows, key=lambda row: row.id)
    return found


def ask(run: Run, name: str, folder: Path, asked: Sequence[Sequence[Example]], out: Path) -> Iterator[Prediction]:
    """The greedy answers of a checkpoint, as the system `name` is asked, block by block; those in `out` are kept."""
    system = checkpoint_system(name, folder, run.context())
    count, vocabulary = token_count(system.context.tokenizer), system.context.vocabulary
    for number, block in enumerate(asked):
        heldout = Heldout(run.data[TASK].task, block)
        yield from answer_and_keep(
            *(system, heldout, out / f"{number:02}.jsonl", model_key(folder, run.recipe.evaluate), BLOCK),
            lambda picked, _, h=heldout: answer(system.predict, h, vocabulary, count, picked),
        )


def difference(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> Interval:
    """Exact match of one minus the other's, paired by question, interval over users."""
    assert [row.id for row in ours] == [row.id for row in theirs]
    right = ([row.scores["exact"] for row in rows] for rows in (ours, theirs))
    return paired_bootstrap(*right, [row.user_id for row in ours])


def scores(rows: Sequence[Prediction]) -> dict[str, object]:
    """What one system's answers are worth."""
    return {
        "exact": asdict(mean_interval([row.scores["exact"] for row in rows], [row.user_id for row in rows])),
        "format_rate": fmean(row.format_ok for row in rows),
        "true_claims": sum(row.true_claims for row in rows) / max(1, sum(row.claims for row in rows)),
        "chain_tokens": fmean(row.chain_tokens for row in rows),
    }


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
    parser.add_argument("--blocks", type=int, help="ask only so many blocks of questions besides the evaluate stage's")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    run = Run.open("quickstart", runs=arguments.runs)
    run.require("sft", "labels", "guided", "exploratory", "evaluate")
    rows = answers(run, SYSTEMS, arguments.blocks)
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
    command = "make run && python benchmarks/rl_over_sft.py"
    write_results(
        "rl-over-sft", command + (f" --blocks {arguments.blocks}" if arguments.blocks is not None else ""), figures
    )


if __name__ == "__main__":
    main()
