"""Three worlds that differ in one thing: how many steps lie between the history and the answer.

one-step   how many of the dish's words are those of one past order: read that order, compare
counting   how many of the dish's words are usual for this user: count every word over all orders, compare
serial     the mood turns at every sour order; what the user says goes by the mood after the last one and by whether the
           base repeats the latest order's: every order needs the state that the one before left

All ask the same thing in the same words (orders, "now", a dish; hate, dislike, like or love), so that one base, one
prompt and one vocabulary serve the three. Every world has a dial, an imperfect teacher that sees what the prompt shows,
and answers that are about equally common.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from microworld import teacher
from microworld.world import ASPECTS, USUAL, VERDICTS, Dish, new_person, new_question

SHOWN = 8
"""Past orders of a question, all of which the prompt shows."""
ERROR = 0.3
"""How often the teachers of the one-step and the serial world misread an order."""
NUMBERS = teacher.NUMBERS


@dataclass(frozen=True)
class Question:
    """What one user is asked: their orders (oldest first), a dish, and what they say of it."""

    user_id: str
    past: tuple[Dish, ...]
    dish: Dish
    answer: str


class World(Protocol):
    """Questions about users, and a teacher who is often wrong about them."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def questions(self, random: Random, user_id: str, number: int) -> list[Question]:
        """`number` questions about one new user."""
        ...

    def chain(self, random: Random, question: Question) -> tuple[str, str]:
        """(tagged completion, its answer), from the orders and the dish alone."""
        ...


@dataclass(frozen=True)
class OneStep:
    """The answer counts the words that the dish shares with the order `back` orders ago."""

    name: str = "one-step"
    back: int = 1
    """The dial: 1 is the latest order, SHOWN the oldest one."""
    first_form: bool = False
    """Chains that name the shared words alone instead of comparing word by word."""

    def questions(self, random: Random, user_id: str, number: int) -> list[Question]:
        """Orders by lot, and a dish that shares none, one, two or three words, all equally often."""
        found = []
        for _ in range(number):
            past = tuple(_any_dish(random) for _ in range(SHOWN))
            same = random.sample(range(3), random.randrange(4))
            read = past[-self.back]
            dish = _dish([word if i in same else _other(random, i, word) for i, word in enumerate(read)])
            found.append(Question(user_id, past, dish, VERDICTS[len(same)]))
        return found

    def chain(self, random: Random, question: Question) -> tuple[str, str]:
        """Reads one order, now and then a wrong one, compares word by word, decides."""
        read = random.choice(question.past) if random.random() < ERROR else question.past[-self.back]
        if not self.first_form:
            return _compared("examine_examples", read, question.dish)
        same = [word for word, other in zip(question.dish, read, strict=True) if word == other]
        answer = VERDICTS[len(same)]
        return _completion(
            ("examine_examples", " ".join(read)),
            ("compare_entities", f"same {' '.join(same) or 'nothing'}"),
            ("make_decision", f"{NUMBERS[len(same)]} so {answer}"),
            answer=answer,
        )


@dataclass(frozen=True)
class Counting:
    """The answer counts the words of the dish that are the user's usual ones (the world of the ablation table)."""

    name: str = "counting"
    usual: float = USUAL
    """The dial: how often a word of an order is the usual one. 1: any order tells all; 1/4: none does."""
    first_form: bool = False
    """Chains that name three counts, then say what is usual (the ablation table's)."""

    def questions(self, random: Random, user_id: str, number: int) -> list[Question]:
        """A user has one taste in all of their questions."""
        person = new_person(random, user_id, self.usual)
        asked = [new_question(random, "", person, SHOWN) for _ in range(number)]
        return [Question(user_id, q.past, q.dish, q.answer) for q in asked]

    def chain(self, random: Random, question: Question) -> tuple[str, str]:
        """Says which word of each kind was ordered most, now and then after two orders only, compares word by word."""
        if self.first_form:
            text = teacher.write_chain(random, question.past, question.dish)
            return text, text.rsplit("\n", 1)[1]
        seen = random.sample(question.past, 2) if random.random() < ERROR else question.past
        usual = [most_ordered([order[kind] for order in seen], word) for kind, word in enumerate(question.dish)]
        return _compared("identify_patterns", _dish(usual), question.dish, "usual ")


@dataclass(frozen=True)
class Serial:
    """The mood is good at first and turns at every sour order. In a good mood: love if the dish has the base of the
    latest order, else like; in a bad mood: dislike if it has, else hate."""

    name: str = "serial"
    sour: float = 0.4
    """The dial: how often an order is sour; SHOWN times this is how often the mood turns."""

    def questions(self, random: Random, user_id: str, number: int) -> list[Question]:
        """Orders by lot; half of the dishes have the base of the latest order."""
        found = []
        for _ in range(number):
            past = tuple(self._order(random) for _ in range(SHOWN))
            latest, (flavour, colour, _) = past[-1][2], _any_dish(random)
            base = latest if random.random() < 0.5 else _other(random, 2, latest)
            dish = (flavour, colour, base)
            found.append(Question(user_id, past, dish, _verdict(moods(past)[-1], base == latest)))
        return found

    def _order(self, random: Random) -> Dish:
        _, colour, base = _any_dish(random)
        return ("sour" if random.random() < self.sour else _other(random, 0, "sour")), colour, base

    def chain(self, random: Random, question: Question) -> tuple[str, str]:
        """Goes through the orders with the mood after each, now and then misses a sour one, decides."""
        sour = [i for i, dish in enumerate(question.past) if dish[0] == "sour"]
        missed = random.choice(sour) if sour and random.random() < ERROR else None
        after = moods(question.past, missed)
        latest, base = question.past[-1][2], question.dish[2]
        same = _same(base, latest)
        answer = _verdict(after[-1], base == latest)
        read = " ".join(f"{dish[0]} {mood}" for dish, mood in zip(question.past, after, strict=True))
        return _completion(
            ("examine_examples", read),
            ("compare_entities", f"{latest} {base} {same}"),
            ("make_decision", f"{after[-1]} {same} so {answer}"),
            answer=answer,
        )


WORLDS: dict[str, World] = {world.name: world for world in (Serial(), Counting(), OneStep())}
FIRST_FORMS: dict[str, World] = {world.name: world for world in (Counting(first_form=True), OneStep(first_form=True))}
"""Worlds whose chains had another form in the table's first version; the questions are the same."""


def moods(past: Sequence[Dish], missed: int | None = None) -> list[str]:
    """`good` or `bad` after every order; the order at `missed` does not turn it."""
    good, found = True, []
    for place, dish in enumerate(past):
        good ^= dish[0] == "sour" and place != missed
        found.append("good" if good else "bad")
    return found


def right_chain(world: World, random: Random, question: Question, samples: int) -> str | None:
    """The accuracy filter: of `samples` chains whose answer is right, the one written most often; None if none is.

    Most often, because two of these teachers write the same chain whenever they do not misread: keeping *different*
    right chains would keep the misread ones that are right by luck (a quarter of the one-step world's).
    """
    drawn = [world.chain(random, question) for _ in range(samples)]
    right = Counter(text for text, answer in drawn if answer == question.answer)
    return max(right, key=lambda text: right[text]) if right else None


def _verdict(mood: str, same: bool) -> str:
    return VERDICTS[2 * (mood == "good") + same]


def _any_dish(random: Random) -> Dish:
    return _dish([random.choice(words) for words in ASPECTS])


def _other(random: Random, aspect: int, word: str) -> str:
    return random.choice([other for other in ASPECTS[aspect] if other != word])


def _dish(words: Sequence[str]) -> Dish:
    flavour, colour, base = words
    return flavour, colour, base


def most_ordered(words: Sequence[str], asked: str) -> str:
    """The commonest word; among equals the one that is asked about, which is the likelier (1/2 against 1/6), else the
    earliest."""
    counts = Counter(words)
    most = [word for word in counts if counts[word] == max(counts.values())]
    return asked if asked in most else most[0]


def _compared(tag: str, read: Dish, dish: Dish, said: str = "") -> tuple[str, str]:
    """(tagged completion, its answer): what was read, then word by word the dish, beside it what was read, whether they
    are the same and how many are so far: `sweet sweet same one red green other one`."""
    same, told = 0, []
    for word, other in zip(dish, read, strict=True):
        same += word == other
        told.append(f"{word} {other} {_same(word, other)} {NUMBERS[same]}")
    return _completion(
        (tag, f"{said}{' '.join(read)}"),
        ("compare_entities", " ".join(told)),
        ("make_decision", f"{NUMBERS[same]} so {VERDICTS[same]}"),
        answer=VERDICTS[same],
    )


def _same(word: str, other: str) -> str:
    return "same" if word == other else "other"


def _completion(*steps: tuple[str, str], answer: str) -> tuple[str, str]:
    """(tagged completion, answer)."""
    tagged = [f"<{tag}> {text} </{tag}>" for tag, text in steps]
    return "\n".join(["<think>", *tagged, "</think>", answer]), answer
