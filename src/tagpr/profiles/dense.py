"""Dense retrieval: any sentence-transformers model; for plain encoders such as Contriever mean pooling and dot product.

Texts are embedded once per process and kept (histories repeat from query to query). Needs the extra `embed`. Scores are
dot products, as the paper's retriever computes them; models that normalise their vectors thereby give cosines. Among
equals the later item comes first, as in BM25 here.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from weakref import WeakSet

import numpy as np

from tagpr.engine.models import resolve_model
from tagpr.errors import ModelError

_KEPT = 200_000  # vectors; at 768 floats each about 600 MB at the very most
_ENCODERS = WeakSet["DenseEncoder"]()


class DenseEncoder:
    """A text encoder with a memory: a folder, hub id or `pypi:PACKAGE` of a sentence-transformers or plain encoder."""

    def __init__(self, spec: str):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise ModelError("needs sentence-transformers; pip install 'tagpr[embed]'") from None
        folder = str(resolve_model(spec)) if spec.startswith("pypi:") else spec
        try:
            # For a folder without sentence-transformers' own files the library adds mean pooling: Contriever's.
            self.model = SentenceTransformer(folder, trust_remote_code=False, device="cpu")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{spec} cannot be loaded ({reason}); give a folder, hub id or pypi:PACKAGE") from None
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        _ENCODERS.add(self)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`, shape (texts, width), float32."""
        kept = self._kept  # another thread may have everything forgotten meanwhile
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        vectors: dict[str, np.ndarray] = {}
        if new:
            rows = self.model.encode(new, batch_size=64, show_progress_bar=False, convert_to_numpy=True)
            vectors = dict(zip(new, np.asarray(rows, np.float32), strict=True))
        found = np.stack([vectors[text] if text in vectors else kept[text] for text in texts])
        kept.update(vectors)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
        return found

    def forget(self) -> None:
        """Drop every text and its vector; the model stays."""
        self._kept = OrderedDict()

    def scores(self, documents: Sequence[str], query: str) -> np.ndarray:
        """Dot product of the query with every document, shape (documents,)."""
        return self.encode(documents) @ self.encode([query])[0]

    def top(self, documents: Sequence[str], query: str, k: int) -> list[int]:
        """Positions of the `k` best documents, best first."""
        if not documents:
            return []
        return np.argsort(self.scores(documents, query), kind="stable")[::-1][:k].tolist()


_loaded = lru_cache(maxsize=4)(DenseEncoder)


def encoder_of(spec: str, key: str = "profile.encoder") -> DenseEncoder:
    """The encoder, loaded once. Raises ModelError, which names the recipe's key, if it cannot be."""
    try:
        return _loaded(spec)
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from None


def forget_texts() -> None:
    """Drop what all loaded encoders keep: users' texts, which one of them may want forgotten."""
    for encoder in list(_ENCODERS):
        encoder.forget()
