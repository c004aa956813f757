"""Answer questions with a model, quickly and so that a kill costs at most one chunk.

Questions are sorted by length and split into chunks whose composition depends on the questions alone, so a resumed run
batches, and hence answers, exactly as an undisturbed one. Each finished chunk is one file beside the target, written
atomically; several processes can share the chunks (`shard`); whoever finds all of them complete joins them.
Decoding is `tagpr.llm.generation`'s; scores are `tagpr.tasks.metrics`'.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tagpr.chains.vocabulary import Vocabulary
from tagpr.evaluation.predictions import Prediction, judge, read_predictions, write_predictions
from tagpr.evaluation.questions import Question
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.files import write_text
from tagpr.tasks.types import Task

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
Generate = Callable[[list[list[int]], Progress], list[Any]]
"""Prompts in ids, progress -> one `tagpr.llm.generation.Completion` a prompt."""


def predict(
    generate: Generate,
    tokenizer: Any,
    task: Task,
    questions: Sequence[Question],
    vocabulary: Vocabulary,
    out: Path,
    chunk: int = 64,
    key: str = "",
    shard: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> list[Prediction]:
    """Answer `questions` and write `out` (JSONL, one Prediction a row, in the order of the questions).

    key: says which model and decoding settings answer; parts made with another key are not used.
    shard: (i, n) answers every n-th chunk; with n > 1 the list is empty until the last process has finished.
    Rows already on disk are kept, if they were made from the same questions with the same key.
    """
    if is_complete(out, task, questions, chunk, key):
        return read_predictions(out)
    fingerprint = _fingerprint(task, questions, chunk, key)
    parts = out.with_name(f".{out.stem}-{fingerprint}.parts")
    order = sorted(range(len(questions)), key=lambda i: (-len(questions[i].prompt_ids), i))
    chunks = [order[i : i + chunk] for i in range(0, len(order), chunk)]
    mine = [number for number in range(len(chunks)) if number % shard[1] == shard[0]]
    done, total = 0, sum(len(chunks[number]) for number in mine)

    def report(part: int, _: int = 0, note: str = "") -> None:
        if progress is not None:
            progress(min(total, done + part), total, note)

    for number in mine:
        part = parts / f"{number:05d}.jsonl"
        if not part.is_file():
            picked = [questions[i] for i in chunks[number]]
            completions = generate([list(question.prompt_ids) for question in picked], report)
            rows = [
                _row(task, question, completion, tokenizer, vocabulary)
                for question, completion in zip(picked, completions, strict=True)
            ]
            write_predictions(part, rows)
        done += len(chunks[number])
        report(0)
    if not all((parts / f"{number:05d}.jsonl").is_file() for number in range(len(chunks))):
        return []
    by_id = {row.id: row for number in range(len(chunks)) for row in read_predictions(parts / f"{number:05d}.jsonl")}
    rows = [by_id[question.example.id] for question in questions]
    write_predictions(out, rows)
    write_text(_origin(out), fingerprint + "\n")
    shutil.rmtree(parts)
    return rows


def is_complete(out: Path, task: Task, questions: Sequence[Question], chunk: int, key: str) -> bool:
    """Does `out` hold the answers to exactly these questions, so that no model has to be loaded?"""
    origin = _origin(out)
    return out.is_file() and origin.is_file() and origin.read_text() == _fingerprint(task, questions, chunk, key) + "\n"


def _origin(out: Path) -> Path:
    """Where the fingerprint stands of what a predictions file was made from."""
    return out.with_name(f".{out.stem}.made-from")


def _row(task: Task, question: Question, completion: Any, tokenizer: Any, vocabulary: Vocabulary) -> Prediction:
    ids = list(completion.token_ids)
    if completion.finished and ids and ids[-1] in tokenizer.all_special_ids:
        ids = ids[:-1]
    text = tokenizer.decode(ids, skip_special_tokens=False)
    tail = tokenizer.decode(list(question.prompt_ids[-8:]))
    prefilled = tail.rstrip().endswith("<think>")
    example = question.example
    end = text.rfind("</think>")
    if end >= 0:
        chain = text[: end + len("</think>")]
    else:  # a chain that never ended, or no chain at all
        chain = text if prefilled or text.lstrip().startswith("<") else ""
    return Prediction(
        id=example.id,
        user_id=example.user_id,
        completion=text,
        target=example.target or "",
        tokens=len(ids),
        chain_tokens=min(len(ids), len(tokenizer(chain, add_special_tokens=False)["input_ids"])) if chain else 0,
        finished=bool(completion.finished),
        entries=question.entries,
        history=question.history,
        think_prefilled=prefilled,
        **judge(task, text, example.target or "", vocabulary, prefilled),
    )


def _fingerprint(task: Task, questions: Sequence[Question], chunk: int, key: str) -> str:
    digest = hashlib.sha256(json.dumps([task.name, chunk, key]).encode())
    for question in questions:
        digest.update(json.dumps([question.example.id, question.example.target, question.prompt_ids]).encode())
    return digest.hexdigest()[:12]


def model_key(folder: Path, settings: EvaluationSettings) -> str:
    """A short name of a checkpoint's content and the decoding settings. Reads 64 KiB of each weights file."""
    digest = hashlib.sha256(f"{settings.max_new_tokens} {settings.temperature}".encode())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as stream:
            for part in range(64):
                stream.seek(size * part // 64)
                digest.update(stream.read(1024))
    return digest.hexdigest()[:16]
