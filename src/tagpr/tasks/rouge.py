"""ROUGE-1 and ROUGE-L F-measures, equal to the `rouge-score` package without stemmer to 1e-9, and faster.

How texts are cut into tokens is `tokens.py`'s. `rouge2` is for PrLM's reward alone. Not here: ROUGE-Lsum, stemming,
several references.
"""

import itertools
from collections import Counter
from functools import lru_cache

from rapidfuzz.distance import LCSseq

from tagpr.tasks.tokens import RougeTokens, cut


@lru_cache(maxsize=1024)
def _reference(text: str, tokens: RougeTokens) -> tuple[dict[str, str], str, dict[str, int], int]:
    """A reference as (character of each distinct token, the text in these characters, count of each, tokens).

    The last ones are kept, because RL scores many answers against the same one. As a string of one character a token it
    takes rapidfuzz's fast path.
    """
    target = cut(text, tokens)
    letters = {token: chr(0x10000 + i) for i, token in enumerate(dict.fromkeys(target))}
    spelled = "".join(letters[token] for token in target)
    return letters, spelled, {letter: spelled.count(letter) for letter in letters.values()}, len(target)


def rouge(prediction: str, reference: str, tokens: RougeTokens = RougeTokens.LATIN) -> tuple[float, float]:
    """(ROUGE-1 F, ROUGE-L F) of one prediction against one reference, each in [0, 1]."""
    letters, target, counts, length = _reference(reference, tokens)
    answer = cut(prediction, tokens)
    # Tokens that the reference lacks take part in no overlap and no common subsequence.
    shared = "".join([letters[token] for token in answer if token in letters])
    if not shared:
        return 0.0, 0.0
    left = counts.copy()
    overlap = 0
    for letter in shared:
        if left[letter]:
            left[letter] -= 1
            overlap += 1
    total = len(answer) + length
    # F = 2PR / (P + R) with P = hits / |answer| and R = hits / |target| is 2 hits / (|answer| + |target|).
    return 2 * overlap / total, 2 * LCSseq.similarity(shared, target) / total


def rouge2(prediction: str, reference: str, tokens: RougeTokens = RougeTokens.LATIN) -> float:
    """ROUGE-2 F of one prediction against one reference, in [0, 1]."""
    answer, target = (Counter(itertools.pairwise(words)) for words in (cut(prediction, tokens), cut(reference, tokens)))
    total = answer.total() + target.total()
    return 2 * (answer & target).total() / total if total else 0.0
