"""`Prediction`: what one system answered to one example, and the JSONL files that keep them.

A predictions file is enough to score again: nothing here runs a model.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import DataError
from tagpr.files import write_jsonl
from tagpr.marks import END_THINK
from tagpr.on_disk import open_lines
from tagpr.prompts.cuts import Cuts, Seen
from tagpr.systems.protocol import Answer
from tagpr.tasks.metrics import correctness, score_one
from tagpr.tasks.types import Example, Task


@dataclass(frozen=True)
class Prediction:
    """One row of `predictions/SYSTEM/TASK.jsonl`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    id: str  # Example.id
    user_id: str
    completion: str  # the whole turn: a chain up to `</think>` and the answer, or the bare answer
    answer: str  # parsed from the completion
    target: str
    scores: Mapping[str, float]  # tagpr.tasks.metrics.score_one
    correctness: float  # tagpr.tasks.metrics.correctness, in [0, 1], larger is better
    format_ok: bool  # no fault at all
    faults: tuple[str, ...]  # kinds of faults, in order of appearance, each once
    tags: tuple[str, ...]  # tags of the chain in order
    tokens: int  # tokens of the whole completion
    chain_tokens: int  # tokens up to and with the chain's end; 0 if there is no chain
    finished: bool | None  # the model ended by itself; None if the system does not tell
    entries: tuple[str, ...] = ()  # ids of the history items shown
    cuts: Cuts = field(default_factory=dict)  # characters shown of texts that were cut: by item ("": question), field
    claims: int = 0  # checkable claims of the chain (tagpr.chains.evidence)
    true_claims: int = 0  # those of them that are true
    history: str = "own"  # whose history was shown: own, none, other:USER, or exchanged (own, labels exchanged)
    extra: Mapping[str, Any] = field(default_factory=dict)  # what an analysis adds, e.g. the sweep's setting

    @property
    def seen(self) -> Seen:
        """What the prompt showed."""
        return Seen(self.entries, self.cuts)


_ROW = TypeAdapter(Prediction)


def judge(task: Task, completion: str, target: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """What follows from the completion: answer, scores, correctness, format_ok, faults, tags."""
    response = parse_response(completion, vocabulary)
    return {
        "answer": response.answer,
        "scores": score_one(task, response.answer, target),
        "correctness": correctness(task, response.answer, target),
        "format_ok": response.well_formed,
        "faults": tuple(dict.fromkeys(fault.kind for fault in response.faults)),
        "tags": tuple(segment.tag for segment in response.segments),
    }


def make_prediction(
    task: Task,
    example: Example,
    answer: Answer,
    vocabulary: Vocabulary,
    count: Callable[[str], int],
    history: str = "own",
) -> Prediction:
    """The one way from a system's answer to a Prediction. count: tokens of a text; history: whose was shown."""
    tokens = count(answer.text) if answer.tokens is None else answer.tokens
    chain = chain_of(answer.text)
    return Prediction(
        id=example.id,
        user_id=example.user_id,
        completion=answer.text,
        target=example.target or "",
        tokens=tokens,
        chain_tokens=min(tokens, count(chain)) if chain else 0,
        finished=answer.finished,
        **answer.seen._asdict(),
        history=history,
        **check(task, example, answer.text, answer.seen, vocabulary),
        **judge(task, answer.text, example.target or "", vocabulary),
    )


def check(task: Task, example: Example, completion: str, seen: Seen, vocabulary: Vocabulary) -> dict[str, int]:
    """What follows from the completion and what its prompt showed: claims, true_claims."""
    checked = check_evidence(parse_response(completion, vocabulary), shown_to(task, example, seen))
    return {"claims": len(checked.claims), "true_claims": len(checked.claims) - len(checked.false)}


def shown_to(task: Task, example: Example, seen: Seen) -> Shown:
    """What a prompt showed, in full: the texts that `seen` names."""
    by_id = {entry.id: entry for entry in example.profile}
    return Shown.of(task, example, tuple(by_id[name] for name in seen.entries if name in by_id), seen.cuts)


def chain_of(text: str) -> str:
    """The chain of a completion up to and with `</think>`; all of it if it never ended; "" without one."""
    end = text.rfind(END_THINK)
    if end >= 0:
        return text[: end + len(END_THINK)]
    return text if text.lstrip().startswith("<") else ""


def rescore(task: Task, rows: Sequence[Prediction], vocabulary: Vocabulary) -> list[Prediction]:
    """The same completions parsed and scored again (another vocabulary, changed answer rules)."""
    return [replace(row, **judge(task, row.completion, row.target, vocabulary)) for row in rows]


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Write one row per example, atomically; the rows may come one by one."""
    write_jsonl(path, (asdict(row) for row in rows))


def read_predictions(path: Path) -> list[Prediction]:
    """Read a predictions file. Raises DataError naming the line that is no prediction."""
    return list(each_prediction(path))


def each_prediction(path: Path) -> Iterator[Prediction]:
    """The rows of a predictions file, one by one. Raises DataError as `read_predictions`."""
    if not path.is_file():
        raise DataError(f"{path}: no such predictions file; run `tagpr evaluate` or check the path")
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield _prediction(line)
            except ValidationError as error:
                problem = error.errors()[0]
                key, message = ".".join(map(str, problem["loc"])), problem["msg"]
                what = f"{key}: {message[:1].lower()}{message[1:]}" if key else "no JSON object"
                reason = f"{path}:{number}: not a prediction ({what}); see tagpr.evaluation.Prediction"
                raise DataError(reason) from None
            except (ValueError, RecursionError) as error:
                column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                reason = f"{path}:{number}: not JSON{column}; delete the file and evaluate again"
                raise DataError(reason) from None


def open_predictions(path: Path) -> Sequence[Prediction]:
    """The rows of a file that is known to be whole, each read when it is asked for."""
    return open_lines(path, _prediction)


def _prediction(line: bytes) -> Prediction:
    return _ROW.validate_python(json.loads(line))
