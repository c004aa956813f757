"""The LLM filter: four dimensions of 1 to 5, the total recomputed, one repair request for unreadable JSON."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tagpr.chains.asking import ask, fill
from tagpr.chains.steps import Row
from tagpr.clients.json_objects import json_objects
from tagpr.clients.types import Refusal, Reply, Request
from tagpr.engine.cached_model import CachedModel
from tagpr.progress import Progress
from tagpr.tasks.types import Example, Task

DIMENSIONS = ("coherence", "accuracy", "completeness", "relevance")


def read_scores(text: str) -> dict[str, int] | None:
    """Scores of the four dimensions from whatever a judge wrote, None if one is missing or outside 1 to 5.

    Reads the last JSON object that has them: in code fences, after prose, with scores as numbers, digits in strings,
    objects with `score`, or "4/5". A stated total is ignored: totals are recomputed from the parts.
    """
    for value in reversed(list(json_objects(text))):
        scores = {name: _score(value.get(name)) for name in DIMENSIONS}
        if all(score is not None for score in scores.values()):
            return {name: score for name, score in scores.items() if score is not None}
    return None


def _score(part: object) -> int | None:
    if isinstance(part, dict):
        part = part.get("score")
    if isinstance(part, str):
        match = re.fullmatch(r"\s*([1-5])(?:\.0+)?\s*(?:/\s*5)?\s*", part)
        part = int(match[1]) if match else None
    if isinstance(part, bool) or not isinstance(part, int | float) or not 1 <= part <= 5 or part != int(part):
        return None
    return int(part)


def judge_filter(
    judge: CachedModel,
    above: int,
    rows: Sequence[Row],
    tasks: Mapping[str, Task],
    examples: Mapping[tuple[str, str], Example],
    prompt: Callable[[Task, Example], Any],
    report: Progress,
) -> tuple[list[Row], dict[str, int]]:
    """Rows whose total is above `above`; adds `judge`, the total (4 to 20)."""

    def request(row: Row) -> Request:
        shown = prompt(tasks[row["task"]], examples[row["task"], row["example_id"]]).messages
        question = "\n\n".join(m["content"] for m in shown if m["role"] == "user")
        return ask(fill("judge", question=question, chain=row["chain"] or row["completion"], answer=row["answer"]))

    requests = [request(row) for row in rows]
    replies = judge.generate(requests, lambda done, total, note: report(done, total, f"judge {note}"))
    scores = [read_scores(reply.content) if isinstance(reply, Reply) else None for reply in replies]
    broken = [n for n, found in enumerate(scores) if found is None and isinstance(replies[n], Reply)]
    repairs = []
    for n in broken:
        said = replies[n]
        assert isinstance(said, Reply)
        again = ({"role": "assistant", "content": said.content}, {"role": "user", "content": fill("judge_repair")})
        repairs.append(Request((*requests[n].messages, *again)))
    for n, reply in zip(broken, judge.generate(repairs), strict=True):
        scores[n] = read_scores(reply.content) if isinstance(reply, Reply) else None

    kept: list[Row] = []
    notes = Counter[str]({"repair requests": len(broken)} if broken else {})
    for row, found, first in zip(rows, scores, replies, strict=True):
        if found is None:
            notes["refused" if isinstance(first, Refusal) else "no readable scores"] += 1
        elif (total := sum(found.values())) > above:
            kept.append(row | {"judge": total})
        else:
            notes["total too low"] += 1
    return kept, dict(notes)
