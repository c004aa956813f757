"""Rewards are never what a step waits for: a generous floor under what `make bench-rewards` measures."""

import random
import time

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.rewards.composite import CompositeReward
from tagpr.tasks.cards import load_task


def test_two_thousand_a_second_with_rouge():
    vocabulary, rng = load_vocabulary(None), random.Random(0)
    words = [f"w{i}" for i in range(2000)]

    def completion():
        steps = [f"<{tag}> {' '.join(rng.choices(words, k=34))} </{tag}>" for tag in vocabulary.names[:8]]
        return "<think>\n" + "\n".join(steps) + "\n</think>\n" + " ".join(rng.choices(words, k=12))

    texts = [completion() for _ in range(500)]
    reward = CompositeReward({"lamp-5": load_task("lamp-5")}, vocabulary)
    references = [" ".join(rng.choices(words, k=12)) for _ in texts]
    begun = time.process_time()
    rows = reward.components(texts, ["lamp-5"] * 500, references)
    assert 500 / (time.process_time() - begun) > 2000
    assert all(row.format == 1 and row.tag == 0 for row in rows)
