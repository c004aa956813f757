"""`update`: what users said of answers becomes training, at once for the user's row, later for everything else.

Judgements of one prompt make pairs: every better text against every worse one. A user's row of the reward model is
fitted on most of the user's pairs and judged on the latest ones. All pairs go to `feedback/pairs.jsonl`, which a recipe
names under `prmu.pairs`, with those that were held out marked as such; corrected answers go to
`feedback/corrections.jsonl`, which it names under `data.corrections`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tagpr.data.corrections import PREFIX
from tagpr.data.examples import write_examples
from tagpr.data.human_pairs import HumanPair, Message
from tagpr.errors import DataError
from tagpr.files import write_jsonl
from tagpr.marks import END_THINK
from tagpr.prmu.human_pairs import split_by_user
from tagpr.prmu.settings import PRMUSettings
from tagpr.runs.stage import locked
from tagpr.serve.feedback import Feedback, FeedbackStore, bare_answer, corrected_answer
from tagpr.serve.manifests import renew_manifests
from tagpr.serve.questions import make_example
from tagpr.serve.served_run import ServedRun
from tagpr.serve.store import feedback_path
from tagpr.serve.user_rows import Fitted, fit_rows
from tagpr.tasks.types import Example

HELDOUT_SHARE = 0.25
"""Of a user's pairs, the latest: what the fitted row is judged on. At least one pair is left to fit."""


@dataclass(frozen=True)
class RefusedCorrection:
    """A corrected answer that is not learned."""

    user: str
    question: str
    answer: str
    why: str


@dataclass(frozen=True)
class Update:
    """What an update did."""

    judgements: int
    pairs: int
    single: int
    """Judgements without another side: no better answer was given, nor a thumb the other way for the same prompt."""
    corrections: int
    refused: tuple[RefusedCorrection, ...]
    """Corrected answers that the task does not know, e.g. no label of it."""
    fitted: tuple[Fitted, ...]
    """One entry per user whose row was fitted; empty if the run has no reward model with users."""
    pairs_file: Path
    corrections_file: Path


def update(run: str | Path) -> Update:
    """Learn from a run's stored feedback. Raises DataError if there is none, RunError if the run is in use."""
    served = ServedRun.open(run)
    if not feedback_path(served).is_file():
        raise DataError(f"{served.folder.path}: no feedback yet; it comes from the page or POST /v1/feedback")
    with locked(served.folder.path):
        store = FeedbackStore(feedback_path(served))
        judgements = list(store.all())
        store.close()
        pairs = preference_pairs(served, judgements)
        settings = PRMUSettings(heldout_users=0, heldout_share=HELDOUT_SHARE)
        splits = split_by_user(pairs, settings, served.seed)
        examples, refused = _corrections(served, judgements)
        pairs_file, corrections_file = served.folder.human_pairs, served.folder.corrections
        write_jsonl(pairs_file, (_row(pair, split) for pair, split in zip(pairs, splits, strict=True)))
        write_examples(corrections_file, examples)
        fitted = fit_rows(served, pairs, splits)
        if fitted:
            renew_manifests(served.folder)
    used = {(pair.user_id, pair.context) for pair in pairs}
    return Update(
        judgements=len(judgements),
        pairs=len(pairs),
        single=sum((one.user, _context(one)) not in used for one in judgements),
        corrections=len(examples),
        refused=tuple(refused),
        fitted=fitted,
        pairs_file=pairs_file,
        corrections_file=corrections_file,
    )


def preference_pairs(served: ServedRun, judgements: Iterable[Feedback]) -> list[HumanPair]:
    """Every better text against every worse one of the same user and prompt, oldest first.

    If only one of two texts has a chain, the bare answers are compared: a pair must not teach that chains are bad.
    """
    better: dict[tuple[str, tuple[Message, ...]], dict[str, None]] = {}
    worse: dict[tuple[str, tuple[Message, ...]], dict[str, None]] = {}
    for one in judgements:
        key = one.user, _context(one)
        for side, text in ((better, one.chosen), (worse, one.rejected)):
            if text:
                side.setdefault(key, {})[text] = None
    found: dict[HumanPair, None] = {}
    for (user, context), texts in better.items():
        for good in texts:
            for bad in worse.get((user, context), {}):
                chosen, rejected = _alike(served, good, bad)
                if chosen.strip() != rejected.strip():
                    found[HumanPair(user, context, chosen, rejected)] = None
    return list(found)


def _context(one: Feedback) -> tuple[Message, ...]:
    return tuple(Message(message["role"], message["content"]) for message in one.messages)


def _alike(served: ServedRun, *texts: str) -> list[str]:
    if len({END_THINK in text for text in texts}) == 1:
        return list(texts)
    return [bare_answer(served.vocabulary, text) for text in texts]


def _corrections(served: ServedRun, judgements: Iterable[Feedback]) -> tuple[list[Example], list[RefusedCorrection]]:
    """Corrected answers as examples, with the history as it was shown; and those that are none."""
    examples, refused = list[Example](), list[RefusedCorrection]()
    for one in judgements:
        if one.rating != "down" or not one.chosen:
            continue
        try:
            examples.append(_correction(served, one, one.chosen))
        except DataError as error:
            refused.append(RefusedCorrection(one.user, one.question, one.chosen, str(error)))
    return examples, refused


def _correction(served: ServedRun, one: Feedback, better: str) -> Example:
    """Raises DataError for an answer that is not learned."""
    if one.task not in served.tasks:
        raise DataError(f"the run has no task {one.task}; it has {', '.join(served.tasks)}")
    task = served.tasks[one.task]
    target = corrected_answer(task, served.vocabulary, better)
    asked = make_example(task, one.user, one.fields or one.question, one.shown[::-1])  # oldest first
    return Example(
        id=f"{PREFIX}{one.id}",
        user_id=one.user,
        task=task.name,
        input=asked.input,
        target=target,
        profile=asked.profile,
        date=one.date,
        query=asked.query,
        fields=asked.fields,
    )


def _row(pair: HumanPair, split: str) -> Mapping[str, object]:
    """As `prmu.pairs` reads it; what was held out here is no training pair there."""
    return {
        "user_id": pair.user_id,
        "context": [{"role": turn.role, "content": turn.content} for turn in pair.context],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "split": "train" if split == "train" else "test",
    }
