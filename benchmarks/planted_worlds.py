"""Three worlds of planted tastes, in which pairs of answers tell users apart and the text alone tells nothing.

A question names one of a world's topics; its two answers are one word each, of one side of the topic or the other. A
user has a taste on a topic, which side is liked, made in one of three ways:

    basis         the sign of w_u . v_topic, both of rank 3. 24 topics and 24 pairs of a user: a user is never asked
                  about a third of the topics, whose tastes can be known only through what all users share.
    prototypes    one of three fixed lists of tastes, whose owner the user is; on each of 24 topics one owner likes
                  either side and the third has no taste and is never asked. 8 pairs of a user are enough to tell whose
                  list it is, but few to place a user freely.
    independent   every topic by itself, by lot. 8 topics and 32 pairs of a user, about four a topic: each taste has to
                  be learned by itself, and three numbers of a user cannot hold eight of them.

Over all users either side of a topic is liked about as often. People err: of the pairs that are learned from, trained
or fitted, 15% stand the wrong way round; judged pairs do not. Everybody is asked the same few questions: what is held
out is not a text but what a user says to it. No language, no real data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from tagpr.prmu.data import Pair
from tagpr.prmu.few_shot import SHOTS

RANK, OWNERS = 3, 3
ERRORS = 0.15
"""Share of the pairs to learn from that stand the wrong way round."""
DRAWS = 20_000
"""Users drawn to know what a new user of the basis world may like."""
_TOPIC, _WORD = 10, 40  # first token ids of the topics' names and of the answers' words


@dataclass(frozen=True)
class World:
    """How many topics there are, how many pairs of a user are learned from, how often, and whose world it is."""

    name: str
    topics: int
    pairs: int
    epochs: int
    own: tuple[str, ...]  # the options that are made for it


WORLDS = {
    world.name: world
    for world in (
        World("basis", 24, 24, 30, ("basis",)),
        World("prototypes", 24, 8, 30, ("prototypes",)),
        World("independent", 8, 32, 12, ("soft-token", "mlp-head")),
    )
}
"""`own` of the independent world: the options whose vector of a user is free, not a weight of a few shared things."""


def possible_tastes(world: World, count: int, seed: int) -> np.ndarray:
    """[count, topics] of 0 or 1, the sides that users of this world like; -1 where there is no taste. The prototypes'
    own lists if `count` is `OWNERS`.
    """
    random = np.random.default_rng(seed)
    if world.name == "basis":
        topics = random.normal(size=(RANK, world.topics))
        return (random.normal(size=(count, RANK)) @ topics > 0).astype(int)
    if world.name == "prototypes":
        lists = random.permuted(np.tile([[1], [0], [-1]], (1, world.topics)), axis=0)
        return lists[np.arange(count) % OWNERS]
    return random.integers(0, 2, size=(count, world.topics))


def planted_pairs(world: World, users: int, unseen: int, heldout: int, seed: int) -> list[Pair]:
    """`world.pairs` to learn from + `heldout` of each of `users` users, max(SHOTS) + `heldout` of `unseen` others."""
    random, liked = Random(f"{world.name}-{seed}"), possible_tastes(world, users + unseen, seed)
    pairs = []
    for number in range(users + unseen):
        user, learned = f"user-{seed}-{number:04d}", world.pairs if number < users else max(SHOTS)
        topics = [topic for topic in range(world.topics) if liked[number, topic] >= 0]
        for index in range(learned + heldout):
            split = "unseen" if number >= users else "train" if index < learned else "seen"
            topic = random.choice(topics)
            side = int(liked[number, topic])
            if index < learned and random.random() < ERRORS:
                side = 1 - side
            answers = [(_WORD + 2 * topic + one,) for one in (side, 1 - side)]
            pairs.append(Pair("PQP", split, f"{user}-{index}", user, world.name, (_TOPIC + topic,), *answers))
    return pairs


def knowing_the_world(world: World, learned: Sequence[Pair], judged: Sequence[Pair], seed: int) -> np.ndarray:
    """1 (right), 0 or 0.5 (a guess) for each judged pair, by whoever knows how the world's tastes are made, all but
    whose they are: the most that these pairs can teach. [judged].
    """
    own: dict[str, list[tuple[int, int]]] = {}
    for pair in learned:
        own.setdefault(pair.user_id, []).append(_topic_and_side(pair))
    draws = OWNERS if world.name == "prototypes" else DRAWS
    candidates = None if world.name == "independent" else possible_tastes(world, draws, seed)
    sides = {user: _liked(world, own.get(user, []), candidates) for user in {pair.user_id for pair in judged}}
    found = []
    for pair in judged:
        topic, side = _topic_and_side(pair)
        found.append((np.sign(sides[pair.user_id][topic]) * (1 if side else -1) + 1) / 2)
    return np.array(found)


def _liked(world: World, said: Sequence[tuple[int, int]], candidates: np.ndarray | None) -> np.ndarray:
    """[topics], above 0 where the user more likely likes side 1."""
    if candidates is None:
        counts = np.zeros(world.topics)
        for topic, side in said:
            counts[topic] += 1 if side else -1
        return counts
    agree = sum((candidates[:, topic] == side).astype(float) for topic, side in said) + np.zeros(len(candidates))
    against = sum((candidates[:, topic] == 1 - side).astype(float) for topic, side in said)
    weights = (1 - ERRORS) ** agree * ERRORS**against
    weights *= np.prod([candidates[:, topic] >= 0 for topic, _ in said], axis=0) if said else 1  # never asked
    votes = np.where(candidates == 1, 1.0, np.where(candidates == 0, -1.0, 0.0))
    return (weights / weights.sum()) @ votes


def _topic_and_side(pair: Pair) -> tuple[int, int]:
    topic = pair.prompt_ids[0] - _TOPIC
    return topic, pair.chosen_ids[0] - _WORD - 2 * topic
