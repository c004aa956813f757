"""Vectors of texts."""

import numpy as np


def unit(vectors_NE: np.ndarray) -> np.ndarray:
    """Each row over its length, so that dot products are cosines; a row of zeros stays one."""
    return vectors_NE / np.maximum(np.linalg.norm(vectors_NE, axis=1, keepdims=True), 1e-12)
