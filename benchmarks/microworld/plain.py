"""Plain text of the world for pretraining the base: orders, notes on them, and people answering each other, untagged.

None of it holds a tagged step. In conversations people go by one thing that comes to mind: whether the flavour is that
of the latest order. That is right for about one question in three: they answer, and look at the history, but nobody
there counts over it. The people are other ones than in any question.
"""

from collections.abc import Sequence
from random import Random

from microworld.teacher import NUMBERS
from microworld.world import ASPECTS, VERDICTS, Dish, count, new_person, new_question, spell


def history_text(past: Sequence[Dish]) -> str:
    """Past orders as the prompt words them."""
    return " ".join(f"{spell(dish)} ;" for dish in past)


def counts(random: Random) -> tuple[str, str]:
    """Orders, and how many of them had this or that word."""
    person = new_person(random, "")
    past = [person.order(random) for _ in range(random.randint(1, 8))]
    words = random.sample([word for words in ASPECTS for word in words], 6)
    return history_text(past), " ".join(f"{word} {count(word, past)}" for word in words)


def habits(random: Random) -> tuple[str, str]:
    """Orders, and what is usual for whoever ordered them."""
    person = new_person(random, "")
    past = [person.order(random) for _ in range(random.randint(4, 8))]
    return history_text(past), f"usual {spell(person.usual)}"


def conversation(random: Random, system: str, shown: int) -> tuple[str, str, str]:
    """(system, user, assistant) turns: a question as the prompts ask it, a number, the verdict that goes with it.

    The number is 2 or 3 where the dish has the flavour of the latest order, else 0 or 1.

    One in ten asks without any history.
    """
    question = new_question(random, "", new_person(random, ""), shown)
    past = () if random.random() < 0.1 else question.past
    number = random.choice((2, 3) if past and past[-1][0] == question.dish[0] else (0, 1))
    verdict = VERDICTS[number]
    return system, f"{history_text(past)} now {spell(question.dish)}", f"<think> {NUMBERS[number]} </think> {verdict}"
