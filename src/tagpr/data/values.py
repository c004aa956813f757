"""Values of a file as text: what counts as absent, how numbers are written, which label a value means."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from unicodedata import normalize

LONGEST_FIELD = 1_000_000
"""Characters; longer fields are refused: they are damaged files, not a user's text."""
_NAMES = {bool: "true/false", type(None): "null", list: "a list", dict: "an object", bytes: "bytes"}


def absent(value: object) -> bool:
    """Whether a field says nothing: null, NaN (pandas' null) or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or _is_nan(value)


def text_of(value: object) -> str:
    """A field's value as text: strings as they are, numbers printed, 4.0 as "4". Raises ValueError, TypeError."""
    if isinstance(value, str) and value.isascii() and "\x00" not in value and len(value) <= LONGEST_FIELD:
        return value  # most fields
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"must be text or a number, not {_NAMES.get(type(value), type(value).__name__)}")
    if isinstance(value, float | Decimal):
        value = _number(value)
    text = value if isinstance(value, str) else str(value)
    if len(text) > LONGEST_FIELD:
        raise ValueError(f"is {len(text):,} characters long; at most {LONGEST_FIELD:,} are taken")
    return plain_text(text)


def id_of(value: object) -> str:
    """A field that tells records or users apart, as text. Raises as `text_of`, and if cleaning would change it: two ids
    could become one.
    """
    text = text_of(value)
    if isinstance(value, str) and text != value:
        raise ValueError("holds NUL or half of a character; ids must be whole text")
    return text


def named(names: Iterable[object]) -> str:
    """The first few of a file's names for an error: on one line, however long and wherever broken they are."""
    return ", ".join(plain_text(" ".join(str(name).split())[:40]) for name in list(names)[:8])


def plain_text(text: str) -> str:
    r"""Without what files and tokenizers refuse: lone surrogates (from \ud800 escapes) and NUL, C's end of text."""
    if text.isascii():
        return text if "\x00" not in text else text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def label_of(text: str, labels: Sequence[str]) -> str:
    """The label that `text` means: itself or the one with the same characters (an accent can be written as one code or
    as two), or for a whole number like "4.0" the label "4"; else the text as it is.
    """
    if text in labels:
        return text
    if not text.isascii():
        composed = normalize("NFC", text)
        same = [label for label in labels if normalize("NFC", label) == composed]
        if same:
            return same[0]
    try:
        number = float(text)
    except ValueError:
        return text
    whole = str(int(number)) if number.is_integer() else text
    return whole if whole in labels else text


def _number(value: float | Decimal) -> str:
    if not math.isfinite(value):
        raise ValueError(f"is no number ({'NaN' if _is_nan(value) else 'infinite'})")
    whole = abs(value) < 2**53 and value == int(value)
    return str(int(value)) if whole else repr(value) if isinstance(value, float) else str(value)


def _is_nan(value: object) -> bool:
    return isinstance(value, float | Decimal) and math.isnan(value)
