"""Chains as an imperfect reader of the history would write them: count, say what is usual, decide.

The reader counts how often each word of the dish was ordered and calls it usual from some number on, but from which one
is a matter of mood. They see the history that the prompt shows and nothing else: not the reference, not the person's
taste. So they are often wrong; the accuracy filter of the chains stage keeps the chains whose answer is right, some of
them by luck.
"""

from collections.abc import Sequence
from random import Random

from microworld.world import VERDICTS, Dish, count

MOODS = (1, 2, 3, 4, 5, 6)
"""From how many orders on a word is usual; about 3 would be right."""
NUMBERS = ("none", "one", "two", "three")


def write_chain(random: Random, past: Sequence[Dish], dish: Dish) -> str:
    """One tagged completion."""
    mood = random.choice(MOODS)
    counts = {word: count(word, past) for word in dish}
    usual = [word for word in dish if counts[word] >= mood]
    answer = VERDICTS[len(usual)]
    steps = (
        ("examine_examples", " ".join(f"{word} {n}" for word, n in counts.items())),
        ("identify_patterns", f"usual {' '.join(usual) or 'nothing'}"),
        ("make_decision", f"{NUMBERS[len(usual)]} so {answer}"),
    )
    return "\n".join(["<think>", *(f"<{tag}> {text} </{tag}>" for tag, text in steps), "</think>", answer])
