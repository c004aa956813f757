"""Words of a text for counting and clouds, in any script: Latin words, and pairs of characters where there are no spaces.

CJK writing has no spaces; a bigram of characters is the usual stand-in for a word where no dictionary is at hand.
"""

import re
from collections import Counter
from collections.abc import Iterable

_RUN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+|[^\W\d_]{2,}", re.UNICODE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
STOP = frozenset(
    "the and for that this with was are not but you has have had its from they their which will would about into than "
    "then there also can could may more most other some such only very over when what where who how all any both each "
    "few nor own same too just because been being did does doing our out these those through under until were your his "
    "her him she he it is of to in on at as by an or if so we be do no up my me us am".split()
)


def words(text: str) -> list[str]:
    """Lower-case words of `text`; runs of CJK characters as overlapping bigrams (single characters stay)."""
    found: list[str] = []
    for match in _RUN.finditer(text):
        run = match[0]
        if _CJK.match(run):
            found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        else:
            found.append(run.lower())
    return found


def frequent(texts: Iterable[str], top: int = 60) -> list[tuple[str, int]]:
    """The `top` commonest words that say something (no English function words), commonest first, ties by name."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in words(text) if word not in STOP)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:top]
