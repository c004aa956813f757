"""Answer questions with a checkpoint under changed conditions, quickly and so that a kill costs at most one chunk.

Saving and sharing chunks is `tagpr.evaluation.chunks`', writing `tagpr.systems.backbone`'s.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.chains.vocabulary import Vocabulary
from tagpr.evaluation.chunks import Chunks, is_complete
from tagpr.evaluation.predictions import Prediction, make_prediction
from tagpr.evaluation.questions import Question
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.files import weights_key
from tagpr.progress import Progress, silent
from tagpr.systems.protocol import Answer
from tagpr.tasks.types import Task

logger = logging.getLogger(__name__)

Write = Callable[[list[list[int]], Progress], list[Answer]]
"""Prompts in ids, progress -> one answer per prompt."""


def predict(
    write: Write,
    count: Callable[[str], int],
    task: Task,
    questions: Sequence[Question],
    vocabulary: Vocabulary,
    out: Path,
    chunk: int = 64,
    key: str = "",
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Sequence[Prediction]:
    """Answer `questions`, the longest first, and write `out` (JSONL, one Prediction per row, in the questions' order).

    count: tokens of a text. key: says which model and decoding settings answer; parts made with another key are not
    used.
    shard: (i, n) answers every n-th chunk; with n > 1 the list is empty until the last process has finished.
    Rows already on disk are kept, if they were made from the same questions with the same key.
    """

    def answer(picked: list[int], report: Progress) -> list[Prediction]:
        asked = [questions[i] for i in picked]
        answers = write([list(question.prompt_ids) for question in asked], report)
        return [
            make_prediction(
                task, question.example, replace(one, seen=question.seen), vocabulary, count, question.history
            )
            for question, one in zip(asked, answers, strict=True)
        ]

    ids = [question.example.id for question in questions]
    order = sorted(range(len(questions)), key=lambda i: (-len(questions[i].prompt_ids), i))
    chunks = Chunks(ids, order, chunk, out, fingerprint(task, questions, chunk, key), progress or silent)
    chunks.answer(answer, shard)
    return chunks.joined()


def is_answered(out: Path, task: Task, questions: Sequence[Question], chunk: int, key: str) -> bool:
    """Does `out` hold the answers to exactly these questions, so that no model has to be loaded?"""
    return is_complete(out, fingerprint(task, questions, chunk, key))


def fingerprint(task: Task, questions: Iterable[Question], chunk: int, key: str) -> str:
    """A digest of all that decides the answers of a checkpoint: prompts, targets, chunks, and `model_key`."""
    digest = hashlib.sha256(json.dumps([task.name, chunk, key]).encode())
    for question in questions:
        digest.update(json.dumps([question.example.id, question.example.target, question.prompt_ids]).encode())
    return digest.hexdigest()[:12]


def model_key(folder: Path, settings: EvaluationSettings) -> str:
    """A short name of a checkpoint's content and the decoding settings."""
    engine = "" if settings.engine == "transformers" else f" {settings.engine}"
    limits = f"{settings.max_new_tokens} {settings.answer_tokens}"
    value = f"{limits} {settings.temperature}{engine} {weights_key(folder)}"
    return hashlib.sha256(value.encode()).hexdigest()[:16]
