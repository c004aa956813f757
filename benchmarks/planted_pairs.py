"""Which way of knowing users finds which planted tastes: `benchmarks/results/planted-pairs.json`.

Worlds and reasons are in `planted_worlds.py`. In each world every option learns 200 users; their held-out pairs and,
after `fit_user` on 0, 1, 3 and 9 pairs, those of new users are ordered. Settings are chosen for each option and world
by the held-out pairs of another seed, all from one grid; so were the worlds' sizes and epochs. The figures are of three
other seeds. The options that enter at the head read a random two-layer backbone that is frozen whole; soft-token
trains it, as it has to.

The basis has rank 3 and the prototypes are three in every world, which is what makes them low-rank: a basis of as many
functions as there are topics is a free vector of each user. It is the row `full-basis`, which is no option's own.

    python benchmarks/planted_pairs.py        # one thread; resumable, every training is a file in planted-parts/
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from planted_worlds import ERRORS, OWNERS, RANK, WORLDS, World, knowing_the_world, planted_pairs
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

FULL = "full-basis"  # user_option basis with one function per topic
OPTIONS = ("none", "soft-token", "mlp-head", "basis", "prototypes", FULL)
GRID = ((2e-2, 1e-2), (5e-2, 3e-3), (1e-1, 3e-3), (1e-1, 1e-2))
"""Learning rates of the users' vectors and of the head; the backbone's is the same for all."""
BACKBONE_RATE = 2e-3
TUNING_SEED, SEEDS = 100, (0, 1, 2)
USERS, UNSEEN, HELDOUT = 200, 24, 16


def trained(
    pairs: Sequence[Pair], world: World, option: str, setting: tuple[float, float], seed: int, folder: Path
) -> PRMU:
    """A PRMU trained on the pairs of split `train`, with `setting` of the grid."""
    user_rate, head_rate = setting
    settings = PRMUSettings.model_validate(
        {"user_option": "basis" if option == FULL else option, "basis_rank": world.topics if option == FULL else RANK}
        | {"prototypes": OWNERS, "user_dropout": 0.1, "epochs": world.epochs, "user_learning_rate": user_rate}
        | {"learning_rate": BACKBONE_RATE, "head_learning_rate": head_rate}
        | {"frozen_layers": 0 if option == "soft-token" else 2, "batch_size": 64, "micro_batch_size": 64}
        | {"save_steps": 100_000}
    )
    tiny = build_tiny_model(folder / "tiny")
    train_prmu(tiny, pairs, settings, StageContext(folder / "out", seed=seed))
    return PRMU.from_pretrained(folder / "out" / "model", dtype="float32")


def tune(world: World, option: str, users: int) -> list[dict[str, float]]:
    """Share of held-out pairs of the tuning seed that each setting of the grid orders right."""
    pairs = planted_pairs(world, users, 0, HELDOUT, TUNING_SEED)
    seen = [pair for pair in pairs if pair.split == "seen"]
    found = []
    for user_rate, head_rate in GRID[:1] if option == "none" else GRID:
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            prmu = trained(pairs, world, option, (user_rate, head_rate), TUNING_SEED, Path(folder))
        right = float(ordered_right(margins(prmu, seen)).mean())
        seconds = round(time.process_time() - started, 1)
        rates = {"user_learning_rate": user_rate, "head_learning_rate": head_rate}
        found.append({**rates, "right": right, "cpu_seconds": seconds})
    return found


def measure(world: World, option: str, setting: tuple[float, float], users: int, seed: int) -> dict:
    """Right pairs of one option in one world: of seen users, and of new ones by the number of pairs fitted on."""
    pairs = planted_pairs(world, users, UNSEEN, HELDOUT, seed)
    seen = [pair for pair in pairs if pair.split == "seen"]
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        prmu = trained(pairs, world, option, setting, seed, Path(folder))
    judged = {"seen": (seen, margins(prmu, seen))}
    judged |= {f"fitted on {shots}": found for shots, found in few_shot(prmu, pairs).items()}
    rows = {group: ordered_right(values).tolist() for group, (_, values) in judged.items()}
    users_of = {group: [pair.user_id for pair in members] for group, (members, _) in judged.items()}
    return {"right": rows, "users": users_of, "cpu_seconds": round(time.process_time() - started, 1)}


def ceiling(world: World, users: int, seed: int) -> dict:
    """The same of `knowing_the_world`."""
    pairs = planted_pairs(world, users, UNSEEN, HELDOUT, seed)
    learned = [pair for pair in pairs if pair.split == "train"]
    judged = {"seen": (learned, [pair for pair in pairs if pair.split == "seen"])}
    own: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.split == "unseen":
            own.setdefault(pair.user_id, []).append(pair)
    later = [pair for found in own.values() for pair in found[max(SHOTS) :]]
    for shots in SHOTS:
        judged[f"fitted on {shots}"] = [pair for found in own.values() for pair in found[:shots]], later
    rows = {group: knowing_the_world(world, *given, seed).tolist() for group, given in judged.items()}
    return {"right": rows, "users": {group: [pair.user_id for pair in given[1]] for group, given in judged.items()}}


def pooled(parts: Sequence[dict]) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Group -> right pairs and their users, over the seeds; users of two seeds are two."""
    return {
        group: (
            np.concatenate([part["right"][group] for part in parts]),
            [user for part in parts for user in part["users"][group]],
        )
        for group in parts[0]["right"]
    }


def share(right: np.ndarray, users: Sequence[str]) -> dict[str, float]:
    """Mean, interval over users and counts."""
    found = mean_interval(right, users, Bootstrap(2000, 0))
    return {"mean": found.mean, "low": found.low, "high": found.high, "pairs": len(right), "users": len(set(users))}


def gain(right: np.ndarray, rival: np.ndarray, users: Sequence[str]) -> list[float]:
    """`right` minus `rival` on the same pairs: mean, low, high."""
    found = paired_bootstrap(right, rival, users, Bootstrap(2000, 0))
    return [found.mean, found.low, found.high]


def summary(world: World, parts: dict[str, list[dict]], tuned: dict[str, list[dict[str, float]]]) -> dict:
    """Every option's shares and settings, how far the world's own are ahead of the others, how far the curve rises."""
    found = {option: pooled(own) for option, own in parts.items()}
    table: dict[str, dict] = {}
    for option, groups in found.items():
        table[option] = {group: share(*values) for group, values in groups.items()}
        table[option]["seen by seed"] = [float(np.mean(part["right"]["seen"])) for part in parts[option]]
        if option in tuned:
            table[option]["setting"], table[option]["tried"] = chosen(tuned[option]), tuned[option]
            table[option]["cpu_seconds"] = [part["cpu_seconds"] for part in parts[option]]
        if f"fitted on {max(SHOTS)}" in groups:
            last, (first, users) = groups[f"fitted on {max(SHOTS)}"][0], groups["fitted on 0"]
            table[option]["rise from 0 to 9 pairs"] = gain(last, first, users)
    ahead: dict[str, list[float]] = {}
    for own in (name for name in world.own if name in found):
        for other in (name for name in found if name not in (*world.own, "ceiling", FULL)):
            ahead[f"{own} - {other}"] = gain(found[own]["seen"][0], found[other]["seen"][0], found[own]["seen"][1])
    facts = {"topics": world.topics, "pairs_per_user": world.pairs, "epochs": world.epochs, "own": world.own}
    return {**facts, "options": table, "ahead": ahead}


def chosen(tried: Sequence[dict[str, float]]) -> tuple[float, float]:
    """The setting of the grid that ordered most of the tuning seed's held-out pairs right, the first among equals."""
    best = max(tried, key=lambda one: one["right"])
    return best["user_learning_rate"], best["head_learning_rate"]


def kept(path: Path, make, *given: object):
    """What `make` gives of `given`, from the file if it has been made before."""
    if not path.is_file():
        path.write_text(json.dumps(make(*given)))
    return json.loads(path.read_text())


def run(world: World, options: Sequence[str], users: int, folder: Path, small: str) -> None:
    """Choose the settings of each option, and measure it on every seed; one file for each in `folder`."""
    for option in options:
        start = f"{folder}/{world.name}-{option}{small}"
        setting = chosen(kept(Path(f"{start}-tuned.json"), tune, world, option, users))
        parts = [kept(Path(f"{start}-{seed}.json"), measure, world, option, setting, users, seed) for seed in SEEDS]
        shares = [round(float(np.mean(part["right"]["seen"])), 3) for part in parts]
        print(world.name, option, setting, shares, flush=True)


def report(folder: Path, users: int) -> None:
    """The results file of all that is in `folder`; it says what is missing."""
    figures: dict[str, object] = {
        "users": users, "unseen_users_per_seed": UNSEEN, "heldout_pairs_per_user": HELDOUT, "errors": ERRORS,
        "rank": RANK, "prototypes": OWNERS, "tuning_seed": TUNING_SEED, "seeds": SEEDS,
    }  # fmt: skip
    missing = []
    for world in WORLDS.values():
        parts, tuned = {}, {}
        for option in OPTIONS:
            files = [folder / f"{world.name}-{option}-{part}.json" for part in ("tuned", *SEEDS)]
            if all(file.is_file() for file in files):
                tuned[option], *parts[option] = (json.loads(file.read_text()) for file in files)
            else:
                missing.append(f"{world.name}: {option}")
        parts["ceiling"] = [ceiling(world, users, seed) for seed in SEEDS]
        figures[world.name] = summary(world, parts, tuned)
    write_results("planted-pairs", "python benchmarks/planted_pairs.py", figures | {"not_measured": missing})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a quick trial with 40 users; writes no results file")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=WORLDS)
    parser.add_argument("--options", nargs="+", default=OPTIONS, choices=OPTIONS)
    parser.add_argument("--parts", type=Path, default=Path("planted-parts"), help="one file per training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    users, small = (40, "-small") if args.small else (USERS, "")
    args.parts.mkdir(exist_ok=True)
    for name in args.worlds:
        run(WORLDS[name], args.options, users, args.parts, small)
    if not args.small:
        report(args.parts, users)


if __name__ == "__main__":
    main()
