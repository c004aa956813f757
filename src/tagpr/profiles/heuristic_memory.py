"""A profile memory without a language model: what the person says of themselves, newest first, and counts of answers.

It copies, it does not understand: of "I gave up coffee" and "I love coffee" it keeps both, the newer one first.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

COUNTS = "- answers so far: "
"""Begins the line that counts what the history has on the right of `->`."""
MOST_COUNTED = 8
LONGEST_ANSWER = 40
"""Characters; what is longer is a text and not counted."""
_OF_THEMSELVES = re.compile(
    r"\b(I|my|mine|myself|I'm|I've|I'd|me)\b|\b(prefer|like|love|enjoy|hate|dislike|avoid|never|always|favou?rite|usually"
    r"|allergic|used to|no longer|gave up|started|stopped)\b",
    re.IGNORECASE,
)
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_ANSWER = re.compile(rf" -> ([^>]{{1,{LONGEST_ANSWER}}})$")
_NOT_THEIRS = re.compile(r"\bAssistant: .*", re.DOTALL)
LONGEST_STATEMENT = 200


def short_answers(items: Sequence[str]) -> list[str]:
    """What the items have on the right of `->`, texts left out."""
    return [found[1].strip() for found in map(_ANSWER.search, items) if found]


def heuristic_update(memory: str, items: Sequence[str], counts: Counter[str], fits: Callable[[str], bool]) -> str:
    """The memory with `items` (oldest first) worked in: a line of counts, then statements, as many as fit.

    counts: `short_answers` of the history so far. The memory's own line has but the commonest, and an answer may hold
    commas and numbers, so they are not read back from it.
    """
    old = [line for line in memory.splitlines() if line and not line.startswith(COUNTS)]
    new = [f"- {text}" for item in items for text in _statements(item) if _OF_THEMSELVES.search(text)]
    head = [COUNTS + ", ".join(f"{name} {count}" for name, count in counts.most_common(MOST_COUNTED))] if counts else []
    found = list(head)
    for line in dict.fromkeys([*reversed(new), *old]):
        if fits("\n".join([*found, line])):
            found.append(line)
    return "\n".join(found)


def _statements(item: str) -> list[str]:
    """Sentences of the person's own part of an item, those of a usable length."""
    own = _NOT_THEIRS.sub("", _ANSWER.sub("", item)).strip()
    own = own.removeprefix("User: ").removeprefix("User: ")  # the card's, and PersonaMem's own
    return [text[:LONGEST_STATEMENT] for part in _SENTENCES.split(own) if len(text := part.strip()) > 8]
