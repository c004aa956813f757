"""How the heuristic teacher judges a text: logistic regression over its words, and over its meaning.

Both give a label's log-probability by the text alone. Words are TF-IDF of words and character n-grams; meaning is a
sentence encoder's vector, which is there only if the recipe names an encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
"""Shape (labels,)."""
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


class Encoder(Protocol):
    """Texts to vectors (`tagpr.profiles.dense.DenseEncoder` is one)."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, width)."""
        ...


@dataclass(frozen=True)
class TextModel:
    """Multinomial logistic regression of labels on a text's features, from some of the training items."""

    weights_LV: Matrix
    bias_L: Vector

    C = 3.0
    """Inverse of the penalty's strength."""

    @classmethod
    def fit(cls, rows_NV: csr_matrix | np.ndarray, target_N: np.ndarray, labels: int) -> "TextModel":
        """`target_N`: label indices. A label without an item has the score log(.5 / (items + 1)) for every text."""
        seen = np.unique(target_N)
        _, width = rows_NV.shape or (0, 0)  # scipy's types allow None
        weights_LV = np.zeros((labels, width))
        bias_L = np.full(labels, np.log(0.5 / (len(target_N) + 1)))
        if len(seen) == 1:
            bias_L[seen] = 0.0
            return cls(weights_LV, bias_L)
        model = LogisticRegression(C=cls.C, max_iter=300).fit(rows_NV, target_N)
        two = len(seen) == 2  # scikit-learn then keeps the second label's row alone
        weights_LV[seen] = np.vstack([-model.coef_ / 2, model.coef_ / 2]) if two else model.coef_
        bias_L[seen] = np.concatenate([-model.intercept_ / 2, model.intercept_ / 2]) if two else model.intercept_
        return cls(weights_LV, bias_L)

    def __call__(self, rows_NV: csr_matrix | np.ndarray) -> Matrix:
        """Log-probabilities, shape (rows, labels)."""
        scores_NL = np.asarray(rows_NV @ self.weights_LV.T) + self.bias_L
        return scores_NL - logsumexp(scores_NL, axis=-1, keepdims=True)
