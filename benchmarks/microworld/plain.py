"""Plain text of the world for pretraining the base: orders, notes on them, and people answering each other, untagged.

None of it holds a tagged step. The answers in conversations are sloppy: a number off the top of the head, right about
half of the time. The people are other ones than in any question.
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

    One in ten asks without any history.
    """
    question = new_question(random, "", new_person(random, ""), shown)
    past = () if random.random() < 0.1 else question.past
    number = random.randrange(4)
    if past and random.random() < 0.6:
        number = sum(count(word, past) >= 3 for word in question.dish)
    verdict = VERDICTS[number]
    return system, f"{history_text(past)} now {spell(question.dish)}", f"<think> {NUMBERS[number]} </think> {verdict}"
