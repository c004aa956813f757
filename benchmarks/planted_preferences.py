"""Planted preferences: synthetic users whose tastes are known, so that a reward model can be checked against the truth.

Four groups of users, two pairs of opposites. A question has a topic, each of its two answers one of two flavours:

    group   topics A, B   topics C, D
      0       sweet          sweet
      1       salty          salty
      2       sweet          salty
      3       salty          sweet

On every topic half of the users prefer either flavour: the text says nothing about which answer is preferred, only the
user does. Everything else in the token ids is noise. No language, no real data.
"""

from dataclasses import dataclass
from random import Random

from tagpr.prmu.pairs import Pair

TOPICS, SWEET, SALTY, NOISE = (10, 11, 12, 13), (20, 21, 22, 23), (30, 31, 32, 33), (100, 500)


@dataclass(frozen=True)
class World:
    """Pairs by split (train, seen, unseen), and each user's past items as token ids."""

    pairs: list[Pair]
    histories: dict[str, list[list[int]]]


def planted_world(users: int, unseen: int, train_pairs: int, heldout_pairs: int, seed: int, items: int = 8) -> World:
    """`users` training users with `train_pairs` + `heldout_pairs` pairs each, `unseen` ones with `heldout_pairs`."""
    random = Random(f"planted-{seed}")
    pairs, histories = [], {}
    for number in range(users + unseen):
        user, group = f"user-{number:04d}", number % 4
        histories[user] = []
        for _ in range(items):
            topic = random.choice(TOPICS)
            liked = random.choice(SWEET if _likes_sweet(group, topic) else SALTY)
            histories[user].append([topic, liked, *_noise(random, 2)])
        splits = ["train"] * train_pairs + ["seen"] * heldout_pairs if number < users else ["unseen"] * heldout_pairs
        for index, split in enumerate(splits):
            topic = random.choice(TOPICS)
            prompt = (*_noise(random, 2), topic, *_noise(random, 2))
            sweet, salty = ((*_noise(random, 2), random.choice(kind), *_noise(random, 1)) for kind in (SWEET, SALTY))
            chosen, rejected = (sweet, salty) if _likes_sweet(group, topic) else (salty, sweet)
            pairs.append(
                Pair("PQP", split, f"{user}-{index}", user, "planted", prompt, chosen, rejected, 1.0, 0.0, items)
            )
    return World(pairs, histories)


def _likes_sweet(group: int, topic: int) -> bool:
    return (group in (0, 2)) if topic in TOPICS[:2] else (group in (0, 3))


def _noise(random: Random, count: int) -> list[int]:
    return [random.randrange(*NOISE) for _ in range(count)]
