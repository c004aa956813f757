"""BM25Okapi over one profile, as `rank_bm25` computes it (k1 1.5, b .75, epsilon .25, whitespace split, case kept).

The index of a profile is a word -> (documents, weights) table made once, so a query costs one addition per posting
instead of a pass over all documents per word. Scores equal rank_bm25's to 1e-6 and ties break as its `get_top_n` does:
among equals the later item comes first. One difference on purpose: where every item is empty rank_bm25 divides by zero,
here all scores are 0.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

K1, B, EPSILON = 1.5, 0.75, 0.25


class BM25:
    """An index of `documents`, texts of one profile."""

    def __init__(self, documents: Sequence[str]):
        self.size = len(documents)
        lengths = np.zeros(self.size)
        postings: dict[str, dict[int, int]] = {}
        for position, document in enumerate(documents):
            words = document.split()
            lengths[position] = len(words)
            for word in words:
                counts = postings.setdefault(word, {})
                counts[position] = counts.get(position, 0) + 1
        self.postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if not postings:
            return
        norms = K1 * (1 - B + B * lengths / lengths.mean())
        idf = {
            word: math.log(self.size - len(counts) + 0.5) - math.log(len(counts) + 0.5)
            for word, counts in postings.items()
        }
        floor = EPSILON * sum(idf.values()) / len(idf)  # negative weights are raised to this
        for word, counts in postings.items():
            places = np.fromiter(counts.keys(), np.int64, len(counts))
            frequency = np.fromiter(counts.values(), np.float64, len(counts))
            weight = floor if idf[word] < 0 else idf[word]
            self.postings[word] = places, weight * frequency * (K1 + 1) / (frequency + norms[places])

    def scores(self, query: str) -> np.ndarray:
        """Score of every document, shape (documents,). A word that stands twice in the query counts twice."""
        total = np.zeros(self.size)
        for word in query.split():
            if word in self.postings:
                places, weights = self.postings[word]
                total[places] += weights
        return total

    def top(self, query: str, k: int) -> list[int]:
        """Positions of the `k` best documents, best first; among equals the later one first."""
        return np.argsort(self.scores(query))[::-1][:k].tolist()


@lru_cache(maxsize=4096)
def index_of(documents: tuple[str, ...]) -> BM25:
    """The index of a profile, kept: many queries of one user meet the same history."""
    return BM25(documents)
