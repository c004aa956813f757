"""Rewards of completions a second on one core; `make bench-rewards`. Writes benchmarks/results/rewards.json.

Completions of 8 tagged steps and 307 words and tags, so of more than 300 tokens with any tokenizer. Two tasks: an
exact label (parsing, R_f, R_tag, R_rep and a comparison) and a title of 12 words (ROUGE besides). CPU time of the
process, the median of repeats.
"""

import random
import time
from statistics import median

from results_file import write_results
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.rewards.composite import CompositeReward
from tagpr.tasks.cards import load_task

COMPLETIONS, REPEATS, WORDS = 2000, 7, 36


def completions(rng: random.Random, answers: list[str]) -> list[str]:
    """One valid tagged completion an answer."""
    words, tags = [f"w{i}" for i in range(2000)], load_vocabulary(None).names[:8]
    chains = ("\n".join(f"<{tag}> {' '.join(rng.choices(words, k=WORDS))} </{tag}>" for tag in tags) for _ in answers)
    return [f"<think>\n{chain}\n</think>\n{answer}" for chain, answer in zip(chains, answers, strict=True)]


def per_second(task: str, answers: list[str], references: list[str]) -> float:
    """Completions whose five components are computed in a second of CPU time."""
    reward = CompositeReward({task: load_task(task)}, load_vocabulary(None))
    texts, seconds = completions(random.Random(0), answers), []
    for _ in range(REPEATS):
        begun = time.process_time()
        rows = reward.components(texts, [task] * len(texts), references)
        seconds.append(time.process_time() - begun)
    assert all(row.format == 1 for row in rows)
    return round(len(texts) / median(seconds))


def main() -> None:
    rng = random.Random(1)
    words = [f"w{i}" for i in range(2000)]
    titles = [[" ".join(rng.choices(words, k=12)) for _ in range(COMPLETIONS)] for _ in range(2)]
    labels = [[rng.choice(load_task("lamp-2").labels) for _ in range(COMPLETIONS)] for _ in range(2)]
    figures = {
        "completions": COMPLETIONS,
        "words_and_tags_a_completion": len(completions(rng, ["x"])[0].split()),
        "per_second_exact": per_second("lamp-2", *labels),
        "per_second_rouge": per_second("lamp-5", *titles),
    }
    print(figures)
    print(write_results("rewards", "make bench-rewards", figures))


if __name__ == "__main__":
    main()
