"""The case browser's data: every held-out question with history, reference and each system's chain, packed small.

Cases are JSON, gzipped in chunks and base64-encoded, so that a page with 10,000 of them stays small and opens at once:
the browser unpacks a chunk when one of its cases is opened. No character of base64 could end a script element.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Tag, Vocabulary
from tagpr.evaluation.evidence import history_texts, is_found, quotations, sources
from tagpr.evaluation.predictions import Prediction
from tagpr.marks import END_THINK, THINK
from tagpr.report.reading import RunData
from tagpr.tasks.types import Example, Task

CHUNK = 50  # cases
MAX_HISTORY = 40  # items kept of one history besides those that were shown
MAX_TEXT = 4000  # characters kept of one text


Step = tuple[str, str, list[tuple[str, bool]]]
"""(tag, text, quotations); a quotation with whether it is in the history. The tag is "" for text outside any."""


class Past(TypedDict):
    """One item of a history, as the page's script reads it."""

    shown: bool  # in the prompt
    date: str
    output: str  # which of the fields is the user's answer
    fields: list[tuple[str, str]]


class Answered(TypedDict):
    """What one system made of a case, as the page's script reads it."""

    answer: str
    scores: dict[str, float]
    steps: list[Step]
    faults: list[str]
    tokens: int
    history: str  # whose was shown


class Case(TypedDict):
    """One question about one user, as the page's script reads it."""

    id: str
    user: str
    task: str
    outcome: str  # better, worse, same
    change: float
    question: str
    target: str
    history: list[Past]
    more: int  # past items that are not listed
    faults: list[str]
    systems: dict[str, Answered]


@dataclass(frozen=True)
class PackedCases:
    """What goes into the page."""

    index: str  # packed: one row a case, for the list and the filters
    search: str  # packed: one lower-case text a case
    chunks: list[str]  # packed: CHUNK cases each
    count: int
    outcomes: dict[str, int]  # how many cases went better, worse, same


def pack(value: object) -> str:
    """JSON -> gzip -> base64, the same bytes for the same value."""
    raw = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode("ascii")


def pack_cases(run: RunData, system: str, reference: str = "base") -> PackedCases:
    """Pack all cases of a run, the most telling first: `system` better than `reference`, then worse, then the rest."""
    vocabulary = Vocabulary(tuple(Tag(name, definition) for name, definition in run.vocabulary))
    cases = []
    for name, by_system in run.predictions.items():
        examples = {example.id: example for example in run.heldout.get(name, [])}
        task = run.tasks.get(name)
        rows = {key: {row.id: row for row in found} for key, found in by_system.items()}
        for first in next(iter(by_system.values()), []):
            answered = {key: found[first.id] for key, found in rows.items() if first.id in found}
            cases.append(_case(name, task, examples.get(first.id), answered, vocabulary, system, reference))
    order = {"better": 0, "worse": 1, "same": 2}
    cases.sort(key=lambda case: (order[case["outcome"]], -abs(case["change"])))
    tags = [name for name, _ in run.vocabulary]
    index = {
        "tasks": list(run.predictions),
        "systems": run.systems,
        "tags": tags,
        "chunk": CHUNK,
        "rows": [
            [
                case["id"],
                case["user"],
                case["task"],
                case["outcome"],
                case["question"][:90],
                sorted(case["faults"]),
                case["change"],
            ]
            for case in cases
        ],
    }
    search = [_search_text(case) for case in cases]
    chunks = [pack(cases[i : i + CHUNK]) for i in range(0, len(cases), CHUNK)]
    outcomes = {name: sum(case["outcome"] == name for case in cases) for name in order}
    return PackedCases(pack(index), pack(search), chunks, len(cases), outcomes)


def _case(
    name: str,
    task: Task | None,
    example: Example | None,
    answered: dict[str, Prediction],
    vocabulary: Vocabulary,
    system: str,
    reference: str,
) -> Case:
    change = 0.0
    if system in answered and reference in answered:
        change = answered[system].correctness - answered[reference].correctness
    first = next(iter(answered.values()))
    history = _history(task, example, answered)
    texts = sources(history_texts(example)) if example else []
    return {
        "id": first.id,
        "user": first.user_id,
        "task": name,
        "outcome": "better" if change > 1e-9 else "worse" if change < -1e-9 else "same",
        "change": round(change, 4),
        "question": (example.input if example else "")[:MAX_TEXT],
        "target": first.target[:MAX_TEXT],
        "history": history,
        "more": max(0, len(example.profile) - len(history)) if example else 0,
        "faults": sorted({f"{key}: {fault}" for key, row in answered.items() for fault in row.faults}),
        "systems": {key: _answer(row, vocabulary, texts) for key, row in answered.items()},
    }


def _history(task: Task | None, example: Example | None, answered: dict[str, Prediction]) -> list[Past]:
    """Items shown to the models first (in their order), then others, as [[field, text], ...]."""
    if example is None:
        return []
    own = [row for row in answered.values() if row.history == "own"]
    shown = {entry for row in own for entry in row.entries}
    output = task.output_field if task else None
    items = [item for item in example.profile if item.id in shown]
    items += [item for item in example.profile if item.id not in shown][-MAX_HISTORY:]
    wanted = (*task.input_fields, output) if task else ()
    return [
        {
            "shown": item.id in shown,
            "date": item.date or "",
            "output": output or "",
            "fields": [(k, v[:MAX_TEXT]) for k, v in item.fields.items() if not wanted or k in wanted],
        }
        for item in items
    ]


def _answer(row: Prediction, vocabulary: Vocabulary, history: Sequence[str]) -> Answered:
    """One system's answer with its chain cut into [tag, text, quotes]; text outside tags has the tag ""."""
    response = parse_response(row.completion, vocabulary)
    steps: list[Step] = []
    position = 0
    for segment in response.segments:
        _outside(steps, row.completion[position : segment.start])
        steps.append((segment.tag, segment.text[:MAX_TEXT], _quotes(segment.text, history)))
        position = segment.end
    end = row.completion.rfind(END_THINK)
    _outside(steps, row.completion[position : end if end >= position else len(row.completion)], response.answer)
    return {
        "answer": row.answer[:MAX_TEXT],
        "scores": {name: round(value, 4) for name, value in row.scores.items()},
        "steps": steps,
        "faults": list(row.faults),
        "tokens": row.chain_tokens,
        "history": row.history,
    }


def _outside(steps: list[Step], text: str, answer: str = "") -> None:
    stripped = text.replace(THINK, "").replace(END_THINK, "").strip()
    if stripped and stripped != answer:
        steps.append(("", stripped[:MAX_TEXT], []))


def _quotes(text: str, history: Sequence[str]) -> list[tuple[str, bool]]:
    """[quotation, is it in the history] of every quotation of a step."""
    return [(quotation, is_found(quotation, history)) for quotation in quotations(text)]


def _search_text(case: Case) -> str:
    parts = [case["id"], case["user"], case["question"], case["target"]]
    parts += [answer["answer"] for answer in case["systems"].values()]
    parts += [value for item in case["history"] for _, value in item["fields"] if item["shown"]]
    return " ".join(part[:600] for part in parts).lower()
