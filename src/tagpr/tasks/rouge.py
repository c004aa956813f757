"""ROUGE-1 and ROUGE-L F-measures, equal to the `rouge-score` package without stemmer to 1e-9, and faster.

Three ways to cut a text into tokens: `latin` is rouge-score's own (lower case, `[a-z0-9]+`; it deletes every other
script), `characters` keeps Latin words and digits whole and makes every other letter a token of its own (Chinese,
Japanese, ...), `words` does the same with jieba's words for runs of CJK characters. `rouge2` is for PrLM's reward
alone. Not here: ROUGE-Lsum, stemming, several references.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import LCSseq

from tagpr.errors import RecipeError

_LATIN = re.compile(r"[a-z0-9]+")
# Latin words with their accents stay whole (Portuguese); any other letter or digit stands alone.
_MIXED = re.compile(r"[a-z0-9\u00df-\u00f6\u00f8-\u024f]+|[^\W_]")
_RUNS = re.compile(r"[a-z0-9\u00df-\u00f6\u00f8-\u024f]+|[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]+|[^\W_]")


class RougeTokens(StrEnum):
    """How texts become tokens."""

    LATIN = "latin"  # rouge-score's default; the only one comparable with published English figures
    CHARACTERS = "characters"  # one token per CJK character
    WORDS = "words"  # jieba words


def latin_tokens(text: str) -> list[str]:
    """rouge-score's default tokens: lower case, runs of a-z and 0-9."""
    return _LATIN.findall(text.lower())


def character_tokens(text: str) -> list[str]:
    """Latin words whole, every other letter or digit its own token."""
    return _MIXED.findall(text.lower())


def word_tokens(text: str) -> list[str]:
    """Latin words whole, CJK runs cut into jieba words. Raises RecipeError where jieba is not installed."""
    jieba = _jieba()
    tokens: list[str] = []
    for run in _RUNS.findall(text.lower()):
        tokens.extend(jieba.lcut(run) if run[0] >= "\u2e80" else (run,))
    return tokens


@lru_cache(maxsize=1)
def _jieba() -> Any:
    try:
        import jieba
    except ImportError:
        raise RecipeError(
            "rouge_tokens: words needs the package jieba; pip install 'tagpr[metrics]', or write `characters`"
        ) from None
    jieba.setLogLevel("WARNING")  # its dictionary's loading time is nobody's news
    return jieba


_TOKENIZERS: dict[RougeTokens, Callable[[str], list[str]]] = {
    RougeTokens.LATIN: latin_tokens,
    RougeTokens.CHARACTERS: character_tokens,
    RougeTokens.WORDS: word_tokens,
}


@lru_cache(maxsize=65536)
def _reference(text: str, tokens: RougeTokens) -> tuple[dict[str, str], str, dict[str, int], int]:
    """A reference as (character of each distinct token, the text in these characters, count of each, tokens).

    Kept, because RL scores many answers against the same one. As a string of one character a token it takes rapidfuzz's
    fast path.
    """
    cut = _TOKENIZERS[tokens](text)
    letters = {token: chr(0x10000 + i) for i, token in enumerate(dict.fromkeys(cut))}
    spelled = "".join(letters[token] for token in cut)
    return letters, spelled, {letter: spelled.count(letter) for letter in letters.values()}, len(cut)


def rouge(prediction: str, reference: str, tokens: RougeTokens = RougeTokens.LATIN) -> tuple[float, float]:
    """(ROUGE-1 F, ROUGE-L F) of one prediction against one reference, each in [0, 1]."""
    letters, target, counts, length = _reference(reference, tokens)
    answer = _TOKENIZERS[tokens](prediction)
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
    answer, target = (
        Counter(itertools.pairwise(cut)) for cut in (_TOKENIZERS[tokens](prediction), _TOKENIZERS[tokens](reference))
    )
    total = answer.total() + target.total()
    return 2 * (answer & target).total() / total if total else 0.0
