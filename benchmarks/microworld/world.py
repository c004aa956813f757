"""People, dishes and questions. Everybody has a usual flavour, colour and base and judges a dish by how many it has.

A person orders dishes, each word of which is their usual one more often than not. Of a new dish they say hate, dislike,
like or love: one of the four for none, one, two or all three usual words. So the dish alone tells nothing: one has to
find out from the orders what is usual for this person, and to count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tagpr.files import write_json

ASPECTS = (
    ("sweet", "sour", "salty", "bitter"),
    ("red", "green", "white", "black"),
    ("rice", "fish", "beans", "corn"),
)
VERDICTS = ("hate", "dislike", "like", "love")
USUAL = 0.7
"""How often a word of an ordered dish is the person's usual one."""
Dish = tuple[str, str, str]


@dataclass(frozen=True)
class Person:
    """One taste: the usual word of each aspect."""

    id: str
    usual: Dish
    rate: float = USUAL
    """How often a word of an order is the usual one."""

    def judge(self, dish: Dish) -> str:
        """The verdict on a dish."""
        return VERDICTS[sum(word == usual for word, usual in zip(dish, self.usual, strict=True))]

    def order(self, random: Random) -> Dish:
        """A dish that this person might have ordered."""
        return _dish(random, self.usual, [random.random() < self.rate for _ in ASPECTS])


@dataclass(frozen=True)
class Question:
    """A person, the dishes they ordered (oldest first) and one they are asked about."""

    id: str
    person: Person
    past: tuple[Dish, ...]
    dish: Dish

    @property
    def answer(self) -> str:
        return self.person.judge(self.dish)


def _dish(random: Random, usual: Dish, keep: Sequence[bool]) -> Dish:
    """A dish with the usual word where `keep` says so and any other one elsewhere."""
    flavour, colour, base = (
        word if kept else random.choice([other for other in words if other != word])
        for word, kept, words in zip(usual, keep, ASPECTS, strict=True)
    )
    return flavour, colour, base


def new_person(random: Random, name: str, rate: float = USUAL) -> Person:
    """A person by lot."""
    flavour, colour, base = (random.choice(words) for words in ASPECTS)
    return Person(name, (flavour, colour, base), rate)


def new_question(random: Random, name: str, person: Person, items: int) -> Question:
    """`items` orders, and a dish of which every verdict is equally likely."""
    usual = random.sample(range(3), random.randrange(4))
    past = tuple(person.order(random) for _ in range(items))
    return Question(name, person, past, _dish(random, person.usual, [aspect in usual for aspect in range(3)]))


@dataclass(frozen=True)
class Sizes:
    """How many people and questions there are."""

    people: int = 256
    """People of the training questions."""
    per_person: int = 6
    """Training questions a person."""
    seen: int = 256
    """Held-out questions of training people (one each, in turn)."""
    unseen_people: int = 128
    """People that no training question is about."""
    unseen: int = 256
    """Held-out questions of those."""
    items: int = 12
    """Past orders of a question."""
    shown: int = 8
    """How many of them, the latest, a prompt shows."""


def make_questions(seed: int, sizes: Sizes) -> tuple[list[Question], list[Question]]:
    """(training, held-out) questions; ids of people that are unseen in training start with `unseen`."""
    random = Random(f"microworld-{seed}")
    people = [new_person(random, f"person-{i:03d}") for i in range(sizes.people)]
    strangers = [new_person(random, f"unseen-{i:03d}") for i in range(sizes.unseen_people)]

    def ask(person: Person, number: int) -> Question:
        return new_question(random, f"{person.id}-{number}", person, sizes.items)

    train = [ask(person, i) for i in range(sizes.per_person) for person in people]
    heldout = [ask(people[i % len(people)], 100 + i // len(people)) for i in range(sizes.seen)]
    heldout += [ask(strangers[i % len(strangers)], i // len(strangers)) for i in range(sizes.unseen)]
    return train, heldout


def spell(dish: Dish) -> str:
    """`sweet red rice`."""
    return " ".join(dish)


def count(word: str, past: Sequence[Dish]) -> int:
    """How many of the dishes have the word."""
    return sum(word in dish for dish in past)


def write_lamp(folder: Path, split: str, questions: Sequence[Question]) -> None:
    """`SPLIT_questions.json` and `SPLIT_outputs.json` as LaMP writes them, with `user_id`."""
    rows = [
        {
            "id": question.id,
            "user_id": question.person.id,
            "input": spell(question.dish),
            "profile": [{"id": f"{question.id}-{i}", "dish": spell(dish)} for i, dish in enumerate(question.past)],
        }
        for question in questions
    ]
    golds = [{"id": question.id, "output": question.answer} for question in questions]
    write_json(folder / f"{split}_questions.json", rows)
    write_json(folder / f"{split}_outputs.json", {"task": "microworld", "golds": golds})
