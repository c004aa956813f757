"""`PersonalAnswer`: what the model says to one user's question, with its chain and the history it stands on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tagpr.chains.chain import Fault, Response, Segment
from tagpr.chains.evidence import Claim, ClaimKind, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.engine.types import Completion
from tagpr.evaluation.best_of import agreement, answer_reader, by_evidence, truth_reader
from tagpr.evaluation.evidence import is_found, sources
from tagpr.serve.questions import Asked
from tagpr.tasks.types import Interaction

QUOTING = frozenset({ClaimKind.QUOTATION, ClaimKind.NOTE})
"""Claims that are a passage in quotation marks."""


@dataclass(frozen=True)
class Quote:
    """A stretch of a history item that the chain quotes: `fields[field][start:end]`."""

    field: str
    start: int
    end: int


@dataclass(frozen=True)
class ShownItem:
    """A history item of the prompt."""

    number: int
    """Its place in the prompt, from 1."""
    id: str
    date: str | None
    fields: Mapping[str, str]
    cited: bool
    """Whether the chain quotes it or names its number."""
    quotes: tuple[Quote, ...]


@dataclass(frozen=True)
class AnswerEvidence:
    """What an answer stands on."""

    items: tuple[ShownItem, ...]
    """The history items shown, in the prompt's order."""
    claims: tuple[Claim, ...]
    """The chain's checkable claims, each true or not (`tagpr.chains.evidence`); offsets are into the answer's text."""
    precision: float | None
    """Share of the claims that are true; None for a chain that claims nothing."""


@dataclass(frozen=True)
class PersonalAnswer:
    """One answer."""

    user: str
    task: str
    system: str
    question: str
    history_of: str
    """Whose history was shown; another user's in a comparison, `""` for none."""
    answer: str
    """The bare answer, without its chain; `""` if the model gave none (`faults` says why)."""
    segments: tuple[Segment, ...]
    """The chain: tagged steps, offsets into `text`."""
    evidence: AnswerEvidence
    faults: tuple[Fault, ...]
    text: str
    """The whole turn as the model wrote it."""
    finished: bool
    """Ended by the model or by a stop string, not cut off by the limit of tokens."""
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[float, ...] | None = None
    """Of every token, where asked for."""
    agreement: float | None = None
    """Where the best of several was asked for: the share of them that answer so. The tokens are those of all."""


def make_answer(asked: Asked, completion: Completion, vocabulary: Vocabulary) -> PersonalAnswer:
    """The answer in a completion."""
    response = parse_response(completion.text, vocabulary)
    return PersonalAnswer(
        user=asked.user,
        task=asked.task.name,
        system=asked.system,
        question=asked.example.input,
        history_of=asked.history_of,
        answer=response.answer,
        segments=response.segments,
        evidence=_evidence(asked, response),
        faults=response.faults,
        text=completion.text,
        finished=completion.finished,
        prompt_tokens=len(asked.prompt_ids),
        completion_tokens=completion.reply_tokens,
        logprobs=None if completion.logprobs is None else tuple(completion.logprobs),
    )


def best_answer(
    asked: Asked, completions: Sequence[Completion], vocabulary: Vocabulary
) -> tuple[Completion, PersonalAnswer]:
    """The completion whose answer all agree on, each counting for the share of its claims that are true."""
    answer_of = answer_reader(asked.task, vocabulary)
    truth_of = truth_reader(asked.shown, vocabulary)
    place = by_evidence(completions, answer_of, truth_of)
    chosen = completions[place]
    return chosen, replace(
        make_answer(asked, chosen, vocabulary),
        completion_tokens=sum(one.reply_tokens for one in completions),
        agreement=agreement(completions, place, answer_of),
    )


def _evidence(asked: Asked, response: Response) -> AnswerEvidence:
    report = check_evidence(response, asked.shown)
    quoted = [claim.text[1:-1] for claim in report.claims if claim.kind in QUOTING]
    numbers = {int(re.sub(r"\D", "", claim.text)) for claim in report.claims if claim.kind is ClaimKind.ITEM}
    items = tuple(_item(number, entry, quoted, numbers) for number, entry in enumerate(asked.entries, 1))
    return AnswerEvidence(items, report.claims, report.precision)


def _item(number: int, entry: Interaction, quoted: list[str], numbers: set[int]) -> ShownItem:
    own = [text for text in quoted if is_found(text, sources(entry.fields.values()))]
    quotes = tuple(
        place for name, value in entry.fields.items() for text in own for place in _places(name, value, text)
    )
    return ShownItem(number, entry.id, entry.date, dict(entry.fields), bool(own) or number in numbers, quotes)


def _places(name: str, value: str, quotation: str) -> list[Quote]:
    """Where a quotation stands in a field, whatever its case, spacing and outer punctuation."""
    for text in (quotation, quotation.strip(" .…,;:")):
        pattern = r"\s+".join(map(re.escape, text.split()))
        places = [Quote(name, *found.span()) for found in re.finditer(pattern, value, re.IGNORECASE)] if pattern else []
        if places:
            return places
    return []
