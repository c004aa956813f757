r"""Making user text inert: nothing in it can open or close a turn, a thought or a tag. Reversible.

A backslash goes behind the first character of whatever could be read as control text: `<|im_start|>` becomes
`<\|im_start|>`, `</think>` becomes `<\/think>`, `[INST]` becomes `[\INST]`. Every `<` before a letter, a slash, a bar
or the end of the text counts, whether or not a model knows the token: which tokens are control tokens depends on the
model, and text outlives models. `restore` takes exactly these backslashes out again. For models with control tokens of
another form, `guard` does the same for the tokenizer's own list (called when ids are made).
"""

import re
from functools import lru_cache

# "<" and its full-width forms (some normalisers fold those); "[" only before what looks like a control token.
ESCAPE = r"([<\uff1c\ufe64])(\\*)(?=[^\s\d=<\\]|\Z)|(\[)(\\*)(?=/?[A-Z_]{2,}[\]\d]|/?\||[gs]MASK\]|/?[A-Z_|]*\Z)"
"""What `escape` looks for, and what it writes instead (`ESCAPED`), as an exported prompt states them."""
ESCAPED = r"\1\2\3\4\\"
_OPENINGS = re.compile(ESCAPE)
_CLOSED = re.compile(
    r"([<\uff1c\ufe64])\\(\\*)(?=[^\s\d=<\\]|\Z)|(\[)\\(\\*)(?=/?[A-Z_]{2,}[\]\d]|/?\||[gs]MASK\]|/?[A-Z_|]*\Z)"
)


def escape(text: str) -> str:
    """`text` with every possible opening of control text broken by a backslash."""
    return _OPENINGS.sub(ESCAPED, text)


def restore(text: str) -> str:
    """The inverse of `escape`: `restore(escape(text)) == text` for every text."""
    return _CLOSED.sub(r"\1\2\3\4", text)


def guard(text: str, control_tokens: tuple[str, ...]) -> str:
    """`text` with any of these very tokens broken by a backslash behind its first character."""
    pattern = _any_of(control_tokens)
    while (broken := pattern.sub(lambda found: found[0][0] + "\\" + found[0][1:], text)) != text:
        text = broken
    return text


@lru_cache(maxsize=64)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of `tokens`, the longest first; single characters cannot be broken and are left alone."""
    longest_first = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
