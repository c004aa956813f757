"""BM25 over one profile, in two forms (k1 1.5, b .75); a task's card chooses with `bm25:`.

- `okapi`: BM25Okapi as `rank_bm25` computes it, to the last bit, and what published LaMP results use: whitespace split,
  case kept, idf ln((N - n + .5) / (n + .5)), a negative one raised to .25 of the mean idf. A text without spaces is one
  word there, and in a history of two or three items a word that occurs in half of them or more tells the wrong way.
- `lucene`: words of any script in lower case (`tagpr.tasks.tokens.unicode_tokens`), and Lucene's idf
  ln(1 + (N - n + .5) / (n + .5)), which is never negative.

The index of a profile is a table of postings (word -> documents and weights) made once, so a query costs one addition
per posting instead of a pass over all documents for each word. Ties break as in rank_bm25's `get_top_n`: among equals
the later item comes first. One difference on purpose: if every item is empty rank_bm25 divides by zero, here all scores
are 0.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import numpy as np

from tagpr.tasks.tokens import unicode_tokens
from tagpr.tasks.types import BM25Form

K1, B, EPSILON = 1.5, 0.75, 0.25


class BM25:
    """An index of `documents`, texts of one profile."""

    def __init__(self, documents: Sequence[str], form: BM25Form = BM25Form.OKAPI):
        self.size, self.form = len(documents), form
        self.words: dict[str, int] = {}  # in the order of first appearance, as rank_bm25's
        number = self.words.setdefault
        lists = [[number(word, len(self.words)) for word in self._cut(document)] for document in documents]
        lengths = np.fromiter(map(len, lists), np.int64, self.size)
        if not self.words:
            return
        flat = np.fromiter(chain.from_iterable(lists), np.int64, int(lengths.sum()))
        places = np.repeat(np.arange(self.size), lengths)
        pairs, counts = np.unique(flat * self.size + places, return_counts=True)
        word_of, self.places = np.divmod(pairs, self.size)
        self.starts = np.searchsorted(word_of, np.arange(len(self.words) + 1)).tolist()
        norms = K1 * (1 - B + B * lengths / (int(lengths.sum()) / self.size))
        # The very operations of rank_bm25 in its order, so that equal documents stay equal to the last bit.
        documents_with = np.diff(self.starts).tolist()
        by_number = {n: self._idf(n) for n in set(documents_with)}
        idf = [by_number[n] for n in documents_with]
        floor = EPSILON * (sum(idf) / len(idf))  # negative weights are raised to this
        weight = np.array([floor if value < 0 else value for value in idf])
        self.weights = weight[word_of] * (counts * (K1 + 1) / (counts + norms[self.places]))

    def _cut(self, text: str) -> list[str]:
        return text.split() if self.form is BM25Form.OKAPI else unicode_tokens(text)

    def _idf(self, documents: int) -> float:
        """The weight of a word that occurs in this many of the documents."""
        if self.form is BM25Form.OKAPI:
            return math.log(self.size - documents + 0.5) - math.log(documents + 0.5)
        return math.log1p((self.size - documents + 0.5) / (documents + 0.5))

    def scores(self, query: str) -> np.ndarray:
        """Score of every document, shape (documents,). A word's duplicates in the query count too."""
        total = np.zeros(self.size)
        for word in self._cut(query):
            number = self.words.get(word)
            if number is not None:
                posting = slice(self.starts[number], self.starts[number + 1])
                total[self.places[posting]] += self.weights[posting]
        return total

    def top(self, query: str, k: int) -> list[int]:
        """Positions of the `k` best documents, best first; among equals the later one first."""
        return np.argsort(self.scores(query))[::-1][:k].tolist()


@lru_cache(maxsize=1024)
def index_of(documents: tuple[str, ...], form: BM25Form = BM25Form.OKAPI) -> BM25:
    """The index of a profile; the last ones are kept: many queries of one user meet the same history."""
    return BM25(documents, form)
