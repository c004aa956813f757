"""Speed of readers, retrieval, metrics, store and prompts; `make bench-data`. Writes benchmarks/results/data.json.

    python benchmarks/bench_data.py            # about 4 minutes on one core, 4 GB of disk, under 2 GiB of memory
    python benchmarks/bench_data.py --small    # a minute's smoke test of all parts; writes nothing

Peers (rank_bm25, rouge-score) run on the same inputs in the same process. Times are medians of repeats where a repeat
is cheap. The store is built in a process of its own whose peak memory is read at its end.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from results_file import peak_gib, write_results
from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.data.bundled import bundled_items
from tagpr.profiles import ProfileSettings, choose
from tagpr.profiles.bm25 import BM25
from tagpr.profiles.store import ProfileStore
from tagpr.prompts import PromptSettings, build_prompt
from tagpr.tasks import Interaction
from tagpr.tasks.rouge import rouge

TAGS = ("analyze_input", "examine_examples", "identify_patterns", "make_decision", "verify_conclusion")


def seconds(call: Callable[[], Any], repeats: int = 3) -> float:
    """Median wall time of `call`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def readers(number: int) -> dict[str, float]:
    rows = [
        {
            "user_id": f"u{i // 20}",
            "input": f"some text of a few words {i}",
            "output": f"title {i}",
            "date": f"2024-01-{i % 28 + 1:02}",
        }
        for i in range(number)
    ]
    entry = {"text": "an article of some words", "title": "a headline", "date": "2024-01-01"}
    article = "Generate a headline for the following article: words and more words"
    records = [
        {"id": str(i), "user_id": str(i), "input": article, "profile": [{**entry, "id": str(j)} for j in range(20)]}
        for i in range(number // 20)
    ]
    golds = {"task": "LaMP_4", "golds": [{"id": record["id"], "output": "gold"} for record in records]}
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (out / "train_questions.json").write_text(json.dumps(records))
        (out / "train_outputs.json").write_text(json.dumps(golds))
        for name, task, path in (
            ("jsonl", "package-synopsis", "mine.jsonl"),
            ("lamp", "lamp-4", "train_questions.json"),
        ):
            settings = DataSettings(sources=(SourceSettings(task=task, path=path),))
            splits = load_splits(settings, 0, out)[task]
            examples = len(splits.train) + len(splits.heldout)
            spent = seconds(lambda settings=settings: load_splits(settings, 0, out))
            figures[f"read_{name}_examples_per_s"] = round(examples / spent)
    return figures


def bm25(queries: int) -> dict[str, float]:
    """500 real descriptions as one profile, every query another one."""
    from rank_bm25 import BM25Okapi

    texts = [item.input for item in bundled_items("package-synopsis")][: 500 + queries]
    documents, asked = texts[:500], texts[500:]
    oracle, ours = BM25Okapi([text.split() for text in documents]), BM25(documents)
    worst = max(float(abs(oracle.get_scores(query.split()) - ours.scores(query)).max()) for query in asked[:50])
    theirs_s = seconds(lambda: [oracle.get_top_n(query.split(), documents, n=8) for query in asked])
    ours_s = seconds(lambda: [ours.top(query, 8) for query in asked])
    build = seconds(lambda: BM25(documents))
    return {
        "bm25_speedup": round(theirs_s / ours_s, 1),
        "bm25_ms_per_query": round(1000 * ours_s / len(asked), 4),
        "rank_bm25_ms_per_query": round(1000 * theirs_s / len(asked), 4),
        "bm25_build_ms": round(1000 * build, 2),
        "rank_bm25_build_ms": round(1000 * seconds(lambda: BM25Okapi([t.split() for t in documents])), 2),
        "bm25_largest_difference": worst,
    }


def rouge_pairs(number: int) -> list[tuple[str, str]]:
    """Real pairs: descriptions against synopses, and descriptions against descriptions of the same maintainer."""
    rng = random.Random(0)
    long, short = bundled_items("package-synopsis"), bundled_items("package-section")
    pairs = [(item.input, item.output) for item in long]
    while len(pairs) < number:
        first, second = rng.choice(long), rng.choice(long)
        pairs.append((first.input, second.input) if rng.random() < 0.5 else (first.input, rng.choice(short).input))
    return pairs[:number]


def rouge_speed(number: int) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    pairs = rouge_pairs(number)
    scorer = RougeScorer(["rouge1", "rougeL"])
    theirs: list[tuple[float, float]] = []

    def score_theirs() -> None:
        for prediction, reference in pairs:
            scores = scorer.score(reference, prediction)
            theirs.append((scores["rouge1"].fmeasure, scores["rougeL"].fmeasure))

    theirs_s = seconds(score_theirs, 1)
    ours: list[tuple[float, float]] = []
    start = time.perf_counter()  # once, so that no reference is remembered from an earlier round
    ours = [rouge(prediction, reference) for prediction, reference in pairs]
    ours_s = time.perf_counter() - start
    worst = max(abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True))
    return {
        "rouge_pairs": len(pairs),
        "rouge_speedup": round(theirs_s / ours_s, 1),
        "rouge_us_per_pair": round(1e6 * ours_s / len(pairs), 2),
        "rouge_score_us_per_pair": round(1e6 * theirs_s / len(pairs), 2),
        "rouge_largest_difference": worst,
    }


def build_store(folder: Path, users: int, items: int) -> None:
    """Runs in its own process: build, then print peak memory and seconds."""
    rng = random.Random(0)
    words = [item.input for item in bundled_items("package-section")]

    def rows() -> Any:
        for user in range(users):
            for i in range(items):
                fields = {"synopsis": rng.choice(words), "section": "libs"}
                yield f"user-{user:07}", Interaction(str(i), fields, f"2024-01-{i + 1:02}")

    start = time.perf_counter()
    ProfileStore(folder).append(rows())
    spent = time.perf_counter() - start
    print(json.dumps({"seconds": spent, "gib": peak_gib()}))


def store(users: int, items: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--build-store", folder, "--users", str(users), "--items", str(items)]
        built = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        opened = ProfileStore(Path(folder))
        rng = random.Random(1)
        times = []
        for _ in range(2000):
            user = f"user-{rng.randrange(users):07}"
            start = time.perf_counter()
            found = opened.get(user)
            times.append(time.perf_counter() - start)
            if len(found) != items:
                sys.exit(f"store: {user} has {len(found)} items, {items} were stored")
    return {
        "store_users": users,
        "store_items_per_user": items,
        "store_build_gib": round(built["gib"], 3),
        "store_build_s": round(built["seconds"], 1),
        "store_disk_gib": round(size / 2**30, 3),
        "store_lookup_ms": round(1000 * median(times), 4),
        "store_lookup_p99_ms": round(1000 * sorted(times)[int(0.99 * len(times))], 4),
    }


def prompts(number: int) -> dict[str, float]:
    splits = load_splits(DataSettings(), 0, Path())["package-section"]
    examples = splits.train[:number]
    profile = ProfileSettings(retriever="bm25", k=8)

    def make() -> None:
        for example in examples:
            entries = choose(splits.task, example, profile, 0)
            build_prompt(splits.task, example, entries, PromptSettings(), lambda text: len(text) // 4, TAGS)

    return {"prompts_per_s": round(len(examples) / seconds(make))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="smoke test; writes no results file")
    parser.add_argument("--build-store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.build_store:
        build_store(arguments.build_store, arguments.users, arguments.items)
        return
    small = arguments.small
    figures: dict[str, float] = {}
    figures |= readers(2000 if small else 40_000)
    figures |= bm25(50 if small else 500)
    figures |= rouge_speed(500 if small else 10_000)
    figures |= prompts(200 if small else 2000)
    figures |= store(2000 if small else arguments.users, arguments.items)
    width = max(map(len, figures))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in figures.items()))
    if not small:
        write_results("data", "python benchmarks/bench_data.py", figures)


if __name__ == "__main__":
    main()
