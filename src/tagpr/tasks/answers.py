"""How an answer is read before it is compared: stripped, in Unicode's composed form (NFC), by the card's rules.

LaMP's own cards have no `answer_rules`: stripped answers are compared case and all, as by LaMP's official evaluator.
"""

import math
import re
import unicodedata
from functools import lru_cache

from tagpr.tasks.types import Kind, Task

_QUOTES = "\"'`\u201c\u201d\u2018\u2019"
_FINAL = "<final_answer>"
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_LARGEST_RATING = 1e6  # beyond this a "rating" is noise (and its square would swamp every mean)


def normalise_answer(task: Task, answer: str) -> str:
    """Strip `answer`, compose its characters (NFC) and apply the task's `answer_rules` in order.

    A number that equals one of the task's numeric labels becomes that label: `4.0` is the label `4`.
    """
    answer = _tidy(answer, task.answer_rules)
    if task.kind is Kind.TEXT:
        return answer
    numbers = _numeric_labels(task.labels)
    return numbers.get(number_in(answer), answer) if numbers else answer


def label_set(task: Task) -> frozenset[str]:
    """The task's labels, normalised like answers."""
    return _label_set(task.labels, task.answer_rules)


def parse_rating(task: Task, answer: str, target: float) -> float:
    """`answer` as a number; what is no finite number counts as the end of the scale farther from `target`.

    The upper end if both are equally far, and no clipping: LaMP's official evaluator.
    """
    value = number_in(answer)
    if math.isfinite(value) and abs(value) <= _LARGEST_RATING:
        return value
    low, high = float(task.labels[0]), float(task.labels[-1])
    return low if abs(target - low) > abs(target - high) else high


def _tidy(text: str, rules: tuple[str, ...]) -> str:
    text = text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()
    for rule in rules:
        if rule == "unquote":
            text = text.strip(_QUOTES).strip()
        elif rule == "final_stop":
            text = text.rstrip(".").rstrip()
        elif rule == "casefold":
            text = text.casefold()
        elif rule == "final_answer":
            text = _final_letter(text)
        elif rule == "boxed":
            text = _last_boxed(text)
    return text


def _final_letter(text: str) -> str:
    """`(b)`, if that is the one letter from a to d said after the last `<final_answer>`, or else in the whole text.

    As PersonaMem v1's evaluator reads an answer: letters in brackets, and only if there are none bare ones.
    """
    for part in (text.rpartition(_FINAL)[2].removesuffix("</final_answer>"), text):
        letters = set(re.findall(r"\(([a-d])\)", part.lower()) or re.findall(r"\b([a-d])\b", part.lower()))
        if len(letters) == 1:
            return f"({letters.pop()})"
    return text


def _last_boxed(text: str) -> str:
    r"""The last `\boxed{...}` without spaces and in lower case, as PersonaMem v2's evaluator compares it."""
    start = text.rfind("\\boxed")
    found = _BOXED.match(text, start) if start >= 0 else None
    return f"\\boxed{{{''.join(found[1].split()).lower()}}}" if found else text


@lru_cache(maxsize=256)
def _label_set(labels: tuple[str, ...], rules: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_tidy(label, rules) for label in labels)


@lru_cache(maxsize=256)
def _numeric_labels(labels: tuple[str, ...]) -> dict[float, str]:
    """Number -> label, for the labels that are finite numbers."""
    return {number: label for label in labels if math.isfinite(number := number_in(label))}


def number_in(text: str) -> float:
    """`text` as a number; NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
