"""How the heuristic teacher judges a text: complement naive Bayes over its words, logistic regression over its meaning.

Both give a label's log-probability by the text alone. Meaning is a sentence encoder's vector; it is there only if the
recipe names an encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
"""Shape (labels,)."""
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class Encoder(Protocol):
    """Texts to vectors (`tagpr.profiles.dense.DenseEncoder` is one)."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, width)."""
        ...


@dataclass(frozen=True)
class WordModel:
    """Complement naive Bayes of labels, and how common each label is, from some rows of the training items."""

    weights_LV: Matrix
    prior_L: Vector

    @classmethod
    def fit(cls, rows_NV: csr_matrix, target_N: np.ndarray, labels: int) -> "WordModel":
        """`target_N`: label indices."""
        counts_L = np.bincount(target_N, minlength=labels).astype(float)
        model = ComplementNB(alpha=1.0)
        model.partial_fit(rows_NV, target_N, classes=np.arange(labels))
        return cls(np.asarray(model.feature_log_prob_), np.log((counts_L + 0.5) / (counts_L.sum() + 0.5 * labels)))

    def __call__(self, rows_NV: csr_matrix) -> Matrix:
        """Joint log-likelihoods but for the prior, shape (rows, labels)."""
        return np.asarray(rows_NV @ self.weights_LV.T)


@dataclass(frozen=True)
class MeaningModel:
    """Multinomial logistic regression of labels on unit vectors, from some of the training items."""

    weights_LE: Matrix
    bias_L: Vector

    C = 10.0
    """Inverse of the penalty's strength."""

    @classmethod
    def fit(cls, vectors_NE: np.ndarray, target_N: np.ndarray, labels: int) -> "MeaningModel":
        """`target_N`: label indices. A label without an item has the score log(.5 / (items + 1)) for every text."""
        seen = np.unique(target_N)
        weights_LE = np.zeros((labels, vectors_NE.shape[1]))
        bias_L = np.full(labels, np.log(0.5 / (len(target_N) + 1)))
        if len(seen) == 1:
            bias_L[seen] = 0.0
            return cls(weights_LE, bias_L)
        model = LogisticRegression(C=cls.C, max_iter=300).fit(vectors_NE, target_N)
        two = len(seen) == 2  # scikit-learn then keeps the second label's row alone
        weights_LE[seen] = np.vstack([-model.coef_ / 2, model.coef_ / 2]) if two else model.coef_
        bias_L[seen] = np.concatenate([-model.intercept_ / 2, model.intercept_ / 2]) if two else model.intercept_
        return cls(weights_LE, bias_L)

    def __call__(self, vectors_NE: np.ndarray) -> Matrix:
        """Log-probabilities, shape (rows, labels)."""
        scores_NL = vectors_NE @ self.weights_LE.T + self.bias_L
        return scores_NL - logsumexp(scores_NL, axis=-1, keepdims=True)
