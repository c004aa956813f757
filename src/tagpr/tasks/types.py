"""The nouns of a personal task: `Task` (the model's job), `Interaction` (one past item), `Example` (one question)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from tagpr.settings import Settings
from tagpr.tasks.tokens import RougeTokens


class Kind(StrEnum):
    """What an answer is; decides metrics, the verifiable reward and how answers are compared."""

    CHOICE = "choice"  # one of the options printed in the question, e.g. LaMP-1's [1] or [2]
    LABEL = "label"  # one of a fixed list of labels, e.g. LaMP-2's tags
    RATING = "rating"  # an integer on a scale, e.g. LaMP-3's 1-5
    TEXT = "text"  # free text, compared by ROUGE, e.g. LaMP-5's titles


class BM25Form(StrEnum):
    """Which BM25 ranks a history; see `tagpr.profiles.bm25`."""

    OKAPI = "okapi"  # rank_bm25's, as LaMP's published results
    LUCENE = "lucene"  # words of any script, no negative weights


class Task(Settings):
    """What the model is to do about one user. Read from a YAML card (`tagpr/tasks/cards/*.yaml` or a user's)."""

    renamed: ClassVar[Mapping[str, str]] = {"rouge_threshold": "correct_from"}

    name: str
    """Short name used in recipes, tables and file names, e.g. `lamp-2`."""
    kind: Kind
    """choice, label, rating or text."""
    description: str
    """One line for `tagpr tasks`."""
    instruction: str
    """What the model is to do, in one or two sentences; precedes the history in the prompt."""
    question: str = "{{ input }}"
    """Jinja template of the question; sees the example's `input` and its fields."""
    entry: str
    """Jinja template of one history item; sees the interaction's fields, e.g. `"{{ description }}" -> {{ tag }}`."""
    input_fields: tuple[str, ...]
    """Fields of an interaction that play x_i (shown, shortened when the token budget is tight)."""
    output_field: str | None = None
    """Field of an interaction that plays y_i (never cut); None if history has no outputs."""
    labels: tuple[str, ...] = ()
    """The fixed label list (kind label), the options (choice) or the scale (rating), in the official order."""
    metrics: tuple[str, ...]
    """Metric names, the main one first; see `tagpr.tasks.metrics`. One's own: `file.py:NAME` or `module:NAME`."""
    own_metrics: tuple[str, ...] = ()
    """Where the user's own among the metrics are; filled when the card is read."""
    correctness: str = ""
    """The metric in [0, 1] that says how good an answer is (filter, R_v, pairs); empty: the kind's own."""
    correct_from: float = Field(default=0.3, ge=0, le=1)
    """Text tasks: an answer of this correctness or more passes the accuracy filter of chains."""
    rouge_mix: float = Field(default=0.5, ge=0, le=1)
    """Text tasks: weight of ROUGE-1 F in the metric `rouge`; ROUGE-L F has the rest."""
    rouge_tokens: RougeTokens = RougeTokens.LATIN
    """latin (rouge-score's own), characters, unicode or words; not set: chosen by the targets' script."""
    answer_rules: tuple[Literal["unquote", "final_stop", "casefold", "final_answer", "boxed"], ...] = ()
    """How an answer is tidied before it is compared; empty is the official evaluator's (strip only). final_answer: the
    one letter in brackets after `<final_answer>`, else of the whole answer; boxed: its last `\\boxed{...}`."""
    query: str = "{{ input }}"
    """Jinja template of what retrieval compares with the history, if the example brings no query of its own."""
    retrieval_fields: tuple[str, ...] = ()
    """Fields of an interaction that retrieval compares with the query, joined by a space; empty: `input_fields`."""
    bm25: BM25Form = BM25Form.LUCENE
    """okapi (rank_bm25's, as published LaMP results) or lucene (any script, histories of any length)."""
    input_pattern: str | None = None
    """Regular expression that takes an official input text apart into named fields (LaMP files)."""
    columns: dict[Literal["input", "output"], str] = Field(default_factory=dict)
    """What rows call the question's text and the answer, if that is neither `input` and `output` nor the first input
    field and the output field."""
    leaks: bool = False
    """Much of it is answered right by who never saw the history, so a row without history stands in every table."""
    source: str = ""
    """Where the data comes from and under which terms, in one line."""

    @property
    def input_name(self) -> str:
        """The field that a row's question text becomes."""
        return self.columns.get("input", self.input_fields[0])

    @property
    def output_name(self) -> str:
        """The field that a row's answer becomes."""
        return self.columns.get("output") or self.output_field or "output"


@dataclass(frozen=True)
class Interaction:
    """One past item (x_i, y_i) of a user."""

    id: str
    fields: Mapping[str, str]
    date: str | None = None  # ISO 8601, as far as known


@dataclass(frozen=True)
class Example:
    """One question about one user."""

    id: str
    user_id: str
    task: str  # Task.name
    input: str  # the question's text, already in the task's words
    target: str | None  # y*, None if withheld
    profile: tuple[Interaction, ...] = ()  # P_u, oldest first if dates are known; never holds the target's item
    date: str | None = None
    query: str = ""  # what retrieval compares with the history; the input if empty
    fields: Mapping[str, str] = field(default_factory=dict)
