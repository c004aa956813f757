"""METEOR with exact and Porter-stem matches (nltk's default weights: alpha .9, beta 3, gamma .5).

Equal to `nltk.translate.meteor_score.meteor_score` given a WordNet without entries: WordNet's synonyms need a data file
that this package does not carry, so scores are slightly below those of a METEOR with synonyms. Say so beside them.
"""

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from tagpr.errors import RecipeError
from tagpr.tasks.tokens import RougeTokens, cut

if TYPE_CHECKING:
    from nltk.stem.porter import PorterStemmer

_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5


def meteor(prediction: str, reference: str, tokens: RougeTokens = RougeTokens.LATIN) -> float:
    """METEOR of one prediction against one reference, in [0, 1]."""
    answer, target = cut(prediction, tokens), cut(reference, tokens)
    pairs, answer_left, target_left = _match(list(enumerate(answer)), list(enumerate(target)))
    stems, _, _ = _match([(i, stem(w)) for i, w in answer_left], [(i, stem(w)) for i, w in target_left])
    pairs = sorted(pairs + stems)
    hits = len(pairs)
    if not hits:
        return 0.0
    precision, recall = hits / len(answer), hits / len(target)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    chunks = 1 + sum(following != (position + 1, place + 1) for (position, place), following in pairwise(pairs))
    return mean * (1 - _GAMMA * (chunks / hits) ** _BETA)


def _match(
    answer: list[tuple[int, str]], target: list[tuple[int, str]]
) -> tuple[list[tuple[int, int]], list[tuple[int, str]], list[tuple[int, str]]]:
    """Greedy one-to-one matches from the end, as nltk makes them: (answer position, target position), and the rest."""
    open_places: dict[str, list[int]] = {}
    for place, word in target:
        open_places.setdefault(word, []).append(place)
    pairs: list[tuple[int, int]] = []
    answer_left: list[tuple[int, str]] = []
    for position, word in reversed(answer):
        if open_places.get(word):
            pairs.append((position, open_places[word].pop()))
        else:
            answer_left.append((position, word))
    used = {place for _, place in pairs}
    return pairs, answer_left[::-1], [(place, word) for place, word in target if place not in used]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Porter's stem of one lower-case word, by nltk. Raises RecipeError if nltk is not installed."""
    return _stemmer().stem(word)


@lru_cache(maxsize=1)
def _stemmer() -> "PorterStemmer":
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError:
        raise RecipeError(
            "metrics: meteor needs nltk's stemmer; pip install 'tagpr[metrics]', or leave meteor out of the card"
        ) from None
    return PorterStemmer()
