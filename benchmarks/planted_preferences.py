"""Planted preferences: synthetic users whose tastes are known, so that a reward model can be checked against the truth.

Users are in four groups, two pairs of opposites. A question is about food or about paint; its two answers differ in
one word, of one flavour or the other, or of one colour or the other:

    group   food     paint
      0     sweet    warm
      1     salty    cold
      2     sweet    cold
      3     salty    warm

On every question half of the users prefer either answer: the text says nothing about which one is preferred, only the
user does. Everything else in the token ids is noise. No language, no real data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from tagpr.prmu.data import Pair
from tagpr.prmu.score import PRMU

QUESTIONS = (10, 11)  # food, paint
WORDS = (((20, 21, 22, 23), (30, 31, 32, 33)), ((40, 41, 42, 43), (50, 51, 52, 53)))  # sweet, salty; warm, cold
NOISE = (100, 500)


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
            about = random.randrange(2)
            liked = random.choice(WORDS[about][_taste(group, about)])
            histories[user].append([QUESTIONS[about], liked, *_noise(random, 2)])
        splits = ["train"] * train_pairs + ["seen"] * heldout_pairs if number < users else ["unseen"] * heldout_pairs
        for index, split in enumerate(splits):
            about = random.randrange(2)
            prompt = (*_noise(random, 2), QUESTIONS[about], *_noise(random, 2))
            answers = [(*_noise(random, 2), random.choice(words), *_noise(random, 1)) for words in WORDS[about]]
            taste = _taste(group, about)
            chosen, rejected = answers[taste], answers[1 - taste]
            pairs.append(Pair("PQP", split, f"{user}-{index}", user, "planted", prompt, chosen, rejected, items))
    return World(pairs, histories)


def _taste(group: int, about: int) -> int:
    """Which of the two kinds of words the group prefers on food (0) or paint (1)."""
    return group % 2 if about == 0 else (0, 1, 1, 0)[group]


def _noise(random: Random, count: int) -> list[int]:
    return [random.randrange(*NOISE) for _ in range(count)]


def margins(prmu: PRMU, pairs: Sequence[Pair]) -> np.ndarray:
    """f(x+) - f(x-) of each pair, [pairs], each with its own user."""
    users, prompts = [pair.user_id for pair in pairs], [pair.prompt_ids for pair in pairs]
    completions = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    chosen, rejected = prmu.logits(users * 2, prompts * 2, completions).chunk(2)
    return (chosen - rejected).numpy()
