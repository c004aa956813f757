"""How the heuristic teacher puts its evidence into words: short sentences, a few ways each, around the evidence.

Nothing here decides an answer. No sentence can hold the reference: only evidence and the chosen answer come in.
Sentences are short on purpose: a small model trained for minutes on two cores has to write them.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence

from tagpr.chains.evidence.habits import READING, habit_name
from tagpr.chains.evidence.notes import Habits, chances
from tagpr.chains.grammar import write_completion
from tagpr.chains.heuristic.labels import Points, Reason

TALLIED = 3
"""How many of the commonest past outputs a step names."""

Step = tuple[str, str]  # tag, sentence

_TAG = re.compile(r"<(?=/?[A-Za-z][\w-]*>)")


def completion(steps: Sequence[Step], answer: str) -> str:
    r"""The steps and the answer as one completion.

    A tag in a step can only be user text, and is broken as the prompt breaks it (`tagpr.prompts.escape`): of a note
    that holds `</b>` the chain quotes `<\/b>`, which ends nothing.
    """
    return write_completion([(tag, _TAG.sub(r"<\\", text)) for tag, text in steps], answer)


def plain(text: str, limit: int = 8) -> str:
    """A quotation: at most `limit` words of `text` from its start, without quotes and angle brackets."""
    pieces = re.sub(r'[<>"]', " ", text).split()
    return " ".join(pieces[:limit])


def plural(noun: str) -> str:
    """section -> sections, synopsis -> synopses, category -> categories."""
    if noun.endswith("is"):
        return noun[:-2] + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def listing(tokens: Sequence[str]) -> str:
    """Join as prose: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(tokens[:-1]), tokens[-1]])) if tokens else ""


def nearest_step(items: Sequence[tuple[str, str]]) -> Step:
    """The most similar past items with their outputs."""
    return "examine_examples", "; ".join(f'"{quote}" is {output}' for quote, output in items) + "."


def history_step(outputs: Sequence[str]) -> Step:
    """The past outputs as they are shown, then the commonest of them with how often each occurs."""
    counts = Counter(outputs).most_common(TALLIED)  # of equals the first shown
    return "identify_patterns", f"{', '.join(outputs)}: {', '.join(f'{output} x{n}' for output, n in counts)}."


def no_history_step() -> Step:
    """Said when no past item is shown."""
    return "examine_examples", "There is no history."


def words_step(clues: Sequence[tuple[Sequence[str], str]]) -> Step:
    """What the text looks like: for each candidate the words that speak for it.

    The candidate comes before its words, because it is easier to foretell than any one word.
    """
    return "analyze_input", "; ".join(f"{label}: {', '.join(words) or 'nothing'}" for words, label in clues) + "."


def compare_step(candidates: Sequence[tuple[str, Points]]) -> Step:
    """Candidates with the points of their words and of the history, added up."""
    said = [f"{label} {own.words} + {own.history} = {own.total}" for label, own in candidates]
    return "compare_entities", ", ".join(said) + "."


def decision_step(label: str, rival: str, reason: Reason) -> Step:
    """The choice, by the sum or by the words or the history alone."""
    return "make_decision", f"{'' if reason == 'sum' else f'by {reason} '}{label} over {rival}."


def between_step(label: str, below: str, above: str) -> Step:
    """The choice of a rating that lies between the two best ones."""
    return "make_decision", f"{label} lies between {below} and {above}."


def option_step(rng: random.Random, label: str, history: Sequence[str], question: Sequence[str]) -> Step:
    """What one printed option shares with the history and with the question."""
    where = "question" if question and (not history or rng.random() < 0.5) else "history"
    shared = question if where == "question" else history
    if shared:
        return "compare_entities", f"{label} shares {listing(shared)} with the {where}."
    return "compare_entities", f"{label} shares nothing with the history."


def option_decision_step(rng: random.Random, label: str) -> Step:
    """The choice between printed options."""
    return "make_decision", rng.choice((f"{label} is closer.", f"{label} fits better.", f"So it is {label}."))


def key_words_step(rng: random.Random, keys: Sequence[str]) -> Step:
    """The words of the text that matter most."""
    return "analyze_input", rng.choice((f"Key words: {', '.join(keys)}.", f"It is about {listing(keys)}."))


def style_step(rng: random.Random, noun: str, length: int, lower: bool, article: bool, sample: str) -> Step:
    """What the past outputs look like, with the start of one of them."""
    traits = f"about {length} words, {'lower case' if lower else 'capital'}, {'with' if article else 'no'} article"
    if sample and rng.random() < 0.5:
        return "identify_patterns", f'Past {plural(noun)}: about {length} words, like "{sample}".'
    return "identify_patterns", f"Past {plural(noun)}: {traits}."


def cut_step(rng: random.Random, first: str, last: str) -> Step:
    """Which stretch of the text becomes the answer."""
    if first == last:
        return "make_decision", f"Keep only {first}."
    return "make_decision", rng.choice((f"Keep from {first} to {last}.", f"Start at {first}, stop at {last}."))


def kind_step(neutral: str) -> Step:
    """Whether the new note closes a bug: "plain", "bug" or "launchpad"."""
    return READING, chances(neutral)["end"]


def note_step(note: str) -> Step:
    """A past note as it is."""
    return "examine_examples", f'"{note}"' if note else "No note is shown."


def habits_step(chosen: Habits) -> Step:
    """The chosen values: "letter capital, end stop"."""
    return "make_decision", ", ".join(f"{habit} {habit_name(value)}" for habit, value in chosen.items())
