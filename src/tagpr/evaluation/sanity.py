"""Answers that need no model: what a system has to beat before anybody should be impressed.

`majority`: the commonest target of the training examples. `user-majority`: the commonest output of the user's whole
history. `lead-sentence` (text): the first sentence of the text in question.
"""

import re
from collections import Counter
from collections.abc import Sequence

from tagpr.tasks.types import Example, Kind, Task

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])(?:\s+|(?<=[。！？]))|\n{2,}")


def sanity_answers(task: Task, train: Sequence[Example], heldout: Sequence[Example]) -> dict[str, list[str]]:
    """Answers to `heldout` by row name: lead-sentence for text, majority and user-majority for every other kind."""
    if task.kind is Kind.TEXT:
        return {"lead-sentence": [lead_sentence(task, example) for example in heldout]}
    majority = _commonest([example.target or "" for example in train]) or (task.labels[0] if task.labels else "")
    rows = {"majority": [majority] * len(heldout)}
    field = task.output_field
    if field is not None:
        rows["user-majority"] = [
            _commonest([item.fields.get(field, "") for item in example.profile]) or majority for example in heldout
        ]
    return rows


def _commonest(labels: Sequence[str]) -> str:
    """The commonest label; among equals the one seen last (profiles are oldest first)."""
    counts = Counter(label for label in labels if label)
    if not counts:
        return ""
    top = max(counts.values())
    return next(label for label in reversed(labels) if counts.get(label) == top)


def lead_sentence(task: Task, example: Example) -> str:
    """The first sentence of the longest input field (of the question itself where the example has no fields)."""
    texts = [example.fields[name] for name in task.input_fields if example.fields.get(name)]
    text = max(texts, key=len) if texts else (example.query or example.input)
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0].strip()
