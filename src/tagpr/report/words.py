"""Words of a text for counting and clouds, in any script: words, or pairs of characters if there are no spaces.

CJK writing has no spaces; a bigram of characters is the usual stand-in for a word if there is no dictionary.
"""

import re
from collections import Counter
from collections.abc import Iterable

from tagpr.marks import END_THINK

_RUN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+|[^\W\d_]{2,}", re.UNICODE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
_MARK = re.compile(r"</?[A-Za-z_][\w-]{0,40}>")
STOP = frozenset(
    """a about all am an and any are as at be because been being both but by can could did do does doing each few for
    from had has have he her him his how i if in into is it its just may me more most my no nor not of on only or other
    our out over own same she so some such than that the their then there these they this those through to too under
    until up us very was we were what when where which who will with would you your""".split()  # noqa: SIM905
)


def chain_words(completion: str) -> str:
    """What a completion says in its chain: without the answer and without the marks of tags."""
    return _MARK.sub(" ", completion.rpartition(END_THINK)[0] or completion)


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
