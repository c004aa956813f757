"""Planted tastes of three kinds, and which way of knowing users finds which: `benchmarks/results/planted-pairs.json`.

A question is about one of eight topics; its two answers differ in one word, of one side of the topic or the other. A
user has a taste on every topic, which side of it is liked, made in one of three ways:

    basis         the sign of w_u . v_topic, with w_u and v_topic of rank 3
    prototypes    one of three fixed lists of tastes, whose owner the user is; of two owners who have a taste on a
                  topic one likes either side, the third is never asked about it
    independent   every topic by itself, by lot

The text never says which answer is preferred: over all users either side is liked about as often. People err: of the
pairs that are learned from, trained or fitted, 15% stand the wrong way round; judged pairs do not. Users seen in
training are judged on other pairs of theirs, new users after `fit_user` on 0, 1, 3 and 9 pairs. The options that enter
at the head read a random two-layer backbone that is frozen whole; soft-token would train it. No language, no real data.

    python benchmarks/planted_pairs.py        # one thread, about fifteen minutes; resumable
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from random import Random

import numpy as np
import torch

from results_file import write_results
from tagpr.engine.tiny import build_tiny_model
from tagpr.prmu.data import Pair
from tagpr.prmu.diagnose import ordered_right
from tagpr.prmu.few_shot import SHOTS, few_shot, margins
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.trainer import train_prmu
from tagpr.progress import StageContext
from tagpr.statistics import Bootstrap, mean_interval, paired_bootstrap

WORLDS = ("basis", "prototypes", "independent")
OPTIONS = ("none", "mlp-head", "basis", "prototypes")
OWN = {"basis": ("basis",), "prototypes": ("prototypes",), "independent": ("soft-token", "mlp-head")}
"""The options that are made for a world: those with a vector of each user's own for the independent one. soft-token
trains the backbone, which takes minutes, and is measured only if `--options` names it."""
TOPICS, RANK = 8, 3
SIDE_WORDS = 2  # words a side of a topic has
NOISE = (200, 216)
ERRORS = 0.15  # share of the pairs to learn from that stand the wrong way round
RATES = {"learning_rate": 2e-3, "head_learning_rate": 1e-2, "user_learning_rate": 5e-2}


def tastes(world: str, users: int, seed: int) -> np.ndarray:
    """[users, TOPICS] of 0 or 1, the side of each topic that each user likes; -1 where the user has no taste."""
    random = np.random.default_rng(seed)
    if world == "basis":
        topics = random.normal(size=(RANK, TOPICS))
        liked = random.normal(size=(users, RANK)) @ topics
    elif world == "prototypes":
        owners = random.permutation(np.arange(users) % 3)
        liked = np.sign(random.permuted(np.tile([[1.0], [-1.0], [0.0]], (1, TOPICS)), axis=0))
        return np.where(liked == 0, -1, liked > 0).astype(int)[owners]
    else:
        liked = random.normal(size=(users, TOPICS))
    return (liked > 0).astype(int)


def planted_pairs(world: str, users: int, unseen: int, train: int, heldout: int, seed: int) -> list[Pair]:
    """`train` + `heldout` pairs of each of `users` users, and max(SHOTS) + `heldout` of each of `unseen` others."""
    random, liked = Random(f"{world}-{seed}"), tastes(world, users + unseen, seed)
    pairs = []
    for number in range(users + unseen):
        user = f"user-{number:04d}"
        splits = ["train"] * train + ["seen"] * heldout if number < users else ["unseen"] * (max(SHOTS) + heldout)
        for index, split in enumerate(splits):
            topic = random.choice([topic for topic in range(TOPICS) if liked[number, topic] >= 0])
            side = int(liked[number, topic])
            learned = split == "train" or (split == "unseen" and index < max(SHOTS))
            if learned and random.random() < ERRORS:
                side = 1 - side
            answers = [(_word(random, topic, s),) for s in (side, 1 - side)]
            prompt = (random.randrange(*NOISE), 10 + topic, random.randrange(*NOISE))
            pairs.append(Pair("PQP", split, f"{user}-{index}", user, world, prompt, *answers))
    return pairs


def _word(random: Random, topic: int, side: int) -> int:
    return 30 + (topic * 2 + side) * SIDE_WORDS + random.randrange(SIDE_WORDS)


def trained(backbone: Path, out: Path, pairs: list[Pair], option: str, epochs: float, seed: int) -> PRMU:
    """A PRMU trained on the pairs of split `train`; basis and prototypes have the size of the planted truth."""
    settings = PRMUSettings.model_validate(
        {"user_option": option, "basis_rank": RANK, "prototypes": 3, "user_dropout": 0.1, "epochs": epochs}
        | {"frozen_layers": 0 if option == "soft-token" else 2, **RATES}
        | {"batch_size": 64, "micro_batch_size": 64, "save_steps": 100_000}
    )
    train_prmu(backbone, pairs, settings, StageContext(out, seed=seed))
    return PRMU.from_pretrained(out / "model", dtype="float32")


def measure(world: str, option: str, size: tuple[int, int, int, int], epochs: float, seed: int) -> dict:
    """Right pairs of one option in one world: of seen users, and of new ones by the number of pairs fitted on."""
    pairs = planted_pairs(world, *size, seed)
    seen = [pair for pair in pairs if pair.split == "seen"]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tiny = build_tiny_model(Path(folder) / "tiny")
        prmu = trained(tiny, Path(folder) / option, pairs, option, epochs, seed)
        seconds = time.perf_counter() - started
        judged = {"seen": (seen, margins(prmu, seen))}
        judged |= {f"fitted on {shots}": found for shots, found in few_shot(prmu, pairs).items()}
    right = {group: ordered_right(values) for group, (_, values) in judged.items()}
    users = {group: [pair.user_id for pair in members] for group, (members, _) in judged.items()}
    rows = {group: values.tolist() for group, values in right.items()}
    return {"right": rows, "users": users, "training_seconds": round(seconds, 1)}


def summary(found: dict[str, dict], world: str, seed: int) -> dict:
    """Shares with intervals over users, and how far the world's own options are ahead of each other option."""
    table = {}
    for option, one in found.items():
        table[option] = {"training_seconds": one["training_seconds"]}
        for group, right in one["right"].items():
            mean = mean_interval(right, one["users"][group], Bootstrap(2000, seed))
            table[option][group] = {"mean": mean.mean, "low": mean.low, "high": mean.high, "pairs": len(right)}
    ahead = {}
    for own in (name for name in OWN[world] if name in found):
        for other in (name for name in found if name not in OWN[world]):
            for group in set(found[own]["right"]) & set(found[other]["right"]):
                own_right, other_right = found[own]["right"][group], found[other]["right"][group]
                gain = paired_bootstrap(own_right, other_right, found[own]["users"][group], Bootstrap(2000, seed))
                ahead.setdefault(f"{own} - {other}", {})[group] = [gain.mean, gain.low, gain.high]
    return {"options": table, "ahead": ahead}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a quick trial; writes no results file")
    parser.add_argument("--worlds", nargs="+", default=WORLDS, choices=WORLDS)
    parser.add_argument("--options", nargs="+", default=OPTIONS, choices=(*OPTIONS, "soft-token"))
    parser.add_argument("--epochs", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", type=Path, default=Path("planted-parts"), help="one file per world and option")
    args = parser.parse_args()
    torch.set_num_threads(1)
    users, unseen, train, heldout = size = (40, 8, 24, 8) if args.small else (200, 40, 24, 16)
    figures: dict[str, object] = {
        "users": users, "unseen_users": unseen, "training_pairs_per_user": train, "heldout_pairs_per_user": heldout,
        "epochs": args.epochs, "seed": args.seed, "rank": RANK, "prototypes": 3, "topics": TOPICS, "errors": ERRORS,
    }  # fmt: skip
    args.parts.mkdir(exist_ok=True)
    for world in args.worlds:
        for option in args.options:
            part = args.parts / f"{world}-{option}{'-small' * args.small}.json"
            if not part.is_file():
                part.write_text(json.dumps(measure(world, option, size, args.epochs, args.seed)))
            one = json.loads(part.read_text())
            shares = {group: round(float(np.mean(right)), 3) for group, right in one["right"].items()}
            print(world, option, shares, one["training_seconds"], flush=True)
    if not args.small:
        write_parts(args.parts, figures, args.seed)


def write_parts(folder: Path, figures: dict[str, object], seed: int) -> None:
    """The results file of all parts that are there; it says which are missing."""
    missing = []
    for world in WORLDS:
        measured = {option: folder / f"{world}-{option}.json" for option in (*OPTIONS, "soft-token")}
        missing += [f"{world}: {option}" for option in OPTIONS if not measured[option].is_file()]
        found = {option: json.loads(part.read_text()) for option, part in measured.items() if part.is_file()}
        if found:
            figures[world] = summary(found, world, seed)
    write_results("planted-pairs", "python benchmarks/planted_pairs.py", figures | {"not_measured_yet": missing})


if __name__ == "__main__":
    main()
