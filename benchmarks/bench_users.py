"""Peak memory of data, prompts and evaluate by number of users: a file of interactions, a tiny model, cut answers.

    make bench-users                                  -> benchmarks/results/memory-users.json, 14 minutes of one core
    python benchmarks/bench_users.py --users 1000     # a smoke run; writes nothing

Three dated interactions per user (one example to train on, one held out). Each part is a process of its own: `data`
makes the stage, `prompts` builds and tokenises the prompt of every example, `evaluate` answers every held-out question
with Base (4 new tokens), runs the trivial baselines, scores and writes everything.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from results_file import write_results

USERS = (1_000, 100_000)
TEMPLATES = {
    "system.jinja": "{{ task.instruction }}",
    "user.jinja": "{% for entry in entries %}{{ entry }}\n{% endfor %}{{ question }}",
}
"""Short prompts, of some 200 tokens: they take time, and the same memory for any number of users."""
WORDS = [f"{a}{b}" for a in ("river", "stone", "lamp", "paper") for b in ("", "s", "let", "like")]
CARD = """
name: songs
kind: label
description: made up
source: made up
instruction: Choose the mood under which this user would file the song.
question: "Song: {{ text }}"
entry: "Song: {{ text }} -> {{ output }}"
input_fields: [text]
output_field: output
labels: [calm, loud, sad]
metrics: [accuracy, f1]
query: "{{ text }}"
"""


def write_inputs(folder: Path, users: int) -> Path:
    """A recipe of that many users; returns its path."""
    from tagpr.engine.tiny import build_tiny_model

    rng = random.Random(0)
    folder.mkdir(parents=True)
    (folder / "songs.yaml").write_text(CARD)
    with open(folder / "songs.jsonl", "w") as stream:
        for user in range(users):
            for day in range(3):
                row = {
                    "user_id": f"user-{user}",
                    "input": f"{' '.join(rng.choices(WORDS, k=12))} {user} {day}",
                    "output": rng.choice(["calm", "loud", "sad"]),
                    "date": f"2024-01-0{day + 1}",
                }
                stream.write(json.dumps(row) + "\n")
    (folder / "templates").mkdir()
    for name, text in TEMPLATES.items():
        (folder / "templates" / name).write_text(text)
    model = build_tiny_model(folder / "model")
    recipe = folder / "songs-run.yaml"
    recipe.write_text(
        f"name: songs-run\nmodel: {model}\ndata:\n  sources: [{{task: songs.yaml, path: songs.jsonl}}]\n"
        "profile: {retriever: recency, k: 2}\nprompt: {templates: templates}\n"
        "evaluate: {max_new_tokens: 4, resamples: 1000}\n"
    )
    return recipe


def data(recipe: Path) -> None:
    """The data stage."""
    from tagpr.pipeline import make
    from tagpr.runs import Run

    make(Run.open(recipe, runs=recipe.parent / "runs"), "data")


def prompts(recipe: Path) -> None:
    """Every prompt in token ids."""
    from tagpr.runs import Run

    run = Run.open(recipe, runs=recipe.parent / "runs")
    for splits in run.data.values():
        for part in (splits.train, splits.heldout):
            for example in part:
                run.prompts.ids(splits.task, example)


def evaluate(recipe: Path) -> None:
    """Base's answers and scores."""
    from tagpr.evaluation.evaluate import evaluate_systems
    from tagpr.runs import Run

    run = Run.open(recipe, runs=recipe.parent / "runs")
    context = replace(run.context(), folder=recipe.parent / "evaluated")
    evaluate_systems({"base": run.model}, run.data, context, run.recipe.evaluate)


PARTS: dict[str, Callable[[Path], None]] = {"data": data, "prompts": prompts, "evaluate": evaluate}


def peak_mib(part: str, recipe: Path) -> float:
    """The peak of one part's process."""
    command = [sys.executable, __file__, "--part", part, "--recipe", str(recipe)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return round(json.loads(done.stdout.splitlines()[-1]), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", help="instead of 1,000 and 100,000; nothing is written")
    parser.add_argument("--part", choices=PARTS, help="a worker's: what it does")
    parser.add_argument("--recipe", type=Path, help="a worker's")
    given = parser.parse_args()
    if given.part:
        PARTS[given.part](given.recipe)
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
        return
    peaks: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for users in given.users or USERS:
        with tempfile.TemporaryDirectory() as folder:
            recipe = write_inputs(Path(folder) / "songs", users)
            for part, own in peaks.items():  # `data` first: the others read what it made
                own[f"{users:,} users"] = peak_mib(part, recipe)
                print(part, users, own[f"{users:,} users"], flush=True)
    print(json.dumps(growth(peaks), indent=1))
    if not given.users:
        write_results("memory-users", "make bench-users", {"peak_mib": peaks, "growth": growth(peaks)})


def growth(peaks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The largest peak of each part over its smallest, less one."""
    return {part: round(max(own.values()) / min(own.values()) - 1, 3) for part, own in peaks.items() if own}


if __name__ == "__main__":
    main()
