"""What words and the shown history say about a label: leave-one-out naive Bayes, similarity, and their calibrated mix.

Used by the heuristic teacher for tasks with a fixed list of answers (labels, ratings). Every count learnt from training
items can be taken back for one item, so that evidence about a training item never holds that item's own label.
This file knows nothing of tags or wording.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagpr.chains.evidence.text import WordStatistics, content_words, entry_output, entry_text, question_text
from tagpr.tasks.types import Example, Interaction, Task


@dataclass(frozen=True)
class Evidence:
    """What is known about one example before choosing. Arrays are indexed by label."""

    counts_L: np.ndarray  # how often the shown history has each label
    text_L: np.ndarray  # log-likelihood of the words given each label, centred
    posterior_L: np.ndarray  # the calibrated mix, sums to 1
    nearest: tuple[tuple[float, Interaction], ...]  # shown entries with a shared word, most similar first
    clues: tuple[tuple[str, ...], ...]  # for each label, the words of the text that speak for it, strongest first


class _Counts:
    """How often words occur with labels, over some items; takes one item back on request."""

    def __init__(self, items: Sequence[tuple[str, list[str], int]], labels: int) -> None:
        self.items = {name: (tokens, label) for name, tokens, label in items}
        self.labels_L = np.zeros(labels)
        self.words: dict[str, np.ndarray] = {}
        for _, tokens, label in items:
            self.labels_L[label] += 1
            for word in tokens:
                self.words.setdefault(word, np.zeros(labels))[label] += 1

    def log_odds(self, text: Sequence[str], left_out: str | None) -> tuple[np.ndarray, np.ndarray]:
        """log P(word | label) / P(word), shape (words, labels), and the log prior, without item `left_out`."""
        own_words, own = self.items.get(left_out or "", ([], None))
        totals_L = self.labels_L.copy()
        if own is not None:
            totals_L[own] -= 1
        rows = []
        for word in text:
            counts_L = self.words.get(word, np.zeros(len(totals_L)))
            if own is not None and word in own_words:
                counts_L = counts_L.copy()
                counts_L[own] -= 1
            overall = (counts_L.sum() + 0.5) / (totals_L.sum() + 1)
            # smoothed towards the word's overall rate: a word never seen says nothing
            rows.append(np.log((counts_L + 3 * overall) / (totals_L + 3)) - math.log(overall))
        prior_L = np.log((totals_L + 0.5) / (totals_L.sum() + 0.5 * len(totals_L)))
        return np.array(rows).reshape(len(text), len(totals_L)), prior_L


class LabelEvidence:
    """Learns from training items; `of(example, entries)` weighs one example without its own label.

    Word counts leave the item itself out; the three weights of the mix are chosen without the item's whole fold.
    """

    GRID_TEXT = (0.12, 0.18, 0.25, 0.4, 0.6, 0.8, 1.0)
    GRID_HISTORY = (0.0, 0.5, 1.0, 1.5)
    GRID_NEAR = (0.0, 3.0, 8.0, 20.0)
    FOLDS = 3

    def __init__(self, task: Task, train: Sequence[Example], labels: Sequence[str], shown: int = 8) -> None:
        self.task = task
        self.labels = tuple(labels)
        self.index = {label: number for number, label in enumerate(self.labels)}
        items = [example for example in train if example.target is not None and example.target.strip() in self.index]
        self.statistics = WordStatistics([question_text(example) for example in items])
        rows = [(e.id, content_words(question_text(e)), self.index[(e.target or "").strip()]) for e in items]
        self.counts = _Counts(rows, len(self.labels))
        self.grid = [(t, h, n) for t in self.GRID_TEXT for h in self.GRID_HISTORY for n in self.GRID_NEAR]
        history = {example.id: self._history(example, example.profile[-shown:])[:2] for example in items}
        self.weights = [
            self._fit([row for row in rows if _fold(row[0], self.FOLDS) != fold], history)
            for fold in range(self.FOLDS + 1)
        ]

    def _history(self, example: Example, entries: Sequence[Interaction]) -> tuple[np.ndarray, np.ndarray, list]:
        """Counts per label, similarity mass per label, entries by similarity."""
        text = content_words(question_text(example))
        counts_L, near_L = np.zeros(len(self.labels)), np.zeros(len(self.labels))
        nearest = []
        for position, entry in enumerate(entries):
            label = self.index.get(entry_output(self.task, entry))
            if label is None:
                continue
            similarity = self.statistics.similarity(text, content_words(entry_text(self.task, entry)))
            counts_L[label] += 1
            near_L[label] += similarity
            if similarity > 0:
                nearest.append((similarity, position, entry))
        nearest.sort(key=lambda item: (-item[0], item[1]))
        return counts_L, near_L, [(similarity, entry) for similarity, _, entry in nearest]

    @staticmethod
    def _scores(weights: tuple, text_L: np.ndarray, prior_L: np.ndarray, counts_L: np.ndarray, near_L: np.ndarray):
        """Unnormalised log posterior; works on rows of many examples too."""
        text, history, near = weights
        share_L = (counts_L + near * near_L + 0.3) / (counts_L + near * near_L + 0.3).sum(-1, keepdims=True)
        return text * text_L + history * np.log(share_L) + (1 - min(history, 1.0)) * prior_L

    def _fit(
        self, rows: Sequence[tuple[str, list[str], int]], history: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> tuple[float, float, float]:
        """The grid point with the least leave-one-out log loss over `rows`."""
        if not rows:
            return (0.6, 1.0, 3.0)
        counts = _Counts(rows, len(self.labels))
        columns = []
        for name, tokens, _ in rows:
            log_odds, prior_L = counts.log_odds(tokens, name)
            columns.append((log_odds.sum(0), prior_L, *history[name]))
        text_NL, prior_NL, counts_NL, near_NL = (np.stack(column) for column in zip(*columns, strict=True))
        target_N = np.array([label for _, _, label in rows])
        losses = []
        for weights in self.grid:
            scores_NL = self._scores(weights, text_NL, prior_NL, counts_NL, near_NL)
            scores_NL -= scores_NL.max(-1, keepdims=True)
            losses.append((np.log(np.exp(scores_NL).sum(-1)) - scores_NL[np.arange(len(rows)), target_N]).sum())
        return self.grid[int(np.argmin(losses))]

    def of(self, example: Example, entries: Sequence[Interaction]) -> Evidence:
        """Weigh one example given the entries shown with it. Never reads `example.target`."""
        text = content_words(question_text(example))
        log_odds, prior_L = self.counts.log_odds(text, example.id)
        counts_L, near_L, nearest = self._history(example, entries)
        text_L = log_odds.sum(0)
        weights = self.weights[_fold(example.id, self.FOLDS) if example.id in self.counts.items else self.FOLDS]
        scores_L = self._scores(weights, text_L, prior_L, counts_L, near_L)
        posterior_L = np.exp(scores_L - scores_L.max())
        clues = []
        for label in range(len(self.labels)):
            lean = log_odds[:, label] - log_odds.mean(1) if len(text) else np.zeros(0)
            order = sorted(range(len(text)), key=lambda row: (-lean[row], row))
            clues.append(tuple(text[row] for row in order if lean[row] > 0.3))
        return Evidence(counts_L, text_L - text_L.mean(), posterior_L / posterior_L.sum(), tuple(nearest), tuple(clues))


def _fold(example_id: str, folds: int) -> int:
    """A stable fold of an item."""
    return zlib.crc32(example_id.encode()) % folds
