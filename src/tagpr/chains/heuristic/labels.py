"""What words and the shown history say about a label, each in points, for tasks with a fixed list of answers.

The text is judged by logistic regression over words and character n-grams (scikit-learn) and, if there is a sentence
encoder, by another over its vector; the history by how often and how near it has each label; weights mix them. Whatever
is learnt from labels is learnt out of fold: what is said of a training item comes from models and weights that saw no
item of its fold. Knows nothing of tags or wording.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from tagpr.chains.evidence.text import WordStatistics, content_words, entry_output, entry_text, question_text
from tagpr.chains.heuristic.folds import fold_of
from tagpr.chains.heuristic.text_models import Encoder, TextModel, Vector
from tagpr.chains.vectors import unit
from tagpr.tasks.types import Example, Interaction, Task

Reason = Literal["sum", "words", "history"]


@dataclass(frozen=True)
class Evidence:
    """What is known about one example before choosing. Arrays are indexed by label."""

    words_L: Vector  # what the text adds to each label's log-probability, centred
    history_L: Vector  # what the shown history adds to it, centred
    posterior_L: Vector  # sums to 1
    nearest: tuple[tuple[float, Interaction], ...]  # shown entries with a shared word, most similar first
    clues: tuple[tuple[str, ...], ...]  # for each label, the words of the text that speak for it, strongest first


@dataclass(frozen=True)
class Points:
    """What speaks for one candidate, in whole points of one unit of log-probability."""

    words: int
    history: int

    @property
    def total(self) -> int:
        """All that speaks for the candidate."""
        return self.words + self.history


@dataclass(frozen=True)
class Weights:
    """How much the words, the counts of the history, its similar items and the meaning weigh."""

    words: float
    history: float
    near: float
    meaning: float = 0.0


@dataclass(frozen=True)
class _TextModels:
    """What judges a text, fitted without some folds."""

    words: TextModel
    meaning: TextModel | None


class LabelEvidence:
    """Learns from training items; `of(example, entries)` weighs one example without its own label."""

    FOLDS = 5
    TEXT = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0)
    """The weights tried of the words and, if there is an encoder, of the meaning."""
    HISTORY = ((0.0, 0.3, 0.6, 1.0), (0.0, 3.0, 8.0, 20.0, 50.0))
    """... of the history and, in it, of similar items."""

    def __init__(
        self,
        task: Task,
        train: Sequence[Example],
        labels: Sequence[str],
        shown: int = 8,
        encoder: Encoder | None = None,
    ) -> None:
        self.task = task
        self.encoder = encoder
        self.labels = tuple(labels)
        self.index = {label: number for number, label in enumerate(self.labels)}
        self.items = [e for e in train if e.target is not None and e.target.strip() in self.index]
        self.folds = {example.id: fold_of(example.id, self.FOLDS) for example in self.items}
        texts = [question_text(example) for example in self.items]
        self.statistics = WordStatistics(texts)
        self.vectorizer = FeatureUnion(
            [
                # scikit-learn documents a callable here; its types, read off the default, say str
                ("words", TfidfVectorizer(analyzer=content_words, sublinear_tf=True)),  # pyright: ignore[reportArgumentType]
                ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
            ]
        )
        self.rows_NV = csr_matrix(self.vectorizer.fit_transform(texts)) if any(map(content_words, texts)) else None
        self.vectors_NE = self._meanings(texts) if texts else None
        grid = product(self.TEXT, *self.HISTORY, self.TEXT if encoder is not None else (0.0,))
        self.grid = tuple(Weights(*point) for point in grid)
        self.target_N = np.array([self.index[(e.target or "").strip()] for e in self.items], dtype=int)
        self.fold_N = np.array([self.folds[example.id] for example in self.items], dtype=int)
        self.shown = shown
        self._models: dict[frozenset[int], _TextModels] = {}
        self._weights: dict[int, Weights] = {}

    def of(self, example: Example, entries: Sequence[Interaction]) -> Evidence:
        """Weigh one example given the entries shown with it. Never reads `example.target`."""
        counts_L, near_L, nearest = self._history(example, entries)
        own = self.folds.get(example.id, -1)  # -1: no training item, nothing to leave out
        weights = self._weights_without(own)
        model = self._model_without(frozenset({own} - {-1}))
        text = question_text(example)
        said_L, meaning_L = (np.zeros(len(self.labels)) for _ in range(2))
        clues = ((),) * len(self.labels)
        if model is not None and self.rows_NV is not None:
            row_V = csr_matrix(self.vectorizer.transform([text]))
            said_L = model.words(row_V).ravel()
            clues = self._clues(text, row_V, model.words)
            if model.meaning is not None and (vectors_1E := self._meanings([text])) is not None:
                meaning_L = model.meaning(vectors_1E).ravel()
        words_L, history_L = _parts(weights, said_L, meaning_L, counts_L, near_L)
        scores_L = words_L + history_L
        posterior_L = np.exp(scores_L - scores_L.max())
        words_L, history_L = words_L - words_L.mean(), history_L - history_L.mean()
        return Evidence(words_L, history_L, posterior_L / posterior_L.sum(), nearest, clues)

    def _clues(self, text: str, row_V: csr_matrix, model: TextModel) -> tuple[tuple[str, ...], ...]:
        """For each label the words of the text that speak for it more than for the mean label."""
        vocabulary: Mapping[str, int] = self.vectorizer.transformer_list[0][1].vocabulary_
        known = [word for word in content_words(text) if word in vocabulary]
        columns = [vocabulary[word] for word in known]
        value_W = row_V[:, columns].toarray().ravel() if columns else np.zeros(0)
        lean_LW = (model.weights_LV[:, columns] - model.weights_LV[:, columns].mean(0)) * value_W
        return tuple(
            tuple(known[i] for i in sorted(range(len(known)), key=lambda i, lean=lean: (-lean[i], i)) if lean[i] > 0.05)
            for lean in lean_LW
        )

    def _history(
        self, example: Example, entries: Sequence[Interaction]
    ) -> tuple[Vector, Vector, tuple[tuple[float, Interaction], ...]]:
        """Counts per label, similarity mass per label, entries by similarity."""
        counts_L, near_L = np.zeros(len(self.labels)), np.zeros(len(self.labels))
        nearest = []
        for position, (entry, similarity) in enumerate(zip(entries, self._similarities(example, entries), strict=True)):
            label = self.index.get(entry_output(self.task, entry))
            if label is None:
                continue
            counts_L[label] += 1
            near_L[label] += similarity
            if similarity > 0:
                nearest.append((similarity, position, entry))
        nearest.sort(key=lambda item: (-item[0], item[1]))
        return counts_L, near_L, tuple((similarity, entry) for similarity, _, entry in nearest)

    def _meanings(self, texts: Sequence[str]) -> np.ndarray | None:
        """Unit vectors of one text or more, (texts, width); None without an encoder."""
        return None if self.encoder is None else unit(np.asarray(self.encoder.encode(texts), dtype=np.float64))

    def _similarities(self, example: Example, entries: Sequence[Interaction]) -> list[float]:
        """How alike the question and each past text are, in [0, 1]: by the encoder if there is one, else by words."""
        texts = [entry_text(self.task, entry) for entry in entries]
        vectors_NE = self._meanings([question_text(example), *texts])
        if vectors_NE is None:
            own = content_words(question_text(example))
            return [self.statistics.similarity(own, content_words(text)) for text in texts]
        return np.clip(vectors_NE[1:] @ vectors_NE[0], 0.0, 1.0).tolist()

    @cached_property
    def _histories(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts and similarity mass of every training item's latest entries, (items, labels) each."""
        latest = [example.profile[-self.shown :] for example in self.items]
        if texts := [entry_text(self.task, entry) for own in latest for entry in own]:
            self._meanings(texts)  # all at once: an encoder is fast in batches and keeps what it has read
        rows = [self._history(example, own)[:2] for example, own in zip(self.items, latest, strict=True)]
        return np.stack([counts for counts, _ in rows]), np.stack([near for _, near in rows])

    def _model_without(self, folds: frozenset[int]) -> _TextModels | None:
        """The models of a text that saw no item of these folds; None if no item is left."""
        if folds not in self._models:
            kept_N = ~np.isin(self.fold_N, list(folds))
            if self.rows_NV is None or not kept_N.any():
                return None
            target_N, labels = self.target_N[kept_N], len(self.labels)
            vectors_NE = self.vectors_NE
            self._models[folds] = _TextModels(
                TextModel.fit(self.rows_NV[kept_N], target_N, labels),
                None if vectors_NE is None else TextModel.fit(vectors_NE[kept_N], target_N, labels),
            )
        return self._models[folds]

    def _weights_without(self, own: int) -> Weights:
        """The grid point of least log loss over the items outside fold `own`, each judged out of its own fold too."""
        if own not in self._weights:
            self._weights[own] = self._fit_weights(own)
        return self._weights[own]

    def _fit_weights(self, own: int) -> Weights:
        parts = []
        for fold in set(self.fold_N.tolist()) - {own}:
            model = self._model_without(frozenset({own, fold} - {-1}))
            rows_N = np.flatnonzero(self.fold_N == fold)
            if model is None or self.rows_NV is None:
                continue
            said_NL, meaning_NL = model.words(self.rows_NV[rows_N]), np.zeros((len(rows_N), len(self.labels)))
            if model.meaning is not None and self.vectors_NE is not None:
                meaning_NL = model.meaning(self.vectors_NE[rows_N])
            parts.append((rows_N, said_NL, meaning_NL))
        if not parts:
            return Weights(1.0, 0.6, 3.0)
        rows_N, said_NL, meaning_NL = (np.concatenate(part) for part in zip(*parts, strict=True))
        counts_NL, near_NL = (whole[rows_N] for whole in self._histories)
        target_N = self.target_N[rows_N]
        losses = []
        for weights in self.grid:
            words_NL, history_NL = _parts(weights, said_NL, meaning_NL, counts_NL, near_NL)
            scores_NL = words_NL + history_NL
            scores_NL -= scores_NL.max(-1, keepdims=True)
            losses.append((np.log(np.exp(scores_NL).sum(-1)) - scores_NL[np.arange(len(rows_N)), target_N]).sum())
        return self.grid[int(np.argmin(losses))]


def points(evidence: Evidence, label: int) -> Points:
    """The points of a label, each within -9 and 9."""
    words, history = np.clip([evidence.words_L[label], evidence.history_L[label]], -9, 9)
    return Points(round(float(words)), round(float(history)))


def compared(evidence: Evidence, pick: int, rival: int) -> tuple[Points, Points, Reason | None]:
    """Points of both labels, and what prefers `pick`: the sum, else words or history alone; None if nothing does."""
    one, other = points(evidence, pick), points(evidence, rival)
    if evidence.posterior_L[pick] >= evidence.posterior_L[rival]:
        # rounding must not turn the order
        one = Points(max(one.words, other.total - one.history), one.history)
    if one.total >= other.total:
        return one, other, "sum"
    return one, other, "words" if one.words > other.words else "history" if one.history > other.history else None


def _parts(
    weights: Weights, said_NL: np.ndarray, meaning_NL: np.ndarray, counts_NL: np.ndarray, near_NL: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What text and history add to the log-probability of each label; of one example or of rows of them."""
    mass_NL = counts_NL + weights.near * near_NL + 0.3
    history_NL = weights.history * np.log(mass_NL / mass_NL.sum(-1, keepdims=True))
    return weights.words * said_NL + weights.meaning * meaning_NL, history_NL
