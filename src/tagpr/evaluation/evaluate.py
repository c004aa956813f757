"""The evaluate stage: a comparison with a default list of systems, the run's checkpoints, and the trivial baselines.

Writes `predictions/SYSTEM/TASK.jsonl`, `users.csv` and `results.json`.
"""

import logging
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tagpr import processes
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.data.split import Splits
from tagpr.evaluation.best_of import BestOf, Choose, PersonalScore
from tagpr.evaluation.breakdown import write_users
from tagpr.evaluation.heldout import Heldout, answer, answer_and_keep, token_count
from tagpr.evaluation.judged import judge_answers
from tagpr.evaluation.predict import fingerprint, model_key
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import OTHER_HISTORY, Question, with_other_history
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.judges.marking import Judges
from tagpr.on_disk import Mapped, Spool, spooled
from tagpr.progress import Progress, silent
from tagpr.prompts.cuts import Seen
from tagpr.systems.context import Context, Trained
from tagpr.systems.prompted import Prompted
from tagpr.systems.protocol import Answer, NoOptions, System
from tagpr.systems.registry import NO_HISTORY, TRIVIAL, load_system
from tagpr.tasks.types import Example

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RewardModel:
    """Who chooses the best of several answers."""

    score: PersonalScore
    key: str  # a name of its content


SYSTEMS = {
    **{"base": "rag-r", "labels": "sft", "sft": "w/o-rl", "guided": "w/o-exploratory", "final": "tagpr"},
    NO_HISTORY: NO_HISTORY,
}
"""The stage's rows, and which system of the registry each is; the last one only on tasks that leak."""


def _swapped(own: Mapping[str, Heldout], settings: EvaluationSettings) -> list[str]:
    """The tasks on which the final model is also given another user's history; those of one user alone have none."""
    if settings.other_history is not True:
        return [name for name in own if name in (settings.other_history or ())]
    several = [name for name, asked in own.items() if len({example.user_id for example in asked.examples}) > 1]
    for name in own:
        if name not in several:
            logger.warning("%s: all held-out examples are of one user, so nobody's other history is asked", name)
    return several


@dataclass
class _Relay:
    """Passes a system's progress on to whoever waits for it at the moment."""

    to: Progress = silent

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.to(done, total, note)


def evaluate_systems(
    checkpoints: Mapping[str, Path],
    data: Mapping[str, Splits],
    context: Context,
    settings: EvaluationSettings,
    judges: Judges | None = None,
    prmu: RewardModel | None = None,
) -> Results:
    """Let the systems answer every held-out example, and score them with the trivial baselines.

    checkpoints: folder by row (`SYSTEMS`). data: the examples by task name. context: what systems are given, but for
    their checkpoints; its `folder` is written to, its `progress` hears of every example. judges: who marks text
    answers, if anybody does. A rerun keeps the answers that are there and does not load a model that has answered
    everything. prmu: may choose among the answers of `settings.best_of`. Several processes of one command share the
    answering; the first scores, and the others return no results.
    """
    seed, out, progress = context.seed, context.folder, context.progress
    own = {name: Heldout(splits.task, splits.heldout[: settings.limit]) for name, splits in data.items()}
    swapped = {}
    for name in _swapped(own, settings) if "final" in checkpoints else ():
        changed, donors = with_other_history(own[name].examples, seed)
        swapped[name] = Heldout(data[name].task, changed, Mapped(donors, lambda _, donor: f"other:{donor}"))
    jobs: list[tuple[str, str, Mapping[str, Heldout]]] = [(name, name, own) for name in checkpoints]
    if swapped:
        jobs.append((OTHER_HISTORY, "final", swapped))
    leaking = {name: heldout for name, heldout in own.items() if heldout.task.leaks}
    if leaking and "base" in checkpoints:
        jobs.append((NO_HISTORY, NO_HISTORY, leaking))
    folders = {**checkpoints, NO_HISTORY: checkpoints["base"]} if "base" in checkpoints else checkpoints
    relay, done = _Relay(), 0
    total = sum(len(heldout.examples) for _, _, asked in jobs for heldout in asked.values())
    context = replace(context, progress=relay)
    answered: list[SystemAnswers] = []
    for row, name, asked in jobs:
        system = checkpoint_system(name, folders[name], context)
        found = SystemAnswers(row, SYSTEMS[name], system.reasons)
        for task, heldout in asked.items():

            def report(part: int, _: int, __: str = "", before: int = done, note: str = f"{row} {task}") -> None:
                progress(before + part, total, note)

            path = out / "predictions" / row / f"{task}.jsonl"
            key = model_key(folders[name], settings)
            found.predictions[task] = _answer(system, heldout, path, key, settings.chunk, relay, report)
            done += len(heldout.examples)
        answered.append(found)
        del system  # its model goes before the next one's is loaded
    if settings.best_of > 1:
        reasoning = [name for name in checkpoints if name != "labels"]
        for name in (*(["labels"] if "labels" in checkpoints else []), *reasoning[-1:]):
            system = checkpoint_system(name, checkpoints[name], context)
            key = model_key(checkpoints[name], settings)
            answered += best_of_rows(system, key, prmu, own, settings, out, progress)
            del system
    if not processes.is_first():
        return Results((), {})
    write_users(out / "users.csv", ((task, "own", _by_system(answered, task)) for task in data))
    answered += trivial_baselines({n: replace(splits, heldout=own[n].examples) for n, splits in data.items()})
    examples = {name: heldout.examples for name, heldout in own.items()}
    tasks = {name: splits.task for name, splits in data.items()}
    if judges is not None:
        answered = judge_answers(answered, tasks, examples, judges, out / "judge.json", progress)
    results = score(tasks, answered, stage_references(answered), settings, seed, examples)
    results.write(out / "results.json")
    return results


def best_of_rows(
    system: Prompted[NoOptions],
    key: str,
    prmu: RewardModel | None,
    asked: Mapping[str, Heldout],
    settings: EvaluationSettings,
    out: Path,
    progress: Progress,
) -> list[SystemAnswers]:
    """The rows of `settings.best_of` sampled answers of a checkpoint; `key` names its content."""
    prefix = "" if system.reasons else "labels-"
    sampler = BestOf(system, key, settings, out / f".{prefix}draws")
    found = []
    for way, choose in sampler.rows(prmu and prmu.score).items():
        row = f"{prefix}best-of-{settings.best_of}-{way}"
        one = SystemAnswers(row, row, system.reasons)
        for task, heldout in asked.items():

            def answer_chunk(
                picked: list[int], report: Progress, heldout: Heldout = heldout, choose: Choose = choose
            ) -> list[Prediction]:
                return sampler.answer(heldout, picked, choose, report)

            def report(done: int, total: int, _: str = "", note: str = f"{row} {task}") -> None:
                progress(done, total, note)

            how = f"{key} {settings.best_of} {settings.best_of_temperature} agreement"  # older rows do not hold it
            if way == "prmu" and prmu is not None:
                how += f" {prmu.key}"
            prompts = _prompts(system, heldout, settings.chunk, f"{row} {how}")
            path = out / "predictions" / row / f"{task}.jsonl"
            one.predictions[task] = answer_and_keep(
                system, heldout, path, prompts.made, settings.chunk, answer_chunk, report, prompts.longest_first
            )
        found.append(one)
    if processes.is_first():  # all rows of all processes are there
        shutil.rmtree(sampler.folder, ignore_errors=True)
    return found


def checkpoint_system(name: str, folder: Path, context: Context) -> Prompted[NoOptions]:
    """The system of a row on its checkpoint; another row than the stage's answers as Base would."""
    # a label model answers from the same prompt as an untrained one: the question, the history, no word about tags
    kind = load_system("rag" if name == "labels" else SYSTEMS.get(name, "rag-r"))
    trained = dict.fromkeys(kind.variants, Trained(folder))
    system = kind(replace(context, model=folder, trained=trained))
    assert isinstance(system, Prompted)
    system.fit(())
    return system


def _answer(
    system: Prompted[NoOptions], heldout: Heldout, path: Path, key: str, chunk: int, relay: _Relay, progress: Progress
) -> Sequence[Prediction]:
    prompts = _prompts(system, heldout, chunk, key)
    count = token_count(system.context.tokenizer)

    def answer_chunk(picked: list[int], report: Progress) -> list[Prediction]:
        relay.to = report

        def ask(_: Sequence[Example]) -> list[Answer]:  # as `Prompted.predict`, from the prompts that are there
            answers = system.write([prompts.ids[i] for i in picked])
            return [replace(one, seen=prompts.seen[i]) for one, i in zip(answers, picked, strict=True)]

        return answer(ask, heldout, system.context.vocabulary, count, picked)

    return answer_and_keep(system, heldout, path, prompts.made, chunk, answer_chunk, progress, prompts.longest_first)


@dataclass(frozen=True)
class _Prompts:
    """The prompts of all held-out examples, each built once."""

    made: str
    """What decides the answers (see `fingerprint`)."""
    longest_first: Sequence[int]
    """The system's own order."""
    ids: Sequence[Sequence[int]]
    seen: Sequence[Seen]
    """What each shows."""


def _prompts(system: Prompted[NoOptions], heldout: Heldout, chunk: int, key: str) -> _Prompts:
    system.prompts.prepare(heldout.task, heldout.asked)
    lengths, all_ids, all_seen = array("q"), Spool["array[int]"](), Spool[Seen]()

    def questions() -> Iterator[Question]:
        for example, asked in zip(heldout.examples, heldout.asked, strict=True):
            ids = tuple(system.prompt_ids(asked))
            lengths.append(len(ids))
            all_ids.add(array("I", ids))
            all_seen.add(system.seen(asked))
            yield Question(example, ids, Seen())

    made = fingerprint(heldout.task, questions(), chunk, key)
    longest_first = np.argsort(-np.array(lengths, np.int64), kind="stable").astype(np.int64, copy=False)
    return _Prompts(made, array("q", longest_first.tobytes()), all_ids.rows(), all_seen.rows())


def _by_system(answered: Sequence[SystemAnswers], task: str) -> dict[str, Sequence[Prediction]]:
    return {found.name: found.predictions[task] for found in answered if task in found.predictions}


def stage_references(systems: Sequence[SystemAnswers]) -> list[str]:
    """What the stage's systems are compared with: Base first, the earlier stages, the trivial baselines."""
    return [system.name for system in systems if system.name != "final"]


def trivial_baselines(data: Mapping[str, Splits]) -> list[SystemAnswers]:
    """The systems that need no model, each on the tasks it covers."""
    vocabulary = load_vocabulary()
    context = Context(Path(), {name: splits.task for name, splits in data.items()}, Path(), vocabulary)
    found = []
    for name in TRIVIAL:
        rows = {}
        for task, splits in data.items():
            system = load_system(name)(context)
            if system.covers(splits.task):
                system.fit(splits.train)
                heldout = Heldout(splits.task, splits.heldout)
                rows[task] = spooled(_one_by_one(system, heldout, vocabulary))
        if rows:
            found.append(SystemAnswers(name, reasons=False, predictions=rows))
    return found


def _one_by_one(system: System[Any], heldout: Heldout, vocabulary: Vocabulary) -> Iterator[Prediction]:
    for place in range(len(heldout.examples)):
        yield from answer(system.predict, heldout, vocabulary, lambda text: len(text.split()), [place])
