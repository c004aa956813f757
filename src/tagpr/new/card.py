"""The task card of a file of labels or ratings."""

import json

from tagpr.new.kinds import OutputKind
from tagpr.tasks.types import Kind

_METRICS = {Kind.LABEL: "[accuracy, f1]", Kind.RATING: "[mae, rmse]"}
_ASKS = {
    Kind.LABEL: "Choose the {output} that this person would give the new {input}.",
    Kind.RATING: "Give the {output}, from {low} to {high}, that this person would give with the new {input}.",
}
_CARD = """\
# Made by `tagpr new`: what the model is to do. The wording is yours to improve.
# `tagpr tasks show {file}` prints the prompt that it makes.
name: {name}
kind: {kind}
description: {description}
instruction: {instruction}
# How the question and an item of the history are shown; lead(40) keeps 40 words of a long text.
question: "New {words}: {{{{ text }}}}"
entry: "{{{{ text | lead(40) }}}} -> {{{{ answer }}}}"
input_fields: [text]
output_field: answer
columns: {{input: text, output: answer}}
labels: [{labels}]
metrics: {metrics}
query: "{{{{ text }}}}"
"""


def card_text(name: str, kind: OutputKind, shown: str, output: str) -> str:
    """The YAML of a card for labels or ratings; `shown` and `output` are the columns' names."""
    words, answer = _words(shown), _words(output)
    asks = _ASKS[kind.kind].format(input=words, output=answer, low=kind.labels[0], high=kind.labels[-1])
    return _CARD.format(
        file=f"{name}-card.yaml",
        name=name,
        kind=kind.kind,
        description=json.dumps(f"The {answer} that a user gives a {words}", ensure_ascii=False),
        instruction=json.dumps(
            f"A person has given inputs like this one a {answer} before. {asks}", ensure_ascii=False
        ),
        words=words,
        labels=", ".join(json.dumps(label, ensure_ascii=False) for label in kind.labels),
        metrics=_METRICS[kind.kind],
    )


def _words(column: str) -> str:
    """A column's name in a sentence, without what would be markup in YAML or a template."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in column).split()) or "text"
