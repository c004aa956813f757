"""Salient phrases of a text, shaped like a user's past outputs: the heuristic teacher's evidence for text tasks.

Every word of a text gets a probability of occurring in the output, by a logistic regression over a dozen visible
features (its position, how rare it is, whether the user's past outputs use it). Contiguous phrases are ranked by the
ROUGE-1 F that these probabilities lead one to expect. The regression is cross-fitted: a training item is judged by the
model of the folds it is not in. This file knows nothing of tags or wording.
"""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagpr.chains.evidence.text import STOP, WordStatistics, entry_output, question_text, words
from tagpr.chains.heuristic.folds import fold_of
from tagpr.tasks.types import Example, Interaction, Task

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+(?=[^a-z\s])|(?<=[。！？])")
_PIECE = re.compile(r"\S+")
_COPULA = frozenset(
    ("is", "are", "was", "provides", "contains", "offers", "implements", "includes", "describes", "presents", "propose")
)
_ARTICLES = frozenset(("a", "an", "the"))
_FOLDS = 3
_FEATURES = 13
_MAX_WORDS = 120  # of the text that are read: outputs paraphrase the beginning


@dataclass(frozen=True)
class Style:
    """What a user's past outputs look like."""

    length: float  # median number of words
    lower_start: bool
    article_start: bool
    full_stop: bool
    outputs: tuple[str, ...]  # the shown past outputs, as written


@dataclass(frozen=True)
class Phrase:
    """A candidate output."""

    text: str  # as the user would write it
    score: float  # expected ROUGE-1 F
    first: str  # the word of the source it starts at
    last: str  # the word of the source it stops at
    sentence: int  # index of its sentence in the source


@dataclass(frozen=True)
class _Word:
    piece: str  # with punctuation, as written
    tokens: tuple[str, ...]
    sentence: int
    place: int  # in its sentence


class _WordModel:
    """P(word occurs in the output | features), learnt from some items."""

    def __init__(self, task: Task, items: Sequence[Example], frequency: WordStatistics, shown: int) -> None:
        self.task = task
        self.statistics = frequency
        self.length = statistics.median([len(words(example.target or "")) for example in items] or [8])
        self.seen: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.own: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        for example in items:
            source = frozenset(words(question_text(example)))
            used = source & frozenset(words(example.target or ""))
            self.own[example.id] = (source, used)
            self.seen.update(source)
            self.used.update(used)
        self.rate = (sum(self.used.values()) + 1) / (sum(self.seen.values()) + 10)
        features, targets = [], []
        for example in items:
            tokens, features_NF = self.features(example, example.profile[-shown:], _split(question_text(example)))
            features.append(features_NF)
            targets.append(np.array([token in self.own[example.id][1] for token in tokens], dtype=float))
        self.weights_F = _logistic(np.concatenate(features), np.concatenate(targets)) if items else np.zeros(_FEATURES)

    def chances(self, example: Example, entries: Sequence[Interaction], source: list[_Word]) -> dict[str, float]:
        """P(token occurs in the output) for every distinct token of the source."""
        tokens, features_NF = self.features(example, entries, source)
        chance_N = 1 / (1 + np.exp(-(features_NF @ self.weights_F)))
        return dict(zip(tokens, chance_N.tolist(), strict=True))

    def features(
        self, example: Example, entries: Sequence[Interaction], source: list[_Word]
    ) -> tuple[list[str], np.ndarray]:
        """Distinct tokens of the source and their features, shape (tokens, _FEATURES)."""
        own_source, own_used = self.own.get(example.id, (frozenset(), frozenset()))
        past = Counter(token for entry in entries for token in set(words(entry_output(self.task, entry))))
        copula = next((i for i, word in enumerate(source) if word.sentence == 0 and _is_copula(word)), -1)
        repeats = Counter(token for word in source for token in word.tokens)
        rows: dict[str, list[float]] = {}
        for place, word in enumerate(source):
            for token in word.tokens:
                if token in rows:
                    continue
                seen = self.seen[token] - (token in own_source)
                rate = (self.used[token] - (token in own_used) + 4 * self.rate) / (seen + 4)
                rows[token] = [
                    1.0,
                    np.log1p(place),
                    float(word.sentence == 0),
                    float(0 <= copula < place < copula + 8),
                    float(place < copula),
                    float(token in STOP),
                    np.log(rate / (1 - min(rate, 0.95))),
                    float(past[token] > 0),
                    float(past[token] / max(1, len(entries))),
                    float(word.piece[:1].isupper() and word.place > 0),
                    self.statistics.idf(token) / 5,
                    float(repeats[token] > 1),
                    float(token.isdigit()),
                ]
        return list(rows), np.array(list(rows.values()), dtype=float).reshape(len(rows), _FEATURES)


class PhraseEvidence:
    """Learns from training items which words of a text its output uses; ranks phrases for one example."""

    def __init__(self, task: Task, train: Sequence[Example], shown: int = 8) -> None:
        self.task = task
        items = [example for example in train if example.target]
        self.statistics = WordStatistics([question_text(example) for example in items])
        self.known = {example.id for example in items}
        folds = [[e for e in items if fold_of(e.id, _FOLDS) != number] for number in range(_FOLDS)]
        self.models = [_WordModel(task, part, self.statistics, shown) for part in (*folds, items)]

    def _model(self, example: Example) -> _WordModel:
        """The model that has not seen this example's output."""
        return self.models[fold_of(example.id, _FOLDS) if example.id in self.known else _FOLDS]

    def style(self, entries: Sequence[Interaction], common_length: float) -> Style:
        """Style of the shown past outputs (of the past inputs, if the history has no outputs)."""
        outputs = [
            entry_output(self.task, entry) or entry.fields.get(self.task.input_fields[0], "") for entry in entries
        ]
        outputs = [output for output in outputs if output]
        starts = [words(output)[:1] for output in outputs]
        lower = [not output[:1].isupper() for output in outputs]
        return Style(
            length=statistics.median([len(words(output)) for output in outputs] or [common_length]),
            lower_start=sum(lower) * 2 > len(lower),
            article_start=sum(bool(s) and s[0] in _ARTICLES for s in starts) * 2 > len(starts),
            full_stop=sum(output.endswith((".", "。")) for output in outputs) * 2 > len(outputs),
            outputs=tuple(outputs),
        )

    def of(self, example: Example, entries: Sequence[Interaction], limit: int = 24) -> tuple[list[Phrase], Style]:
        """The best `limit` phrases, best first, and the style. Never reads `example.target`."""
        model = self._model(example)
        style = self.style(entries, model.length)
        source = _split(question_text(example))
        chance = model.chances(example, entries, source)
        target_length = 0.7 * style.length + 0.3 * model.length
        found: dict[str, Phrase] = {}
        for start, end in _spans(source, max(3, round(2 * target_length))):
            tokens = [token for word in source[start:end] for token in word.tokens]
            gain = sum(chance[token] for token in dict.fromkeys(tokens))
            score = 2 * gain / (len(tokens) + target_length) * _smoothness(source, start, end)
            text = _shape([word.piece for word in source[start:end]], style)
            if text and (text not in found or found[text].score < score):
                first, last = _bare(source[start].piece), _bare(source[end - 1].piece)
                found[text] = Phrase(text, score, first, last, source[start].sentence)
        ranked = sorted(found.values(), key=lambda phrase: (-phrase.score, phrase.text))[:limit]
        if not ranked:
            text = " ".join(question_text(example).split()[:8]) or "nothing"
            ranked = [Phrase(text, 0.0, text.split()[0], text.split()[-1], 0)]
        return ranked, style


def _logistic(x_NF: np.ndarray, y_N: np.ndarray, ridge: float = 1.0, steps: int = 12) -> np.ndarray:
    """Ridge logistic regression by Newton's method."""
    weights_F = np.zeros(x_NF.shape[1])
    for _ in range(steps):
        p_N = 1 / (1 + np.exp(-np.clip(x_NF @ weights_F, -30, 30)))
        gradient_F = x_NF.T @ (p_N - y_N) + ridge * weights_F
        hessian_FF = (x_NF * (p_N * (1 - p_N))[:, None]).T @ x_NF + ridge * np.eye(len(weights_F))
        step_F = np.linalg.solve(hessian_FF, gradient_F)
        weights_F -= step_F
        if np.abs(step_F).max() < 1e-6:
            break
    return weights_F


def _is_copula(word: _Word) -> bool:
    return bool(word.tokens) and word.tokens[-1] in _COPULA


def _split(text: str) -> list[_Word]:
    """Words of the first sentences, with their sentence and place."""
    source: list[_Word] = []
    for number, sentence in enumerate(_SENTENCE_END.split(text.replace("<", " ").replace(">", " "))):
        for place, piece in enumerate(_PIECE.findall(sentence)):
            tokens = tuple(words(piece))
            if len(tokens) > 3 and not piece.isascii():  # text without spaces: every character is a word
                source.extend(_Word(character, tuple(words(character)), number, place) for character in piece)
            else:
                source.append(_Word(piece, tokens, number, place))
        if len(source) >= _MAX_WORDS:
            break
    return source[:_MAX_WORDS]


def _spans(source: list[_Word], longest: int) -> list[tuple[int, int]]:
    """Word ranges [start, end) inside one sentence that begin and end on a content word."""
    spans = []
    for start, word in enumerate(source):
        if not word.tokens or word.tokens[0] in STOP:
            continue
        for end in range(start + 1, min(start + longest, len(source)) + 1):
            last = source[end - 1]
            if last.sentence != word.sentence:
                break
            if last.tokens and last.tokens[-1] not in STOP:
                spans.append((start, end))
    return spans


def _smoothness(source: list[_Word], start: int, end: int) -> float:
    """Below 1 for phrases that tear what belongs together: cut between two content words, or across a comma."""
    factor = 1.0
    after = source[end] if end < len(source) and source[end].sentence == source[start].sentence else None
    if after and after.tokens and after.tokens[0] not in STOP and source[end - 1].piece[-1].isalnum():
        factor *= 0.93
    before = source[start - 1] if start and source[start - 1].sentence == source[start].sentence else None
    if before and before.tokens and before.tokens[-1] not in STOP and before.piece[-1].isalnum():
        factor *= 0.97
    if any(word.piece[-1] in ",;:" for word in source[start : end - 1]):
        factor *= 0.96
    return factor


def _bare(piece: str) -> str:
    return piece.strip(".,;:!?()[]\"'`*") or piece


def _shape(pieces: list[str], style: Style) -> str:
    """Write a phrase as the user would: case of the first letter, no loose punctuation, full stop or none."""
    separator = "" if all(len(piece) == 1 and not piece.isascii() for piece in pieces) else " "
    text = separator.join(pieces).strip().strip(",;:!?*`'\"").rstrip(".")
    for left, right in ("()", "[]"):
        if text.count(left) != text.count(right):
            text = text.replace(left, "").replace(right, "")
    if text.count('"') % 2:
        text = text.replace('"', "")
    head = text.split(" ", 1)[0]
    if style.lower_start and head[:1].isupper() and head[1:].islower():
        text = text[0].lower() + text[1:]
    elif not style.lower_start and text[:1].islower():
        text = text[0].upper() + text[1:]
    if style.full_stop and text:
        text += "."
    return text.strip()
