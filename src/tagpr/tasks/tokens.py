"""How texts become the tokens that ROUGE and METEOR count. Which way fits a task's targets is `scripts.py`'s.

`latin` is rouge-score's own: lower case, `[a-z0-9]+`; it deletes every other script, and is the only one comparable
with published English scores. The others keep every letter, digit and emoji of every script:

- `characters`: Latin words whole, every other character a token: Chinese, Japanese, Thai;
- `unicode`: words of every script that puts spaces between them, else characters: Russian, Arabic, Hindi, Vietnamese;
- `words`: as `unicode`, with jieba's words for runs of Chinese and Japanese characters.

A character is what a reader takes for one (a grapheme cluster): a Devanagari letter with its vowel sign, a flag.
"""

import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

import regex

from tagpr.errors import RecipeError

_LATIN = re.compile(r"[a-z0-9]+")
_LETTER = r"[\p{L}\p{N}\p{Extended_Pictographic}\p{Regional_Indicator}]"
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\u3005"
_UNSPACED = rf"[{_CJK}\p{{Thai}}\p{{Lao}}\p{{Khmer}}\p{{Myanmar}}\p{{Tibetan}}]"
_SPACED_WORD = rf"(?:[[\p{{L}}\p{{N}}]--{_UNSPACED}][\p{{M}}\u200c\u200d]*)+"
_CLUSTER = rf"(?={_LETTER})\X"
_CHARACTERS = regex.compile(rf"(?:[\p{{Latin}}0-9]\p{{M}}*)+|{_CLUSTER}", regex.V1)
_UNICODE = regex.compile(rf"{_SPACED_WORD}|{_CLUSTER}", regex.V1)
_WORDS = regex.compile(rf"{_SPACED_WORD}|[{_CJK}]+|{_CLUSTER}", regex.V1)
LETTER = regex.compile(_LETTER, regex.V1)
"""A letter, digit or emoji of any script."""
UNSPACED_LETTER = regex.compile(_UNSPACED, regex.V1)
"""A letter of a script that puts no spaces between words."""
_CJK_START = regex.compile(f"[{_CJK}]", regex.V1)


class RougeTokens(StrEnum):
    """How texts become tokens; see the module's docstring."""

    LATIN = "latin"
    CHARACTERS = "characters"
    UNICODE = "unicode"
    WORDS = "words"


def latin_tokens(text: str) -> list[str]:
    """rouge-score's default tokens: lower case, runs of a-z and 0-9."""
    return _LATIN.findall(text.lower())


def character_tokens(text: str) -> list[str]:
    """Latin words whole, every other letter, digit or emoji its own token."""
    return _CHARACTERS.findall(composed(text))


def unicode_tokens(text: str) -> list[str]:
    """Words of scripts with spaces, characters of the others."""
    return _UNICODE.findall(composed(text))


def word_tokens(text: str) -> list[str]:
    """Words of scripts with spaces, jieba's words of Chinese and Japanese. Raises RecipeError if jieba is missing."""
    jieba = _jieba()
    tokens: list[str] = []
    for run in _WORDS.findall(composed(text)):
        tokens.extend(jieba.lcut(run) if _CJK_START.match(run) else (run,))
    return tokens


def composed(text: str) -> str:
    """`text` in lower case and NFC."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.lower())


class _Jieba(Protocol):
    """What is used of the package jieba, which carries no types."""

    def lcut(self, text: str, /) -> list[str]: ...

    def setLogLevel(self, level: str, /) -> None: ...


@lru_cache(maxsize=1)
def _jieba() -> _Jieba:
    try:
        import jieba
    except ImportError:
        raise RecipeError(
            "rouge_tokens: words needs the package jieba; pip install 'tagpr[metrics]', or write `characters`"
        ) from None
    jieba.setLogLevel("WARNING")  # its dictionary's loading time concerns no user
    return jieba


_TOKENIZERS: dict[RougeTokens, Callable[[str], list[str]]] = {
    RougeTokens.LATIN: latin_tokens,
    RougeTokens.CHARACTERS: character_tokens,
    RougeTokens.UNICODE: unicode_tokens,
    RougeTokens.WORDS: word_tokens,
}


def cut(text: str, tokens: RougeTokens) -> list[str]:
    """The tokens of `text`, lower case, in order."""
    return _TOKENIZERS[tokens](text)
